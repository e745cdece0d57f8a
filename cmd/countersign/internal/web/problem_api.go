package web

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countersign/countersign/authflow/grant"
	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/audit"
	"github.com/countersign/countersign/provisioning/once"
)

// problemType begins the type of a problem (RFC 9457, 3.1.1). Its code follows, which never changes: programs go by
// it, and not by the words of a detail.
const problemType = "urn:countersign:"

// Codes that are told apart in more than one place.
const (
	codeDoubtful    = "grant-doubtful"
	codeUnavailable = "provider-unavailable"
	codeThrottled   = "too-many-requests"
)

// problemCode is why a request is refused, as programs and the reference page are told it.
type problemCode struct {
	code    string
	status  int
	meaning string  // with the cure
	errs    []error // that have it; none if it goes by the status alone
}

// problemCodes lists every code. An error that none of them names has the code of its status, the one without errs.
func problemCodes() []problemCode {
	return []problemCode{
		{"bad-request", http.StatusBadRequest, "The request cannot be read. The detail says what is wrong with it.", nil},
		{"cursor-invalid", http.StatusBadRequest, "The cursor did not come from an earlier page. Start again without it.", []error{provisioning.ErrBadCursor, audit.ErrBadCursor}},
		{"key-missing", http.StatusUnauthorized, "There is no API key with the request, or it is unknown, revoked or expired.", nil},
		{"scope-missing", http.StatusForbidden, "The API key may not do this. Make one with the scope that the operation names.", nil},
		{"not-found", http.StatusNotFound, "There is no such client, import or other thing, or no such address.", nil},
		{"method-not-allowed", http.StatusMethodNotAllowed, "The address exists, but not for this method.", nil},
		{"not-acceptable", http.StatusNotAcceptable, "The answer cannot be given in the form that Accept asks for.", nil},
		{"timeout", http.StatusRequestTimeout, "The request did not come in time. Send it again.", nil},
		{"conflict", http.StatusConflict, "It cannot be done as things stand. The detail says why.", nil},
		{"client-not-authorized", http.StatusConflict, "The client has no grant, so that there is no token.", []error{grant.ErrNoGrant}},
		{"reminder-refused", http.StatusConflict, "No reminder can go out or be planned. The detail says why.", []error{notify.ErrNoReminder}},
		{"request-running", http.StatusConflict, "The first request with this Idempotency-Key is being carried out. Send it again in a while.", []error{once.ErrRunning}},
		{"answer-lost", http.StatusConflict, "The first request with this Idempotency-Key made its changes, and its answer was lost in a crash. Read how things stand, and do not send it again.", []error{once.ErrLost}},
		{"client-changed", http.StatusPreconditionFailed, "The client is not what If-Match says. Read it again: the answer has its ETag.", []error{provisioning.ErrChanged}},
		{"stationery-changed", http.StatusPreconditionFailed, "The text or the letterhead is not what If-Match says. Read it again: the answer has its ETag.", []error{errSomebodyElse}},
		{"too-large", http.StatusRequestEntityTooLarge, "The body is larger than the operation takes.", nil},
		{"media-type-unsupported", http.StatusUnsupportedMediaType, "The body is of a type that the operation does not take.", nil},
		{"invalid", http.StatusUnprocessableEntity, "A value breaks a rule. errors says where, and what the rule is.", nil},
		{"rows-rejected", http.StatusUnprocessableEntity, "A strict import has rejected rows, and nothing was imported. errors has them.", []error{provisioning.ErrRejected}},
		{"idempotency-key-reused", http.StatusUnprocessableEntity, "This Idempotency-Key came with another request before. Take a new one.", []error{once.ErrOther}},
		{codeThrottled, http.StatusTooManyRequests, "There were too many requests. Wait as long as Retry-After says.", nil},
		{"client-closed", statusClientClosed, "The program did not wait for the answer.", nil},
		{"internal", http.StatusInternalServerError, "It is our fault. The log tells more under the number in the detail.", nil},
		{"unavailable", http.StatusServiceUnavailable, "It cannot be done now. The detail says what is missing.", nil},
		{"not-configured", http.StatusServiceUnavailable, "A setting is missing. The detail names it.", []error{errNotConfigured}},
		{codeDoubtful, http.StatusServiceUnavailable, "The provider refuses to refresh the grant, and it is not known yet whether for good. Retry-After says when to ask again.", []error{grant.ErrDoubtful}},
		{codeUnavailable, http.StatusServiceUnavailable, "The provider cannot answer now. Retry-After says when to ask again.", []error{provisioning.ErrProviderUnavailable}},
	}
}

// codeOf names an error with its status; err may be nil. A status that has no code has that of its class.
func codeOf(err error, status int) string {
	general := "bad-request"
	if status >= http.StatusInternalServerError {
		general = "internal"
	}
	for _, c := range problemCodes() {
		for _, e := range c.errs {
			if errors.Is(err, e) {
				return c.code
			}
		}
		if c.status == status && c.errs == nil {
			general = c.code
		}
	}
	return general
}

// problemOf says an error whose words a program may read.
func problemOf(err error) *huma.ErrorModel {
	status := statusOf(err)
	return &huma.ErrorModel{Type: problemType + codeOf(err, status), Title: http.StatusText(status), Status: status, Detail: err.Error()}
}

// toldProblem is a problem with headers of its own.
type toldProblem struct {
	*huma.ErrorModel

	header http.Header
}

// GetHeaders is how Huma asks for them.
func (p *toldProblem) GetHeaders() http.Header { return p.header }

// withCode is asked about every answer, and gives the problems a code that Huma itself finds.
func withCode(_ huma.Context, _ string, answer any) (any, error) {
	if p, ok := answer.(*huma.ErrorModel); ok && p.Type == "" {
		p.Type = problemType + codeOf(nil, p.Status)
	}
	return answer, nil
}

// apiProblem says an error as problem details.
func (s *Server) apiProblem(ctx context.Context, route string, err error) huma.StatusError {
	if told, ok := errors.AsType[huma.StatusError](err); ok {
		return told
	}
	p := problemOf(err)
	if p.Status == http.StatusInternalServerError {
		p.Detail = "internal error; the log tells more under " + s.logFailure(ctx, route, err)
	}
	return p
}
