package bounce

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	typeDelivery       = "message/delivery-status"
	typeGlobalDelivery = "message/global-delivery-status"
	typeFeedback       = "message/feedback-report"
	typeDisposition    = "message/disposition-notification"
)

// reportTypes are those of parts that programs are meant to read.
func reportTypes() []string {
	return []string{typeFeedback, typeDelivery, typeGlobalDelivery, typeDisposition}
}

// readDelivery reads a delivery report (RFC 3464). It is false where there is none, or nothing in it.
func (r *Report) readDelivery(m message) bool {
	p := m.part(typeDelivery, typeGlobalDelivery)
	if p == nil {
		return false
	}
	var fates []Fate
	for _, group := range groups(p.decoded()) {
		if r.ReportingMTA == "" {
			r.ReportingMTA = host(group.line("reporting-mta"))
		}
		// Gmail names the mail in a field of its own, and returns little of it.
		if r.MessageID == "" {
			r.MessageID = identifier(group.raw("x-original-message-id"))
		}
		if f, ok := readFate(group); ok {
			fates = append(fates, f)
		}
	}
	if len(fates) == 0 {
		return false
	}
	r.decide(fates)
	return true
}

// groups parts a report into its groups of fields, the first of which is about the mail and the others about recipients.
func groups(content []byte) (list []header) {
	var f fields
	for line := range bytes.Lines(content) {
		line = bytes.TrimRight(line, "\r\n")
		if len(bytes.TrimSpace(line)) > 0 {
			f.add(line)
			continue
		}
		if len(f.header) > 0 {
			list = append(list, f.header)
		}
		f = fields{}
		if len(list) == maxAddresses {
			return list
		}
	}
	if len(f.header) > 0 {
		list = append(list, f.header)
	}
	return list
}

// readFate reads a group about a recipient.
func readFate(group header) (Fate, bool) {
	if !group.has("final-recipient") && !group.has("original-recipient") && !group.has("action") && !group.has("status") {
		return Fate{}, false
	}
	f := Fate{
		Recipient:  mailbox(group.raw("original-recipient")),
		Final:      mailbox(group.raw("final-recipient")),
		Diagnostic: typed(group.line("diagnostic-code")),
		RemoteMTA:  host(group.line("remote-mta")),
	}
	if f.Recipient == "" {
		f.Recipient = f.Final
	}
	action, _, _ := strings.Cut(strings.ToLower(group.line("action")), " ")
	status := ""
	if codes := statusCodes(group.line("status")); len(codes) > 0 {
		status = codes[0]
	}
	f.judge(action, status)
	return f, true
}

// typeName is what stands before the value of a field that says what its value is, as in "rfc822; user@example.com".
var typeName = regexp.MustCompile(`^[A-Za-z0-9._-]*[ \t]*;[ \t]*`)

func typed(value string) string { return typeName.ReplaceAllLiteralString(value, "") }

// host reads a mail server's field, behind whose name some write more.
func host(value string) string {
	name, _, _ := strings.Cut(typed(value), " ")
	return strings.TrimRight(name, ".")
}

// mailbox reads a recipient's field.
func mailbox(value string) string {
	value = escaped.ReplaceAllStringFunc(toUTF8([]byte(typed(value)), ""), func(e string) string {
		n, err := strconv.ParseInt(e[3:len(e)-1], 16, 32)
		if err != nil || !utf8.ValidRune(rune(n)) {
			return e
		}
		return string(rune(n))
	})
	return oneLine(strings.Trim(value, "<> \t"))
}

// escaped is a letter in an international address as reports write it (RFC 6533, 3).
var escaped = regexp.MustCompile(`\\x\{[0-9A-Fa-f]{2,6}\}`)
