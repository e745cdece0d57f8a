package sandbox

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
)

// claims are those of the provider's access tokens. sub is the user's login: nothing
// in a token names the account. A partner's token has no user, and its client for sub.
type claims struct {
	Version        int      `json:"ver"`
	ID             string   `json:"jti"`
	Issuer         string   `json:"iss"`
	Audience       string   `json:"aud"`
	IssuedAt       int64    `json:"iat"`
	Expires        int64    `json:"exp"`
	ClientID       string   `json:"cid"`
	UserID         string   `json:"uid,omitempty"`
	Scopes         []string `json:"scp"`
	SignedIn       int64    `json:"auth_time,omitempty"`
	Subject        string   `json:"sub"`
	PlatformUserID string   `json:"platform_user_id,omitempty"`
}

// sign makes the access token of a successful token request. It works outside the
// lock, because a signature takes a millisecond.
func (s *Sandbox) sign(out issued) (string, error) {
	now, u := s.options.Now(), out.grant.user
	expires := now.Add(accessLifetime)
	hash := sha256.Sum256([]byte(u.Login))
	c := claims{
		Version:        1,
		ID:             "AT." + secret(),
		Issuer:         s.options.Issuer,
		Audience:       "https://api.cc.email/v3",
		IssuedAt:       now.Unix(),
		Expires:        expires.Unix(),
		ClientID:       out.grant.app.ClientID,
		UserID:         "00u" + base64.RawURLEncoding.EncodeToString(hash[:])[:17],
		Scopes:         out.scopes,
		SignedIn:       out.grant.signedIn.Unix(),
		Subject:        u.Login,
		PlatformUserID: u.PlatformUserID,
	}
	s.distortClaims(&c)
	token, err := s.jwt(c)
	if err != nil {
		return "", err
	}
	s.remember(token, &access{grant: out.grant, scopes: out.scopes, expires: expires})
	return token, nil
}

// jwt signs claims with the key of the issuer.
func (s *Sandbox) jwt(c claims) (string, error) {
	key, err := s.key()
	if err != nil {
		return "", err
	}
	header, err := encode(struct {
		KeyID     string `json:"kid"`
		Algorithm string `json:"alg"`
	}{keyID(&key.PublicKey), "RS256"})
	if err != nil {
		return "", err
	}
	payload, err := encode(c)
	if err != nil {
		return "", err
	}
	digest := sha256.Sum256([]byte(header + "." + payload))
	signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
	if err != nil {
		return "", err
	}
	return header + "." + payload + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// keys serves the JSON Web Key Set of the issuer.
func (s *Sandbox) keys(w http.ResponseWriter, _ *http.Request) {
	key, err := s.key()
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	reply := answer{status: http.StatusOK, body: map[string]any{"keys": []map[string]string{{
		"kty": "RSA",
		"alg": "RS256",
		"use": "sig",
		"kid": keyID(&key.PublicKey),
		"n":   base64.RawURLEncoding.EncodeToString(key.N.Bytes()),
		"e":   base64.RawURLEncoding.EncodeToString(big.NewInt(int64(key.E)).Bytes()),
	}}}}
	reply.send(w)
}

func keyID(key *rsa.PublicKey) string {
	hash := sha256.Sum256(key.N.Bytes())
	return base64.RawURLEncoding.EncodeToString(hash[:])
}

func encode(part any) (string, error) {
	raw, err := json.Marshal(part)
	return base64.RawURLEncoding.EncodeToString(raw), err
}
