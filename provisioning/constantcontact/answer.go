package constantcontact

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/countersign/countersign/provisioning"
)

const (
	maxAnswer = 64 << 10
	maxWords  = 300 // of the provider's words in an error, in characters
)

// quotaExceeded is the provider's word for a day's calls that are used up.
const quotaExceeded = "quota_exceeded"

// ask sends the request when the budget has a turn for it, and decodes the provider's JSON into answer. The
// secrets are those that the request carries: should the provider repeat one in its words, the error does not.
//
// The transport is used without an http.Client around it, which would follow redirects and put
// addresses with their query into errors. The time limit counts from the turn.
func (c *Client) ask(op string, budget Budget, req *http.Request, answer any, secrets ...provisioning.Secret) error {
	done, err := budget.Take(req.Context())
	if err != nil {
		return unavailable(op, noTurn{err})
	}
	var mark postmark
	got, err := c.send(req, &mark)
	if err != nil {
		done(mark.mayHaveArrived())
		if mark.mayHaveArrived() {
			return unknown(op, err)
		}
		return unavailable(op, err)
	}
	refusal := c.refusal(op, got, secrets)
	tell(req.Context(), budget, refusal)
	done(true)

	kind, _, _ := mime.ParseMediaType(got.header.Get("Content-Type"))
	switch status := got.status; {
	case status >= 500 && refusal.RetryAfter == 0:
		// It broke after it had begun, or a gateway gave up on a server that goes on.
		return fmt.Errorf("%w; %w", refusal, provisioning.ErrOutcomeUnknown)
	case errors.Is(refusal, provisioning.ErrProviderUnavailable):
		return refusal
	case status >= 300 && status < 400:
		return unavailable(op, fmt.Errorf("it answered %d, a redirect, which is not followed: check the configured address", status))
	case kind == "text/html" && (status < 200 || status > 299):
		return unavailable(op, fmt.Errorf("it answered %d with a web page: check the configured address", status))
	case status < 200 || status > 299:
		return refusal
	case kind == "text/html":
		return unknown(op, fmt.Errorf("it answered %d with a web page: check the configured address", status))
	case kind != "application/json" && !strings.HasSuffix(kind, "+json"):
		return unknown(op, fmt.Errorf("it answered with content type %q instead of JSON", clean(kind, secrets)))
	case len(got.body) > maxAnswer:
		return unknown(op, fmt.Errorf("its answer is longer than %d bytes", maxAnswer))
	case !utf8.Valid(got.body): // encoding/json would put other characters into the tokens
		return unknown(op, errors.New("its answer is not UTF-8"))
	case refusal.Code != "":
		return refusal
	}
	if err := json.Unmarshal(got.body, answer); err != nil {
		return unknown(op, fmt.Errorf("its answer is not understood: %w", err))
	}
	return nil
}

// reply is an answer that was read, to its end or a little further than an answer may be long.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// send makes the call and reads what comes back.
func (c *Client) send(req *http.Request, mark *postmark) (reply, error) {
	ctx, cancel := context.WithTimeout(mark.trace(req.Context()), c.timeout)
	defer cancel()
	req.Header.Set("Accept", "application/json")
	resp, err := c.transport.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	return reply{resp.StatusCode, resp.Header, body}, err
}

func unavailable(op string, err error) error {
	return fmt.Errorf("%s: %w: %w", op, provisioning.ErrProviderUnavailable, err)
}

// unknown is for what was asked and may have been done, with an answer that did not come or is of no use.
func unknown(op string, err error) error {
	return fmt.Errorf("%s: %w: %w: %w", op, provisioning.ErrProviderUnavailable, provisioning.ErrOutcomeUnknown, err)
}

// refusal reads the answer as if it were one: its code is empty if the body has none.
func (c *Client) refusal(op string, got reply, secrets []provisioning.Secret) *provisioning.ProviderError {
	code, description := complaint(got.body)
	return &provisioning.ProviderError{
		Op:          op,
		Status:      got.status,
		Code:        clean(code, secrets),
		Description: clean(description, secrets),
		RetryAfter:  c.retryAfter(got.header.Get("Retry-After"), code),
	}
}

// complaint finds code and words in every form the provider uses: error and error_description at the
// token endpoint, error_key and error_message or an array of them in the API, message at its gateway.
func complaint(body []byte) (code, description string) {
	type form struct {
		Error            string `json:"error"`
		ErrorDescription string `json:"error_description"`
		ErrorKey         string `json:"error_key"`
		ErrorMessage     string `json:"error_message"`
		Message          string `json:"message"`
	}
	var one form
	if err := json.Unmarshal(body, &one); err != nil {
		var many []form
		if err := json.Unmarshal(body, &many); err == nil && len(many) > 0 {
			one = many[0]
		}
	}
	return cmp.Or(one.ErrorKey, one.Error), cmp.Or(one.ErrorMessage, one.ErrorDescription, one.Message)
}

// clean makes the provider's words fit for an error: no secret, one line, not endless.
func clean(words string, secrets []provisioning.Secret) string {
	for _, s := range secrets {
		if s != "" {
			words = strings.ReplaceAll(words, s.Reveal(), s.String())
		}
	}
	words = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, words)
	if r := []rune(words); len(r) > maxWords {
		words = string(r[:maxWords]) + "…"
	}
	return words
}

// retryAfter reads a Retry-After header of seconds or of a date. Constant Contact sends none, but
// its day's quota is known to begin anew at midnight UTC.
func (c *Client) retryAfter(header, code string) time.Duration {
	const day = 24 * time.Hour
	var wait time.Duration
	now := c.now().UTC()
	if seconds, err := strconv.Atoi(header); err == nil {
		wait = time.Duration(min(seconds, int(day/time.Second))) * time.Second
	} else if at, err := http.ParseTime(header); err == nil {
		wait = at.Sub(now)
	} else if code == quotaExceeded {
		wait = now.Truncate(day).Add(day).Sub(now)
	}
	return min(max(wait, 0), day)
}
