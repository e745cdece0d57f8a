package web

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"image/png"
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/pquerna/otp"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

// account is the page of whoever is signed in.
func (s *Server) account(c *gin.Context) error {
	page, err := s.accountPage(c)
	if err != nil {
		return err
	}
	page.Done = accountDone(c.Query("done"))
	return s.show(c, page)
}

func (s *Server) accountPage(c *gin.Context) (templates.AccountPage, error) {
	o := operator(c)
	page := templates.AccountPage{
		Console: s.console(c), Email: o.Email, Name: o.Name, Role: templates.Role(o.Role),
		PasswordMin: passwordMin, SecondFactor: o.SecondFactor,
	}
	sessions, err := s.Admin.Sessions(c, o.ID, s.session(c))
	if err != nil {
		return page, err
	}
	for _, session := range sessions {
		page.Sessions = append(page.Sessions, templates.Session{
			ID: session.ID.String(), Browser: session.Browser, Address: session.Address,
			Since: session.CreatedAt, Seen: session.SeenAt, Current: session.Current,
		})
	}
	if o.SecondFactor {
		page.CodesLeft, err = s.Admin.RecoveryCodesLeft(c, o.ID)
	}
	return page, err
}

// session is the token that the browser has shown.
func (s *Server) session(c *gin.Context) provisioning.Secret {
	return provisioning.Secret(s.cookie(c, sessionCookie))
}

// accountDone says what was done, by the word in the page's address.
func accountDone(word string) string {
	switch word {
	case "name":
		return "Your name is saved."
	case "password":
		return "Your password is changed, and your other sessions have ended."
	case "session":
		return "The session has ended."
	case "sessions":
		return "Your other sessions have ended."
	case "factor-off":
		return "The second factor is off. Your password alone lets you in."
	}
	return ""
}

func (s *Server) backToAccount(c *gin.Context) error {
	c.Redirect(http.StatusSeeOther, "/admin/account")
	return nil
}

// settle leads back to the account, or shows the page with what is wrong with the form.
func (s *Server) settle(c *gin.Context, done string, err error, say func(*templates.AccountPage, string)) error {
	if err == nil {
		c.Redirect(http.StatusSeeOther, "/admin/account?done="+done)
		return nil
	}
	for _, mistake := range []error{
		admin.ErrName, admin.ErrPassword, admin.ErrPresentPassword, admin.ErrSecondFactorOn, admin.ErrNoSecondFactor, admin.ErrThrottled,
	} {
		if !errors.Is(err, mistake) {
			continue
		}
		page, failed := s.accountPage(c)
		if failed != nil {
			return failed
		}
		say(&page, sentence(err))
		return s.show(c, page)
	}
	return err
}

func (s *Server) changeName(c *gin.Context) error {
	o, name := operator(c), c.PostForm("name")
	err := s.Admin.SetName(c, o.ID.String(), name, provisioning.Operator(o.Email))
	return s.settle(c, "name", err, func(p *templates.AccountPage, mistake string) { p.Name, p.NameError = name, mistake })
}

func (s *Server) changePassword(c *gin.Context) error {
	err := s.Admin.ChangePassword(c, operator(c), s.session(c),
		provisioning.Secret(c.PostForm("present")), provisioning.Secret(c.PostForm("password")), caller(c))
	return s.settle(c, "password", err, func(p *templates.AccountPage, mistake string) {
		if errors.Is(err, admin.ErrPassword) {
			p.PasswordError = mistake
		} else {
			p.PresentError = mistake
		}
	})
}

func (s *Server) endSession(c *gin.Context) error {
	id, err := uuid.Parse(c.Param("id"))
	if err != nil {
		return admin.ErrNotFound
	}
	return s.settle(c, "session", s.Admin.EndSession(c, operator(c), id), nil)
}

