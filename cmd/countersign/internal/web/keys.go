package web

import (
	"errors"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

// keys is the page of which programs may use the API.
func (s *Server) keys(c *gin.Context) error {
	page, err := s.keysPage(c)
	if err != nil {
		return err
	}
	if c.Query("done") == "revoked" {
		page.Done = "The key is revoked. Whoever uses it is refused from now on."
	}
	return s.show(c, page)
}

func (s *Server) keysPage(c *gin.Context) (templates.KeysPage, error) {
	page := templates.KeysPage{Console: s.console(c)}
	for _, scope := range admin.Scopes() {
		page.Scopes = append(page.Scopes, templates.KeyScope{Name: string(scope), About: scope.About()})
	}
	keys, err := s.Admin.Keys(c)
	if err != nil {
		return page, err
	}
	now := s.Now()
	for _, k := range keys {
		shown := templates.APIKey{
			ID: k.ID.String(), Name: k.Name, CreatedAt: k.CreatedAt, CreatedBy: keyActor(k.CreatedBy),
			ExpiresAt: orZero(k.ExpiresAt), UsedAt: orZero(k.UsedAt), UsedFrom: k.UsedFrom,
			RevokedAt: orZero(k.RevokedAt), RevokedBy: keyActor(orZero(k.RevokedBy)), Unused: k.Unused(now),
			Expired: k.RevokedAt == nil && !k.Works(now),
		}
		for _, scope := range k.Scopes {
			shown.Scopes = append(shown.Scopes, string(scope))
		}
		if k.RevokedAt == nil {
			page.Keys = append(page.Keys, shown)
		} else {
			page.Revoked = append(page.Revoked, shown)
		}
	}
	return page, nil
}

// keyActor names who made or revoked a key; of an operator, the address is enough.
func keyActor(a provisioning.Actor) string {
	return strings.TrimPrefix(string(a), string(provisioning.Operator("")))
}

// createKey shows the key that it makes at once: nowhere else is it to be read.
func (s *Server) createKey(c *gin.Context) error {
	n := admin.NewKey{Name: c.PostForm("name")}
	for _, scope := range c.PostFormArray("scope") {
		n.Scopes = append(n.Scopes, admin.Scope(scope))
	}
	var err error
	if n.ExpiresAt, err = admin.ParseExpiry(c.PostForm("expires"), s.Now()); err != nil {
		return err
	}
	secret, made, err := s.Admin.CreateKey(c, n, provisioning.Operator(operator(c).Email))
	refused := errors.Is(err, admin.ErrName) || errors.Is(err, admin.ErrKeyNameTaken) || errors.Is(err, admin.ErrScopes)
	if err != nil && !refused {
		return err
	}
	page, failed := s.keysPage(c)
	switch {
	case failed != nil:
		return failed
	case errors.Is(err, admin.ErrScopes):
		page.Name, page.ScopesError = n.Name, sentence(err)
	case err != nil:
		page.Name, page.NameError = n.Name, sentence(err)
	default:
		page.Made = &templates.MadeKey{Name: made.Name, Secret: secret.Reveal(), ExpiresAt: orZero(made.ExpiresAt)}
	}
	return s.show(c, page)
}

func (s *Server) revokeKey(c *gin.Context) error {
	err := s.Admin.RevokeKey(c, c.Param("id"), provisioning.Operator(operator(c).Email))
	if err != nil && !errors.Is(err, admin.ErrNotFound) { // It may have been revoked in another window.
		return err
	}
	c.Redirect(http.StatusSeeOther, "/admin/settings/keys?done=revoked")
	return nil
}

func (s *Server) backToKeys(c *gin.Context) error {
	c.Redirect(http.StatusSeeOther, "/admin/settings/keys")
	return nil
}
