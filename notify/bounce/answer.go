package bounce

import (
	"cmp"
	"regexp"
	"strings"
)

var (
	// awaySubject begins the subjects of automatic answers.
	awaySubject = regexp.MustCompile(`(?i)^(?:(?:re|aw|antwort|sv|rv|res)\s*:\s*)*(?:auto(?:matic|mated|matisch[er]*)?[ :-]*(?:reply|response|antwort\w*|answer)|autoreply|` +
		`out of (?:the )?office|ooo\b|on (?:vacation|holiday|leave)|away from|abwesen|urlaub|ich bin (?:nicht|derzeit)|` +
		`r[ée]ponse automatique|absence|absent|en cong[ée]|respuesta autom[áa]tica|fuera de (?:la )?oficina|ausente|de vacaciones|` +
		`resposta autom[áa]tica|aus[êe]ncia|fora do escrit[óo]rio|de f[ée]rias|risposta automatica|fuori (?:sede|ufficio)|automatisch antwoord|afwezig|autosvar)`)
	// challengeWords ask the sender to prove that he is a person.
	challengeWords = regexp.MustCompile(`(?i)confirm (?:that )?(?:you are|you're|your (?:message|e-?mail|delivery|identity))|verify (?:that )?(?:you are|you're|your(?:self| message| e-?mail| identity))|` +
		`(?:sender|message|e-?mail) (?:verification|confirmation) (?:is )?(?:required|request)|anti-?spam (?:verification|challenge)|prove (?:that )?you are (?:a )?(?:human|person)|` +
		`(?:please )?(?:click|reply|respond)[^.]{0,60}(?:so that|to (?:have|get|release|deliver|ensure)) (?:your|this) (?:message|e-?mail|mail)`)
)

// readAnswer tells what machines write from what people do.
func (r *Report) readAnswer(m message, text string) {
	opening := r.Subject + "\n" + text
	from := cmp.Or(r.From, "The mailbox")
	machine := m.isAutomatic()
	switch {
	case m.part(typeDisposition) != nil:
		r.Kind, r.Words = AutoReply, from+" sent a receipt."
	case m.isChallenge(), (machine || m.hintsAtMachine()) && challengeWords.MatchString(opening):
		r.Kind, r.Words = Challenge, from+" asks the sender to prove to be a person before the mail is let through."
	case m.part(typeDelivery, typeGlobalDelivery) != nil:
		r.Kind, r.Words = Unparsed, "This is a delivery report with nothing in it that can be understood."
	case m.isReport():
		r.Kind, r.Words = Unparsed, "This is a report, but the part for programs is missing: it breaks off before, or was taken out."
	case mailer.MatchString(m.header.raw("from")):
		r.Kind, r.Words = Unparsed, "A mail server wrote this, and it is not known what it means."
	case machine, awaySubject.MatchString(r.Subject) && m.hintsAtMachine():
		r.Kind, r.Words = AutoReply, from+" answered automatically."
	case r.From == "":
		r.Kind, r.Words = Unparsed, "It does not say who wrote it."
	default:
		r.Kind, r.Words = Reply, from+" wrote an answer."
	}
}

// isAutomatic reports whether a mail says that no person wrote it (RFC 3834, and what programs used before).
func (m message) isAutomatic() bool {
	submitted, _, _ := strings.Cut(strings.ToLower(m.header.line("auto-submitted")), ";")
	submitted = strings.TrimSpace(submitted)
	precedence := strings.ToLower(m.header.line("precedence"))
	return submitted != "" && submitted != "no" || precedence == "auto_reply" ||
		m.header.has("x-autoreply") || m.header.has("x-autorespond") || m.header.has("x-autoresponder") || m.header.has("x-auto-reply") || m.header.has("x-mail-autoreply")
}

// hintsAtMachine reports signs that people's mails may have as well.
func (m message) hintsAtMachine() bool {
	switch strings.ToLower(m.header.line("precedence")) {
	case "bulk", "junk", "list":
		return true
	}
	return m.isMailer() || m.header.has("x-auto-response-suppress") || m.header.has("list-id")
}

// isChallenge reports whether a program that is known to ask back wrote a mail.
func (m message) isChallenge() bool {
	return m.header.has("x-spamarrest") || m.header.has("x-tmda-confirm") || m.header.has("x-boxbe-challenge") || m.header.has("x-qconfirm") ||
		strings.HasPrefix(strings.ToLower(m.header.line("x-delivery-agent")), "tmda")
}

// isReport reports whether a mail is meant to have a part for programs (RFC 6522).
func (m message) isReport() bool {
	media, _ := m.header.mediaType()
	return media == "multipart/report"
}
