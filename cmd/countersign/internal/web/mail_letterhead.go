package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

// mostPicture is how much of a picture is read to answer that it is too large.
const mostPicture = 16 << 20

// letterhead is what pages say about the agency, as its mails do. Where it cannot be read soon they say what
// the settings do: an error page must not wait for the database that it is about.
func (s *Server) letterhead(ctx context.Context) templates.Letterhead {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	l, err := s.Stationery.Letterhead(ctx)
	if err != nil {
		s.Log.WarnContext(ctx, "pages do without the agency's letterhead", "err", err)
		return s.Stationery.Settings
	}
	return l
}

// shownOn is the mail that shows how the letterhead looks.
func shownOn(l templates.Letterhead) templates.TextKey {
	return templates.TextKey{Kind: templates.LetterInvitation, Language: templates.ChooseLanguage(l.Language, "")}
}

// letterheadFields are what an operator types.
func letterheadFields() []string {
	return []string{"agency", "colour", "postal_address", "support", "phrase", "language"}
}

// typedLetterhead is a letterhead with the fields of a form in place of its own.
func typedLetterhead(l templates.Letterhead, typed func(string) string) templates.Letterhead {
	line := func(field string) string { return strings.TrimSpace(typed(field)) }
	l.Agency, l.Support, l.Phrase = line("agency"), line("support"), line("phrase")
	l.PostalAddress = typedAddress(typed("postal_address"))
	// These fields are never empty: what they begin with is no choice.
	if colour := line("colour"); colour != (templates.LetterheadPage{}).Colour() || l.Colour != "" {
		l.Colour = colour
	}
	if language := line("language"); language != shownOn(templates.Letterhead{}).Language || l.Language != "" {
		l.Language = language
	}
	return l
}

// typedAddress is a postal address with the ends of lines that it is kept with.
func typedAddress(typed string) string {
	return strings.TrimSpace(strings.ReplaceAll(typed, "\r\n", "\n"))
}

// seenLetterhead names a letterhead as seen does.
func seenLetterhead(l templates.Letterhead) string {
	l.LogoURL = "" // It has a form of its own.
	content, _ := json.Marshal(l)
	return seen(string(content))
}

// mailLetterhead shows the letterhead to be changed.
func (s *Server) mailLetterhead(c *gin.Context) error {
	page, err := s.letterheadPage(c)
	if err != nil {
		return err
	}
	page.Done = mailDone(c.Query("done"))
	return s.showLetterhead(c, page, nil)
}

// letterheadPage is the letterhead as it is in use.
func (s *Server) letterheadPage(c *gin.Context) (templates.LetterheadPage, error) {
	l, err := s.Stationery.Letterhead(c)
	return templates.LetterheadPage{
		Console: s.console(c), Typed: l, Logo: s.logoPath(l), Most: notify.MaxLogo, Seen: seenLetterhead(l),
	}, err
}

// logoPath is where a page of ours finds the logo.
func (s *Server) logoPath(l templates.Letterhead) string {
	if path, ours := strings.CutPrefix(l.LogoURL, s.PublicURL); ours {
		return path
	}
	return ""
}

// showLetterhead shows the page with the mail that the draft makes, or with the one in use.
func (s *Server) showLetterhead(c *gin.Context, page templates.LetterheadPage, draft url.Values) error {
	p, err := s.preview(c, shownOn(page.Typed), draft)
	if err != nil {
		return err
	}
	page.Preview = p.page
	page.Mistakes = map[string]string{}
	for _, mistake := range p.mistakes {
		if m, ok := errors.AsType[*templates.FieldError](mistake); ok {
			page.Mistakes[m.Field] = sentence(errors.New(m.Message))
		}
	}
	s.allowFrame(c)
	s.keepPreview(c, len(page.Mistakes) > 0)
	return s.show(c, page)
}

