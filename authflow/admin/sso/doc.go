// Package sso lets operators sign in through an issuer of OpenID Connect, such as the agency's Google Workspace, Okta or
// Keycloak.
//
//	Door.Begin ──► the issuer's pages ──► Door.Callback ──► session of package admin
//	  state, nonce, PKCE                    │
//	  bound to one browser                  ├── the answer: state once, within ten minutes, by the same browser, iss (RFC 9207)
//	                                        ├── Issuer.Redeem: the ID token, for us and for this attempt
//	                                        └── the person: verified address, allowed domain ──► admin.Store.SignInAs
//
// An attempt is a row with the hashes of its state and of a secret that only a cookie of the browser has. Nonce and PKCE
// verifier are derived from that secret and the state, so that a stolen database is of no use, nor is an answer in another
// browser. The row is deleted before the code is redeemed.
//
// What is said to the issuer, and what is believed of its tokens, is package openid's. Who a subject is, and whether newcomers are let in, is decided by package admin; pages and cookies are package web's.
package sso
