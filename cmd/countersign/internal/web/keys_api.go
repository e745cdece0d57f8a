package web

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/countersign/countersign/authflow/admin"
)

// keysAPI is the part of the API that is about its keys.
func (s *Server) keysAPI(api huma.API) {
	register(s, api, http.MethodGet, "/keys", admin.ScopeAdmin, "List API keys, never the keys themselves", s.listKeys)
	register(s, api, http.MethodPost, "/keys", admin.ScopeAdmin, "Make an API key, which is given this once", s.postKey,
		func(o *huma.Operation) {
			o.DefaultStatus = http.StatusCreated
			o.Description += " A key gives no scope that it lacks, and no time beyond its own end."
		})
	register(s, api, http.MethodDelete, "/keys/{id}", admin.ScopeAdmin, "Revoke an API key, at once", s.deleteKey,
		func(o *huma.Operation) { o.DefaultStatus = http.StatusNoContent })
}

// KeyBody is an API key, without the key itself.
type KeyBody struct {
	ID        uuid.UUID     `json:"id" format:"uuid"`
	Name      string        `json:"name"`
	Scopes    []admin.Scope `json:"scopes"`
	CreatedAt time.Time     `json:"created_at"`
	CreatedBy string        `json:"created_by"`
	ExpiresAt *time.Time    `json:"expires_at" doc:"null if it does not end by itself"`
	UsedAt    *time.Time    `json:"used_at" doc:"to the minute"`
	UsedFrom  string        `json:"used_from" doc:"network address of the last use; may be empty"`
	RevokedAt *time.Time    `json:"revoked_at"`
	RevokedBy *string       `json:"revoked_by"`
}

func keyInJSON(k admin.Key) KeyBody {
	body := KeyBody{
		ID: k.ID, Name: k.Name, Scopes: k.Scopes, CreatedAt: k.CreatedAt, CreatedBy: string(k.CreatedBy),
		ExpiresAt: k.ExpiresAt, UsedAt: k.UsedAt, UsedFrom: k.UsedFrom, RevokedAt: k.RevokedAt,
	}
	if k.RevokedBy != nil {
		by := string(*k.RevokedBy)
		body.RevokedBy = &by
	}
	return body
}

type keysOutput struct {
	Body struct {
		Keys []KeyBody `json:"keys"`
	}
}

func (s *Server) listKeys(ctx context.Context, _ *struct{}) (*keysOutput, error) {
	keys, err := s.Admin.Keys(ctx)
	if err != nil {
		return nil, err
	}
	out := &keysOutput{}
	out.Body.Keys = []KeyBody{}
	for _, k := range keys {
		out.Body.Keys = append(out.Body.Keys, keyInJSON(k))
	}
	return out, nil
}

type keyInput struct {
	Body struct {
		Name      string        `json:"name" doc:"what the key is for"`
		Scopes    []admin.Scope `json:"scopes" enum:"read,write,links,tokens,admin"`
		ExpiresAt *time.Time    `json:"expires_at,omitempty" doc:"without it, the key does not end by itself"`
	}
}

type keyOutput struct {
	Body struct {
		KeyBody
		Key string `json:"key" doc:"the key itself, given this once"`
	}
}

func (s *Server) postKey(ctx context.Context, in *keyInput) (*keyOutput, error) {
	giver, _ := ctx.Value(keyOfRequest{}).(admin.Key) // requireKey sets it; the zero key gives nothing.
	n := admin.NewKey{Name: in.Body.Name, Scopes: in.Body.Scopes, ExpiresAt: in.Body.ExpiresAt}
	if err := giver.MayGive(n); err != nil {
		return nil, err
	}
	secret, made, err := s.Admin.CreateKey(ctx, n, actor(ctx))
	if err != nil {
		return nil, err
	}
	out := &keyOutput{}
	out.Body.KeyBody, out.Body.Key = keyInJSON(made), secret.Reveal()
	return out, nil
}

type keyID struct {
	ID string `path:"id" doc:"id or name"`
}

func (s *Server) deleteKey(ctx context.Context, in *keyID) (*struct{}, error) {
	return nil, s.Admin.RevokeKey(ctx, in.ID, actor(ctx))
}
