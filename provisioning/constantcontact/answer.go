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

	"github.com/countersign/countersign/provisioning"
)

const (
	maxAnswer = 64 << 10
	maxWords  = 300 // of the provider's words in an error, in characters
)

// ask sends the request and decodes the provider's JSON into answer. The secrets are those that the
// request carries: should the provider repeat one in its words, the error does not.
//
// The transport is used without an http.Client around it, which would follow redirects and put
// addresses with their query into errors.
func (c *Client) ask(op string, req *http.Request, answer any, secrets ...provisioning.Secret) error {
	ctx, cancel := context.WithTimeout(req.Context(), c.timeout)
	defer cancel()
	req.Header.Set("Accept", "application/json")
	resp, err := c.transport.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return unavailable(op, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return unavailable(op, err)
	}

	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	refusal := c.refusal(op, resp, body, secrets)
	switch status := resp.StatusCode; {
	case errors.Is(refusal, provisioning.ErrProviderUnavailable):
		return refusal
	case status >= 300 && status < 400:
		return unavailable(op, fmt.Errorf("it answered %d, a redirect, which is not followed: check the configured address", status))
	case kind == "text/html":
		return unavailable(op, fmt.Errorf("it answered %d with a web page: check the configured address", status))
	case status < 200 || status > 299:
		return refusal
	case kind != "application/json" && !strings.HasSuffix(kind, "+json"):
		return unavailable(op, fmt.Errorf("it answered with content type %q instead of JSON", clean(kind, secrets)))
	case len(body) > maxAnswer:
		return unavailable(op, fmt.Errorf("its answer is longer than %d bytes", maxAnswer))
	case refusal.Code != "":
		return refusal
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return unavailable(op, fmt.Errorf("its answer is not understood: %w", err))
	}
	return nil
}

func unavailable(op string, err error) error {
	return fmt.Errorf("%s: %w: %w", op, provisioning.ErrProviderUnavailable, err)
}

// refusal reads the answer as if it were one: its code is empty if the body has none.
func (c *Client) refusal(op string, resp *http.Response, body []byte, secrets []provisioning.Secret) *provisioning.ProviderError {
	code, description := complaint(body)
	return &provisioning.ProviderError{
		Op:          op,
		Status:      resp.StatusCode,
		Code:        clean(code, secrets),
		Description: clean(description, secrets),
		RetryAfter:  c.retryAfter(resp.Header.Get("Retry-After"), code),
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
	} else if code == "quota_exceeded" {
		wait = now.Truncate(day).Add(day).Sub(now)
	}
	return min(max(wait, 0), day)
}
