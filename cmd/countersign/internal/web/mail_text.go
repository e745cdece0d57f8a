package web

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/notify/smtp"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

// trialTime is how long a mail server may take with a test.
const trialTime = 30 * time.Second

var (
	errSomebodyElse = errors.New("somebody else has changed it since you began")
	errAsBefore     = errors.New("nothing has changed")
)

// mailTexts lists the texts of all mails.
func (s *Server) mailTexts(c *gin.Context) error {
	v, err := s.Stationery.Current(c)
	if err != nil {
		return err
	}
	page := templates.MailTextsPage{Console: s.console(c), Own: make(map[string]bool, len(v.Content.Texts))}
	for name := range v.Content.Texts {
		page.Own[name] = true
	}
	return s.show(c, page)
}

// textKey reads the key at the end of an address.
func textKey(c *gin.Context) (templates.TextKey, error) {
	key, err := templates.ParseTextKey(strings.TrimPrefix(c.Param("key"), "/"))
	if err != nil {
		return key, errors.Join(errNoRoute, err)
	}
	return key, nil
}

// source is the text that is sent.
func (s *Server) source(st templates.Stationery, key templates.TextKey) string {
	if own, found := st.Texts[key.String()]; found {
		return own
	}
	return s.Templates.BuiltinText(key)
}

// textOf is the text that is sent, and whether it is the agency's own.
func (s *Server) textOf(st templates.Stationery, key templates.TextKey) (own bool, source string) {
	_, own = st.Texts[key.String()]
	return own, s.source(st, key)
}

// seen names what somebody begins to change, to notice that it has been changed when they come to an end.
func seen(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:8])
}

// typedText is what a browser sends of a text, with the ends of lines that texts have.
func typedText(c *gin.Context) string {
	return plainText(c.PostForm("source"))
}

func plainText(sent string) string {
	return strings.TrimRight(strings.ReplaceAll(sent, "\r\n", "\n"), "\n ") + "\n"
}

// mailText shows a text to be changed.
func (s *Server) mailText(c *gin.Context) error {
	key, err := textKey(c)
	if err != nil {
		return err
	}
	page, err := s.textPage(c, key)
	if err != nil {
		return err
	}
	page.Done = mailDone(c.Query("done"))
	// A text may be older than the rules that it breaks.
	_, err = templates.ParseText(key, page.Source)
	page.Mistakes = inLines(each(err))
	return s.showPreview(c, page, nil)
}

// textPage is the text as it is in use.
func (s *Server) textPage(c *gin.Context, key templates.TextKey) (templates.MailTextPage, error) {
	v, err := s.Stationery.Current(c)
	if err != nil {
		return templates.MailTextPage{}, err
	}
	own, source := s.textOf(v.Content, key)
	return templates.MailTextPage{
		Console: s.console(c), Key: key, Own: own, Source: source, Seen: seen(source), To: operator(c).Email,
	}, nil
}

// showPreview shows the page with the mail that the draft makes, or with the one in use.
func (s *Server) showPreview(c *gin.Context, page templates.MailTextPage, draft url.Values) error {
	p, err := s.preview(c, page.Key, draft)
	if err != nil {
		return err
	}
	page.Preview = p.page
	if draft != nil {
		page.Mistakes = inLines(p.mistakes)
	}
	s.allowFrame(c)
	s.keepPreview(c, len(page.Mistakes) > 0)
	return s.show(c, page)
}

// keepPreview has htmx, where it renews a preview, leave the last one and show the mistakes alone.
func (s *Server) keepPreview(c *gin.Context, mistaken bool) {
	if mistaken && c.Query("do") == "preview" {
		c.Header("HX-Retarget", "#mistakes")
		c.Header("HX-Reselect", "#mistakes")
	}
}

func inLines(mistakes []error) []string {
	var lines []string
	for _, mistake := range mistakes {
		lines = append(lines, sentence(mistake))
	}
	return lines
}

// writeText does what the buttons of a text's page are for.
func (s *Server) writeText(c *gin.Context) error {
	key, err := textKey(c)
	if err != nil {
		return err
	}
	page, err := s.textPage(c, key)
	if err != nil {
		return err
	}
	use := page.Source
	page.Source, page.Seen = typedText(c), c.PostForm("seen")
	switch c.Query("do") {
	case "reset":
		page.Source = s.Templates.BuiltinText(key)
		err = s.keepText(c, provisioning.Operator(operator(c).Email), page.Key, page.Source, page.Seen)
		if err == nil {
			return s.toMail(c, "/texts/"+key.String(), doneReset)
		}
	case "save":
		if _, wrong := templates.ParseText(key, page.Source); wrong != nil {
			page.Code = http.StatusUnprocessableEntity
			break
		}
		err = s.keepText(c, provisioning.Operator(operator(c).Email), page.Key, page.Source, page.Seen)
		if err == nil {
			return s.toMail(c, "/texts/"+key.String(), doneSaved)
		}
	case "trial":
		s.tryText(c, &page)
	}
	switch {
	case errors.Is(err, errSomebodyElse):
		page.Code, page.Theirs, page.Seen = http.StatusConflict, use, seen(use)
		page.Problem = "Somebody else has changed this text since you began. Yours is not saved: compare it with theirs, which stands below, and save again."
	case errors.Is(err, notify.ErrStationery):
		page.Code, page.Problem = http.StatusUnprocessableEntity, sentence(err)
	case err != nil:
		return err
	}
	return s.showPreview(c, page, url.Values{"source": {page.Source}})
}

// keepText makes a text the one that is sent, unless somebody else has changed the one that was seen; an empty name of
// that stands for any.
func (s *Server) keepText(ctx context.Context, actor provisioning.Actor, key templates.TextKey, source, was string) error {
	name := key.String()
	err := s.Stationery.Change(ctx, actor, func(st *templates.Stationery) error {
		switch use := s.source(*st, key); {
		case use == source:
			return errAsBefore
		case was != "" && seen(use) != was:
			return errSomebodyElse
		}
		st.Texts[name] = source
		if source == s.Templates.BuiltinText(key) {
			delete(st.Texts, name)
		}
		return nil
	})
	if errors.Is(err, errAsBefore) {
		return nil
	}
	return err
}

// tryText mails a page's text to who is signed in, past the queue and even while mail is paused.
func (s *Server) tryText(c *gin.Context, page *templates.MailTextPage) {
	if s.Sender == nil {
		page.Problem = "No test can be sent, as there is no mail server: set COUNTERSIGN_SMTP_URL and start Countersign again."
		return
	}
	p, err := s.preview(c, page.Key, url.Values{"source": {page.Source}})
	if err == nil && len(p.mistakes) > 0 {
		page.Problem = "No test was sent: correct the text first."
		return
	}
	var envelope smtp.Envelope
	if err == nil {
		envelope, err = s.Mailer.Trial(p.letterhead, p.Rendered, page.To)
	}
	if err == nil {
		ctx, cancel := context.WithTimeout(c, trialTime)
		defer cancel()
		err = s.Sender.Send(ctx, envelope)
	}
	if err != nil {
		s.Log.WarnContext(c, "a test mail could not be sent", "err", err)
		page.Problem = "The test was not sent. " + sentence(err)
		return
	}
	page.Done = "The test is on its way to " + page.To + ". Its link leads nowhere."
}