func (s *Server) endOtherSessions(c *gin.Context) error {
	o := operator(c)
	_, err := s.Admin.EndSessions(c, o.ID.String(), s.session(c), provisioning.Operator(o.Email))
	return s.settle(c, "sessions", err, nil)
}

func sayFactor(p *templates.AccountPage, mistake string) { p.FactorError = mistake }

// beginSecondFactor makes a secret, and leads to the page that shows it.
func (s *Server) beginSecondFactor(c *gin.Context) error {
	err := s.Admin.BeginSecondFactor(c, operator(c), provisioning.Secret(c.PostForm("present")), caller(c))
	if err != nil {
		return s.settle(c, "", err, sayFactor)
	}
	c.Redirect(http.StatusSeeOther, "/admin/account/second-factor")
	return nil
}

// secondFactor shows the secret of a second factor that waits for its first code.
func (s *Server) secondFactor(c *gin.Context) error { return s.showSecondFactor(c, "") }

func (s *Server) showSecondFactor(c *gin.Context, problem string) error {
	page := templates.SecondFactorPage{Console: s.console(c), Problem: problem}
	enrolment, err := s.Admin.Enrolment(c, operator(c), page.Agency)
	if errors.Is(err, admin.ErrNoSecondFactor) {
		return s.backToAccount(c)
	}
	if err != nil {
		return err
	}
	if page.QR, err = qr(enrolment.URL); err != nil {
		return err
	}
	page.Secret = inGroups(enrolment.Secret.Reveal())
	return s.show(c, page)
}

// qr draws an address as a QR code: a picture that is a part of the page.
func qr(address provisioning.Secret) (template.URL, error) {
	const points = 6 // of the picture for one of the page, so that it is sharp on every screen
	key, err := otp.NewKeyFromURL(address.Reveal())
	if err != nil {
		return "", errors.New("the address of a second factor is none")
	}
	picture, err := key.Image(220*points/2, 220*points/2)
	if err != nil {
		return "", fmt.Errorf("draw a QR code: %w", err)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, picture); err != nil {
		return "", fmt.Errorf("draw a QR code: %w", err)
	}
	return template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(b.Bytes())), nil //nolint:gosec // It is made of nothing else.
}

// inGroups writes a secret in groups of four, for typing.
func inGroups(secret string) string {
	var b bytes.Buffer
	for i, r := range secret {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// confirmSecondFactor answers with the recovery codes, and does not lead elsewhere as other buttons do: nowhere else are
// they to be read.
func (s *Server) confirmSecondFactor(c *gin.Context) error {
	codes, err := s.Admin.ConfirmSecondFactor(c, operator(c), c.PostForm("code"), caller(c))
	switch {
	case errors.Is(err, admin.ErrNoSecondFactor):
		return s.backToAccount(c) // Its button was pressed twice, or it was done elsewhere.
	case errors.Is(err, admin.ErrCode), s.throttled(c, err):
		return s.showSecondFactor(c, sentence(err))
	case err != nil:
		return err
	}
	return s.showRecoveryCodes(c, codes)
}

func (s *Server) showRecoveryCodes(c *gin.Context, codes []provisioning.Secret) error {
	page := templates.RecoveryCodesPage{Console: s.console(c)}
	for _, code := range codes {
		page.Codes = append(page.Codes, code.Reveal())
	}
	return s.show(c, page)
}

// renewRecoveryCodes answers as confirmSecondFactor does.
func (s *Server) renewRecoveryCodes(c *gin.Context) error {
	codes, err := s.Admin.RenewRecoveryCodes(c, operator(c), provisioning.Secret(c.PostForm("present")), caller(c))
	if err != nil {
		return s.settle(c, "", err, sayFactor)
	}
	return s.showRecoveryCodes(c, codes)
}

func (s *Server) endSecondFactor(c *gin.Context) error {
	err := s.Admin.EndSecondFactor(c, operator(c), provisioning.Secret(c.PostForm("present")), caller(c))
	return s.settle(c, "factor-off", err, sayFactor)
}
