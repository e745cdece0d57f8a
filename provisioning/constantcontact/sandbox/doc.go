// Package sandbox imitates Constant Contact, the provider: its authorization
// server and, of its API, the account and the partner's view of accounts, faults
// included. Tests use it, `countersign sandbox` serves it alone, and the demo lets
// people click through it.
//
// # The way through it
//
//	GET /oauth2/default/v1/authorize
//	  ├─ unknown client, unregistered redirect URI ─► 400 page; the app never hears of it
//	  ├─ any other mistake ─► 302 to the app with error, error_description, state
//	  ├─ no session, or prompt=login ─► login page ─ POST /signin ─► session cookie
//	  └─ live session ─► consent page as the user of that session, whoever that is
//	                        └─ POST /consent ─► 302 to the app with code, or access_denied
//	POST /oauth2/default/v1/token
//	  ├─ authorization_code ─► a grant: access token and, with offline_access, refresh token
//	  └─ refresh_token ─► the next access token; a rotating app gets the next refresh token too
//	POST /partners/oauth2/default/v1/token, or /oauth2/token as it was before
//	  └─ client_credentials ─► a partner's token, good for an hour
//	GET {Issuer}/v1/keys   the key that signs the access tokens
//	GET /v3/account/summary, /v3/account/user/privileges
//	GET /v3/partner/accounts                                      with a partner's token and API key:
//	POST /v3/partner/accounts/{id}/account_operations/sync        the list, and a call inside an account
//
// A grant is live until one of the [Ending] values says otherwise. What nobody
// outside the provider knows for certain is a field of [Switches]; what goes wrong
// only now and then is a [Fault], changed at any time by [Sandbox.SetFaults].
//
// # Where things are
//
// sandbox.go has the options and the routes, apps.go and accounts.go who is known
// (made.go makes accounts up), authorize.go and session.go the browser's half of the
// flow with pages.go, token.go and grant.go the app's half, jwt.go the access tokens,
// api.go the resource API (one row a resource, so that more can join), partner.go the
// partner's token and API, answer.go what all of these answer, limits.go the rate
// limits, catalogue.go every fault there is and faults.go how they strike, control.go
// the door for people and scripts who steer the sandbox, owner.go an owner who walks
// through the pages ([Consent]). Nothing here imports another package of this project:
// the client under test is provisioning/constantcontact.
//
// # Goals
//
//   - What the provider documents holds here to the letter: paths, fields, error
//     bodies, headers, lifetimes and limits. The limits are on unless
//     [Options].Unlimited is set, because clients must meet them early.
//   - Where documentation is silent, the stricter reading is the default.
//   - Every failure that a client must survive can be had on demand.
//
// # Limitations
//
//   - It is no authorization server for anything real. It keeps everything in
//     memory, forgets it at exit, holds passwords in the clear, prints them when the
//     control door is open, and refuses to stand at the provider's own hosts.
//   - No multi-factor sign-in, device flow, implicit flow or product pages, and of the
//     resource API only reading the account.
//   - Of the partner API only the list of accounts, and inside an account only
//     GET /account/summary. What refuses a partner (an unmanaged account: 403; an
//     account of somebody else: 404) is a guess where the documentation names no status.
//     A partner has the limits of an app; the provider gives more on request.
//   - The daily quota counts API calls only; whether the provider also counts token
//     requests is not known. Neither is the body of a throttled token request.
//   - Privilege ids, apart from campaign:create, are made up.
package sandbox
