// Package constantcontact speaks the provider's OAuth 2 and v3 API. It also works with any other
// OAuth authorization-code server whose API answers GET /account/summary.
//
// A consent uses it in this order, a grant afterwards only to stay alive:
//
//	AuthorizeURL ──► the owner signs in and consents ──► Exchange ──► Account
//	                                                        Refresh, for as long as the grant lives
//
// A [Partner] works without anybody's consent: with the partner's own credentials it lists the accounts and
// looks into managed ones. It gets its token and tries again by itself.
//
// Every call of a [Client] is one request with a time limit. It is sent when a [Budget] lets it, which is asked
// for a turn before and told when the answer was read, and that it was one call too many. Redirects are not followed, an answer is read up to
// 64 KiB and has to be JSON. What a call returns when it fails:
//
//   - [provisioning.ErrProviderUnavailable] is matched by all that says nothing about the grant:
//     network, time limit, 429, 5xx, no turn, an answer that is not the provider's, such as a web page.
//     [provisioning.ErrOutcomeUnknown] is matched as well if the request was sent and either no answer came
//     or one that says that all went well and is of no use: a code or a refresh token may be spent.
//   - [*provisioning.ProviderError] is a refusal in the provider's own words. [ErrUnassigned] and
//     [ErrNoAccount] are two of our making, for answers fine in form and useless in fact.
//
// No error has a token, a code or a secret in it, even if the provider repeats one.
//
// The package keeps nothing and decides nothing: package authflow leads the walk, seals the tokens
// and judges the account; package budget shares what the provider allows among replicas; package sandbox below
// imitates the other side.
package constantcontact
