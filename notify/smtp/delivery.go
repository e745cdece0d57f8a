package smtp

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// verdictGrace is how long the verdict on a message is awaited after the sender's context ended, at most.
const verdictGrace = 10 * time.Second

// deliver sends one message and reports whether the connection can carry another. The package comment says what it relies
// on.
func (c *connection) deliver(ctx context.Context, e *Envelope) (healthy bool, failed *Error) {
	if failed = c.objection(e); failed != nil {
		return true, failed
	}
	asked, told := c.stages()
	if failed = c.ask(ctx, e, asked); failed != nil {
		return c.recovered(failed), failed
	}
	c.carried++
	quiet, failed := c.tell(ctx, e, told)
	switch {
	case !quiet: // the context is about to set a deadline of its own
		return false, failed
	case failed != nil:
		return c.recovered(failed), failed
	}
	return !c.said(), nil
}

// objection is what keeps a message from being sent over this connection before a word is said.
func (c *connection) objection(e *Envelope) *Error {
	for _, address := range []string{e.From, e.To} {
		var err error
		switch {
		case strings.ContainsFunc(address, unicode.IsControl):
			err = fmt.Errorf("%q has a control character: correct the address", address)
		case !c.utf8 && !ascii(address):
			err = fmt.Errorf("%s needs SMTPUTF8, which the server does not offer: use an address in plain ASCII", address)
		default:
			continue
		}
		if address == e.From {
			return &Error{Kind: Temporary, Config: true, Step: stepHello, Err: err}
		}
		return &Error{Kind: Permanent, Step: stepHello, Err: err}
	}
	return nil
}

// stages returns the steps that are asked before the message is risked, and those that go out with it.
func (c *connection) stages() (asked, told []Step) {
	steps := []Step{stepMail, stepRcpt, stepData, stepVerdict}
	if c.chunking {
		steps = []Step{stepMail, stepRcpt, stepVerdict}
		if time.Since(c.heard) < c.trust {
			return nil, steps
		}
	}
	last := len(steps) - 1
	return steps[:last], steps[last:]
}

// ask goes through steps by which nothing is accepted yet, so that the context may end them anywhere.
func (c *connection) ask(ctx context.Context, e *Envelope, steps []Step) *Error {
	if len(steps) == 0 {
		return nil
	}
	stop := context.AfterFunc(ctx, func() { _ = c.raw.Close() })
	together := 1
	if c.pipelining {
		together = len(steps)
	}
	var (
		at  Step
		err error
	)
	for group := range slices.Chunk(steps, together) {
		c.arm(c.timeout)
		at, err = group[0], c.say(e, group)
		if err == nil {
			at, err = c.hear(group)
		}
		if err != nil {
			break
		}
	}
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return interrupted(ctx, failure(at, err))
	}
	return nil
}

// tell hands over the message. From here the context only shortens the wait for the verdict; tell reports whether it did not.
func (c *connection) tell(ctx context.Context, e *Envelope, steps []Step) (quiet bool, failed *Error) {
	patience := 5 * c.timeout
	c.arm(patience)
	stop := context.AfterFunc(ctx, func() { c.arm(min(patience, verdictGrace)) })
	if err := c.say(e, steps); err != nil {
		at := steps[0]
		if at == stepVerdict {
			at = stepData // there can be no verdict on a message without its end
		}
		return stop(), interrupted(ctx, failure(at, err))
	}
	at, err := c.hear(steps)
	quiet = stop()
	if err == nil {
		return quiet, nil
	}
	failed = interrupted(ctx, failure(at, err))
	if !refuses(failed.Code) {
		failed.Kind, failed.Config = Unknown, false
	}
	return quiet, failed
}

// say writes what belongs to the steps at once. When it fails, the server has not got the last byte.
func (c *connection) say(e *Envelope, steps []Step) error {
	c.out = c.out[:0]
	for _, step := range steps {
		c.compose(e, step)
	}
	// Text's writer takes what is longer than its buffer as one piece and does not copy it.
	w := c.client.Text.W
	if _, err := w.Write(c.out); err != nil {
		return err
	}
	return w.Flush()
}

func (c *connection) compose(e *Envelope, step Step) {
	add := func(parts ...string) {
		for _, part := range parts {
			c.out = append(c.out, part...)
		}
	}
	switch step {
	case stepMail:
		add("MAIL FROM:<", e.From, ">")
		if c.eightBit {
			add(" BODY=8BITMIME")
		}
		// Only where it is needed: a next hop without SMTPUTF8 bounces what was sent with it.
		if !ascii(e.From) || !ascii(e.To) {
			add(" SMTPUTF8")
		}
		add("\r\n")
	case stepRcpt:
		add("RCPT TO:<", e.To, ">\r\n")
	case stepData:
		add("DATA\r\n")
	default: // the message
		if c.chunking {
			add("BDAT ", strconv.Itoa(len(e.Body)), " LAST\r\n")
			c.out = append(c.out, e.Body...)
			return
		}
		c.out = appendStuffed(c.out, e.Body)
	}
}

// appendStuffed appends a message as DATA wants it: with a second dot where a line begins with one, and a dot at the end. A
// line begins after every LF, for the sake of servers that see one there.
func appendStuffed(out, body []byte) []byte {
	if bytes.HasPrefix(body, []byte(".")) {
		out = append(out, '.')
	}
	rest := body
	for {
		at := bytes.Index(rest, []byte("\n."))
		if at < 0 {
			break
		}
		out = append(append(out, rest[:at+2]...), '.')
		rest = rest[at+2:]
	}
	out = append(out, rest...)
	if !bytes.HasSuffix(body, []byte("\r\n")) {
		out = append(out, "\r\n"...)
	}
	return append(out, ".\r\n"...)
}

// hear reads one answer to each step. It returns the first that is no consent, with its step, or else the last step.
func (c *connection) hear(steps []Step) (at Step, refusal error) {
	for _, step := range steps {
		code, _, err := c.client.Text.ReadResponse(consent(step))
		if refusal == nil {
			at, refusal = step, err
		} else if err == nil {
			c.derailed = true
		}
		if err != nil && (!refuses(code) || code == closing) {
			c.derailed = true // there is nothing more to come
			break
		}
	}
	c.heard = time.Now()
	return at, refusal
}

// refuses tells the codes by which a server says no.
func refuses(code int) bool { return code/100 == 4 || code/100 == 5 }

// closing is the code with which a server hangs up.
const closing = 421

// consent is the code by which a server goes along with a step, as textproto's ReadResponse wants it.
func consent(step Step) int {
	switch step {
	case stepRcpt:
		return 25 // 250, or 251 from one that forwards
	case stepData:
		return 354
	default:
		return 250
	}
}

// said tells that the server has said more than it was asked.
func (c *connection) said() bool { return c.client.Text.R.Buffered() > 0 }

// recovered brings the dialogue back to where MAIL may follow and reports whether it is there.
func (c *connection) recovered(failed *Error) bool {
	if !refuses(failed.Code) || c.derailed || c.said() {
		return false
	}
	// A refused MAIL has begun nothing, and a verdict on DATA ends what it was about; after BDAT nobody knows.
	if failed.Step == stepMail || (failed.Step == stepVerdict && !c.chunking) {
		return true
	}
	c.arm(c.timeout)
	return c.client.Reset() == nil
}
