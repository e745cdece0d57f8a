package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humagin"
	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/audit"
	"github.com/countersign/countersign/provisioning/once"
)

const (
	mostIdempotencyKey = 255
	mostKeptAnswer     = 1 << 20 // of what changes something: every such answer is far shorter
)

var errBadIdempotencyKey = fmt.Errorf("the Idempotency-Key is not one of 1 to %d visible characters: take a UUID", mostIdempotencyKey)

// once carries a POST out once, however often it is sent with one Idempotency-Key
// (draft-ietf-httpapi-idempotency-key-header). Package once says what holds when a process dies. A body is read once,
// as it comes, also if it is a file: what came with the key before is compared when all of it has been read.
//
// Only success is kept. What was refused has changed nothing and may be corrected and sent again with the same key.
func (s *Server) once(ctx huma.Context, holder uuid.UUID, secret provisioning.Secret, next func(huma.Context)) {
	header := ctx.Header("Idempotency-Key")
	if ctx.Operation().Method != http.MethodPost || header == "" {
		next(ctx)
		return
	}
	c := humagin.Unwrap(ctx)
	if err := s.carryOut(ctx, c, header, holder, secret, next); err != nil {
		s.fail(c, err)
	}
}

func (s *Server) carryOut(
	ctx huma.Context, c *gin.Context, header string, holder uuid.UUID, secret provisioning.Secret, next func(huma.Context),
) (err error) {
	key := strings.TrimSpace(header)
	if quoted, ok := strings.CutPrefix(key, `"`); ok { // a string, as the draft has it; many send the bare word
		key = strings.TrimSuffix(quoted, `"`)
	}
	if key == "" || len(key) > mostIdempotencyKey || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errBadIdempotencyKey
	}
	op := ctx.Operation()
	body := fingerprinted(c.Request)
	c.Request.Body = body
	run, before, err := s.Once.Begin(ctx.Context(), once.Request{Holder: holder, Route: op.Method + " " + op.Path, Key: key, Secret: secret})
	switch {
	case err != nil:
		return err
	case before != nil:
		return replay(c, before, body)
	}
	defer func() {
		if run != nil { // It has failed, or panicked.
			err = errors.Join(err, run.Forget(context.WithoutCancel(ctx.Context())))
		}
	}()
	work, stop := context.WithCancel(audit.With(ctx.Context(), run.Mark))
	defer stop()
	go run.Hold(work)
	kept := &keptAnswer{ResponseWriter: c.Writer}
	c.Writer = kept
	func() {
		defer func() { c.Writer = kept.ResponseWriter }()
		next(huma.WithContext(ctx, work))
	}()
	if status := c.Writer.Status(); status < http.StatusMultipleChoices && kept.body.Len() <= mostKeptAnswer {
		var answer []byte
		answer, err = kept.text()
		if err == nil {
			err = body.drain()
		}
		if err == nil {
			err = run.End(context.WithoutCancel(ctx.Context()), body.sum(), answer)
		}
		if err != nil { // What was done is done, and told: only a repeated request would not be answered so.
			s.Log.ErrorContext(ctx.Context(), "the answer to a request with an Idempotency-Key cannot be kept", "err", err)
		} else {
			run = nil
		}
	}
	return kept.send()
}

// replay answers as before.
func replay(c *gin.Context, before *once.Answer, body *fingerprint) error {
	if err := body.drain(); err != nil {
		return errors.Join(errBadRequest, err)
	}
	text, err := before.Open(body.sum())
	if err != nil {
		return err
	}
	var answer toldAnswer
	if err := json.Unmarshal(text, &answer); err != nil {
		return fmt.Errorf("read a kept answer: %w", err)
	}
	maps.Copy(c.Writer.Header(), answer.Header)
	c.Header("Idempotency-Replayed", "true")
	c.Status(answer.Status)
	_, err = c.Writer.Write(answer.Body)
	return err
}

// toldAnswer is an answer as it is kept. Header has what is about the answer, and not about the connection or the
// moment.
type toldAnswer struct {
	Status int
	Header http.Header
	Body   []byte
}

// keptAnswer holds an answer back until it is kept: who has seen any of it gets all of it again.
type keptAnswer struct {
	gin.ResponseWriter

	body bytes.Buffer
}

func (k *keptAnswer) Write(p []byte) (int, error) { return k.body.Write(p) }

func (k *keptAnswer) WriteString(text string) (int, error) { return k.body.WriteString(text) }

// Unwrap is how net/http finds the connection behind it.
func (k *keptAnswer) Unwrap() http.ResponseWriter { return k.ResponseWriter }

func (k *keptAnswer) text() ([]byte, error) {
	answer := toldAnswer{Status: k.Status(), Header: http.Header{}, Body: k.body.Bytes()}
	for _, name := range []string{"Content-Type", "Etag", "Location"} {
		if values := k.Header().Values(name); len(values) > 0 {
			answer.Header[name] = values
		}
	}
	return json.Marshal(answer)
}

func (k *keptAnswer) send() error {
	_, err := k.body.WriteTo(k.ResponseWriter)
	return err
}

// fingerprint reads a request's body and sums up what the request asks.
type fingerprint struct {
	io.ReadCloser

	hash  hash.Hash
	ended bool // Who has read all of it may have closed it.
}

func fingerprinted(r *http.Request) *fingerprint {
	f := &fingerprint{ReadCloser: r.Body, hash: sha256.New()}
	fmt.Fprintf(f.hash, "%q %q\n", r.URL.EscapedPath(), r.URL.RawQuery)
	return f
}

func (f *fingerprint) Read(p []byte) (int, error) {
	n, err := f.ReadCloser.Read(p)
	f.hash.Write(p[:n])
	f.ended = f.ended || err == io.EOF
	return n, err
}

// drain reads what nobody wanted to know: it is a part of the request nevertheless.
func (f *fingerprint) drain() error {
	if f.ended {
		return nil
	}
	_, err := io.Copy(io.Discard, io.LimitReader(f, mostRosterFile))
	return err
}

func (f *fingerprint) sum() []byte { return f.hash.Sum(nil) }