// writeLetterhead does what the buttons of the letterhead's page are for.
func (s *Server) writeLetterhead(c *gin.Context) error {
	page, err := s.letterheadPage(c)
	if err != nil {
		return err
	}
	use := page.Typed
	page.Typed, page.Seen = typedLetterhead(use, c.PostForm), c.PostForm("seen")
	if c.Query("do") == "save" {
		err = s.keepLetterhead(c, provisioning.Operator(operator(c).Email), page.Seen, func(l templates.Letterhead) templates.Letterhead {
			return typedLetterhead(l, c.PostForm)
		})
	}
	switch {
	case err == nil && c.Query("do") == "save":
		return s.toMail(c, "/letterhead", doneSaved)
	case errors.Is(err, errSomebodyElse):
		page.Code, page.Seen = http.StatusConflict, seenLetterhead(use)
		page.Problem = "Somebody else has changed the letterhead since you began. Yours is not saved: open this page once more beside it to see theirs, or save again to replace it."
	case errors.Is(err, notify.ErrStationery):
		page.Code = http.StatusUnprocessableEntity
		if page.Typed.Validate() == nil {
			page.Problem = sentence(err) // It is another part that keeps it from being saved.
		}
	case err != nil:
		return err
	}
	draft := url.Values{}
	for _, field := range letterheadFields() {
		draft.Set(field, c.PostForm(field))
	}
	return s.showLetterhead(c, page, draft)
}

// keepLetterhead makes what change makes of the letterhead the one that is used, unless somebody else has changed the one
// that was seen; an empty name of that stands for any.
func (s *Server) keepLetterhead(ctx context.Context, actor provisioning.Actor, was string, change func(templates.Letterhead) templates.Letterhead) error {
	err := s.Stationery.Change(ctx, actor, func(st *templates.Stationery) error {
		changed := change(st.Letterhead)
		switch use := seenLetterhead(st.Letterhead); {
		case use == seenLetterhead(changed):
			return errAsBefore
		case was != "" && use != was:
			return errSomebodyElse
		}
		st.Letterhead = changed
		return nil
	})
	if errors.Is(err, errAsBefore) {
		return nil
	}
	return err
}

// saveLogo puts a picture on the letterhead.
func (s *Server) saveLogo(c *gin.Context) error {
	c.Request.Body = http.MaxBytesReader(c.Writer, c.Request.Body, mostPicture)
	address, err := s.receiveLogo(c)
	if err == nil {
		return s.putLogo(c, address)
	}
	status := statusOf(err)
	switch status {
	case http.StatusRequestEntityTooLarge:
		err = fmt.Errorf("%w: make it smaller than %d KB", notify.ErrLogo, notify.MaxLogo>>10)
	case http.StatusUnprocessableEntity:
	default:
		return err
	}
	page, failed := s.letterheadPage(c)
	if failed != nil {
		return failed
	}
	page.Code, page.LogoProblem = status, sentence(err)
	return s.showLetterhead(c, page, nil)
}

func (s *Server) receiveLogo(c *gin.Context) (address string, err error) {
	_, file, err := sentFile(c.Request)
	if err != nil {
		return "", err
	}
	content, err := io.ReadAll(io.LimitReader(file, notify.MaxLogo+1))
	if err != nil {
		return "", err
	}
	if _, err := io.Copy(io.Discard, file); err != nil { // A browser hears the answer when all is read.
		return "", err
	}
	return s.Stationery.SaveLogo(c, content)
}

func (s *Server) removeLogo(c *gin.Context) error { return s.putLogo(c, "") }

func (s *Server) putLogo(c *gin.Context, address string) error {
	if err := s.setLogo(c, provisioning.Operator(operator(c).Email), address); err != nil {
		return err
	}
	return s.toMail(c, "/letterhead", doneSaved)
}

// setLogo puts a picture that was saved on the letterhead, or none.
func (s *Server) setLogo(ctx context.Context, actor provisioning.Actor, address string) error {
	return s.Stationery.Change(ctx, actor, func(st *templates.Stationery) error {
		st.LogoURL = address
		return nil
	})
}

// logo shows a picture to whoever has a mail with it. The address is made of what it shows, which never changes.
func (s *Server) logo(c *gin.Context) error {
	mediaType, content, err := s.Stationery.Logo(c, c.Param("digest"))
	if err != nil {
		return err
	}
	c.Header("Cache-Control", "public, max-age=31536000, immutable")
	c.Header("Content-Security-Policy", "default-src 'none'; sandbox")
	c.Header("Cross-Origin-Resource-Policy", "cross-origin") // for mail that is read on other sites
	c.Data(http.StatusOK, mediaType, content)
	return nil
}

// brand gives owner pages the agency's colour, or none. An address of another colour than the present one is not to be
// kept: it comes from a page that is older, or whose replica has not heard of the change.
func (s *Server) brand(c *gin.Context) error {
	l := s.letterhead(c)
	c.Header("Cache-Control", "no-cache")
	if c.Request.URL.RequestURI() == l.BrandURL() {
		c.Header("Cache-Control", "public, max-age=31536000, immutable")
	}
	c.Data(http.StatusOK, "text/css; charset=utf-8", []byte(l.Brand()))
	return nil
}
