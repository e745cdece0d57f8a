package bounce

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

var (
	// statusCode is a status of RFC 3463. Its second number tells it from most versions of programs.
	statusCode = regexp.MustCompile(`^[245]\.[0-7]\.\d{1,3}$`)
	// numbers are such codes, IP addresses and versions.
	numbers = regexp.MustCompile(`\d+(?:\.\d+)+`)
	// replyCode is the beginning of an SMTP server's refusal.
	replyCode = regexp.MustCompile(`(?:^|[\s:])([45])\d\d(?:[ :-]|$)`)
)

// statusCodes returns the codes of RFC 3463 in a text.
func statusCodes(text string) []string {
	return slices.DeleteFunc(numbers.FindAllString(text, -1), func(n string) bool { return !statusCode.MatchString(n) })
}

// judge decides on the kind of a recipient's fate by what the report says: action is one of RFC 3464's or empty, status a
// code of RFC 3463 or empty.
func (f *Fate) judge(action, status string) {
	f.Status = specific(status, f.Diagnostic)
	if action == "" && strings.HasPrefix(f.Status, "2.") {
		action = "delivered"
	}
	var v verdict
	switch action {
	case "delivered", "relayed", "expanded":
		v = verdict{kind: Delivered, words: "The mail was delivered, or passed on to a mail server that sends no reports."}
	case "delayed":
		v = verdict{kind: Delayed, words: "The mail has not got through to {server} yet, and is still being tried."}
	default:
		v = judgeFailure(f.Status, plain(f.Diagnostic))
	}
	f.Kind = v.kind
	_, domain, _ := strings.Cut(cmp.Or(f.Final, f.Recipient), "@")
	server := "the mail server"
	if domain != "" {
		server += " of " + domain
	}
	words := strings.NewReplacer("{server}", server, "{domain}", cmp.Or(domain, "the recipient’s domain")).Replace(v.words)
	f.Words = oneLine(strings.ToUpper(words[:1]) + words[1:])
}

// specific returns the code that says most: that of the server's answer where the report's own is missing or speaks of
// nothing in particular.
func specific(status, diagnostic string) string {
	if status != "" && !strings.Contains(status, ".0.") {
		return status
	}
	for _, code := range statusCodes(diagnostic) {
		if status == "" || code[0] == status[0] && !strings.Contains(code, ".0.") {
			return code
		}
	}
	if status == "" {
		if code := replyCode.FindStringSubmatch(diagnostic); code != nil {
			return code[1] + ".0.0"
		}
	}
	return status
}

// verdict is a rule. In its words, {server} and {domain} are the recipient's.
type verdict struct {
	status string // what it is for; with a dot at its end, for all codes that begin like that
	kind   Kind
	words  string
}

const (
	saysUnknown = "{server} says that there is no such mailbox."
	saysFull    = "{server} says that the mailbox is full."
	saysTooBig  = "{server} says that the mail is too big."
	saysNoRoute = "Nobody takes mail for {domain}: it does not exist, or has no mail server."
	saysLate    = "The mail server of {domain} could not be reached in time."
	saysPolicy  = "{server} refused the mail by its rules against unwanted mail. That says nothing against the address."
)

// table says what the codes of RFC 3463 and IANA's registry mean for an address. The first rule that fits holds, so that
// general ones come last.
func table() []verdict {
	return []verdict{
		{"5.1.2", Hard, saysNoRoute},
		{"5.1.3", Hard, "{server} says that this is not a valid address."},
		{"5.1.4", Hard, "{server} says that the address fits several mailboxes."},
		{"5.1.6", Hard, "{server} says that the mailbox has moved, and not where to."},
		{"5.1.7", Policy, "{server} does not accept our sender address."},
		{"5.1.8", Policy, "{server} does not accept the domain of our sender address."},
		// A domain that takes no mail (RFC 7505); Exchange Online says so of unknown mailboxes.
		{"5.1.10", Hard, "{server} says that nobody takes mail at this address."},
		{"5.1.", Hard, saysUnknown},
		{"5.2.1", Hard, "{server} says that the mailbox is closed."},
		{"5.2.2", Soft, saysFull},
		{"5.2.3", Policy, saysTooBig},
		{"5.2.4", Hard, "{server} says that the address is a mailing list that does not work."},
		// There is such a mailbox.
		{"5.2.", Soft, "{server} says that something is wrong with the mailbox."},
		{"5.3.3", Policy, "{server} does not support something that the mail needs."},
		{"5.3.4", Policy, saysTooBig},
		// A fault of the system, whoever the recipient is.
		{"5.3.", Soft, "{server} has a trouble of its own."},
		{"5.4.4", Hard, saysNoRoute},
		{"5.4.310", Hard, saysNoRoute}, // Exchange Online: the domain does not exist
		{"5.4.", Soft, saysLate},
		// How we spoke, and how the mail is made: the next recipient's server would say the same.
		{"5.5.", Policy, "{server} did not accept the way in which the mail was handed over."},
		{"5.6.", Policy, "{server} did not accept the form of the mail."},
		{"5.7.", Policy, saysPolicy},
		{"5.", Hard, "{server} refused the address for good, and did not say why."},
		{"4.2.2", Soft, saysFull},
		{"4.4.", Soft, saysLate},
		{"4.7.", Soft, "{server} put the mail off by its rules until it was given up."},
		{"4.", Soft, "{server} put the mail off until it was given up."},
		// A report that gives no reason is no reason to give up an address.
		{"", Soft, "The mail could not be delivered. The report does not say why."},
	}
}

// What servers say beside their codes, and often in contradiction to them.
var (
	saysOverQuota = regexp.MustCompile(`(?:over|exceed(?:s|ed|ing)?) ?(?:its |the |his |their |storage |disk |mailbox )*quota|quota (?:is |has been |was )?(?:exceeded|full|reached)|` +
		`overquota|mailbox (?:is |was )?(?:over ?)?full|out of (?:storage|disk)|(?:insufficient|not enough) (?:system |disk )?(?:storage|space)|exceeded storage|storage (?:limit|allocation) exceeded`)
	saysSize       = regexp.MustCompile(`(?:message|mail|e-?mail)(?: file)? (?:size |is |was |header size )*(?:exceeds|too (?:big|large|long))|(?:maximum|fixed) (?:message )?size|size limit`)
	saysBusy       = regexp.MustCompile(`receiving (?:e-?mail|mail) (?:too quickly|at a rate)`)
	saysSuppressed = regexp.MustCompile(`suppression list|suppressed`)
	// saysOurs is said of the sender, even where it sounds like something said of the recipient.
	saysOurs = regexp.MustCompile(`\bsender\b|return[- ]path|envelope from|\bmail from\b|\b(?:helo|ehlo)\b|client host|\brelay|` +
		`\byour (?:sending )?(?:account|ip|domain|server|hosts?|hostname|network|mta|reputation)\b|invalid dns mx`)
	saysUnwanted = regexp.MustCompile(`spam|unsolicited|bulk mail|black ?-?list|block ?-?list|deny ?-?list|\bblock(?:ed|ing)?\b|\brbl\b|dnsbl|reputation|` +
		`\bd(?:marc|kim)\b|\bspf\b|authenticat|\bpolic(?:y|ies)\b|virus|malware|phish|suspicious|\bcontent\b|` +
		`(?:message|mail|transaction|connection)(?: (?:was|has been|is))? (?:rejected|refused|denied)|` +
		`rate ?-?limit|too many|access denied|banned|prohibit|not (?:allowed|permitted|authorized)|reverse dns|\bptr\b|listed (?:at|by|in|on) `)
	// saysNobody is said of a recipient and of nothing else, so that it counts under 5.7.1 as well.
	saysNobody = regexp.MustCompile(`(?:user|recipient|mailbox|addressee)(?: name)?(?: is| was)? (?:unknown|not found|not known)|` +
		`unknown (?:local )?(?:user|recipient|mailbox|addressee)|no such (?:local |virtual )?(?:user|mailbox|recipient|person)|` +
		`(?:user|recipient|mailbox)(?: [^.;:]{0,40})? (?:does not|doesn't|doesnt) exist`)
	saysNoMailbox = regexp.MustCompile(`(?:account|address|alias)(?: name)?(?: is| was)? (?:unknown|not found|not known|invalid)|` +
		`(?:user|recipient|mailbox)(?: is)? (?:invalid|non-?existent)|unknown (?:or illegal )?(?:address|alias|account|local[- ]part)|` +
		`no such (?:address|account|alias)|(?:account|address|alias)(?: [^.;:]{0,60})? (?:does not|doesn't|doesnt) exist|` +
		`no (?:mailbox|user|account) (?:here|by that|with that)|(?:does not|doesn't) have an? [^.;:]{0,40}account|` +
		`not listed in [^.;:]{0,40}directory|not (?:a |our |an )?(?:valid|known|existing) (?:user|recipient|mailbox|customer|address)|` +
		`invalid (?:recipient|mailbox|user|address)|unrouteable address|undeliverable address|mailbox unavailable`)
	saysShut = regexp.MustCompile(`(?:account|mailbox|user|recipient)[^.;:]{0,50}\b(?:disabled|inactive|suspended|deactivated|closed|terminated|blocked|locked|` +
		`discontinued|no longer (?:active|available|valid|in use|with|exists|works?))\b`)
	saysNoDomain = regexp.MustCompile(`(?:host|domain)(?: or domain)?(?: name)? (?:not found|does not exist|doesn't exist)|\bnxdomain\b|null ?mx|unrouteable (?:mail )?domain|` +
		`(?:domain|host) (?:does not|doesn't) (?:accept|receive)|no mail exchanger|no mx (?:record|host)|mx records? point to non-?existent`)
	saysGaveUp = regexp.MustCompile(`retry time|timed? ?out|connection refused|no route to host|unreachable|expired|been failing for a long time|` +
		`too long in (?:the )?queue|could not be reached|lost connection|try again|temporar`)
)

// judgeFailure decides what a failure means. What the server said goes before its code where the two disagree, and what is
// said of us before what is said of the recipient: a mail too many is better than an address given up for our own fault.
//
// Only a status of class 5, or none, can be Hard.
func judgeFailure(status, said string) verdict {
	class, _, _ := strings.Cut(status, ".")
	barred := strings.HasPrefix(status, "5.7.")
	switch {
	case saysOverQuota.MatchString(said):
		return verdict{kind: Soft, words: saysFull}
	case class == "4", class == "2":
		return lookUp(status)
	case saysSize.MatchString(said):
		return verdict{kind: Policy, words: saysTooBig}
	case saysBusy.MatchString(said):
		return verdict{kind: Soft, words: "{server} says that the mailbox gets too much mail at the moment."}
	case !barred && saysSuppressed.MatchString(said):
		return verdict{kind: Hard, words: "Our mail service does not send to this address: it is on its list of addresses that bounced or complained before."}
	case status == "5.4.1" && strings.Contains(said, "recipient address rejected: access denied"):
		return verdict{kind: Hard, words: saysUnknown} // Exchange Online's way to say it
	case saysOurs.MatchString(said):
		return verdict{kind: Policy, words: saysPolicy}
	}
	rest := saysNobody.ReplaceAllLiteralString(said, "")
	nobody := len(rest) < len(said)
	if !barred {
		rest = saysShut.ReplaceAllLiteralString(saysNoMailbox.ReplaceAllLiteralString(rest, ""), "")
	}
	switch {
	case saysUnwanted.MatchString(rest):
		return verdict{kind: Policy, words: saysPolicy}
	case nobody && (!barred || status == "5.7.1" || status == "5.7.0"):
		return verdict{kind: Hard, words: saysUnknown}
	case barred:
		return lookUp(status)
	case saysShut.MatchString(said):
		return verdict{kind: Hard, words: "{server} says that the mailbox is closed."}
	case saysNoMailbox.MatchString(said):
		return verdict{kind: Hard, words: saysUnknown}
	case saysNoDomain.MatchString(said):
		return verdict{kind: Hard, words: saysNoRoute}
	case saysGaveUp.MatchString(said):
		return verdict{kind: Soft, words: saysLate}
	}
	return lookUp(status)
}

func lookUp(status string) verdict {
	for _, v := range table() {
		if v.status == status || v.status == "" || strings.HasSuffix(v.status, ".") && strings.HasPrefix(status, v.status) {
			return v
		}
	}
	return verdict{}
}

// names are addresses, hosts and links: what they are called says nothing about what happened.
var names = regexp.MustCompile(`https?:\S+|<[^<>]*>|\S+@\S+|\[[^\[\]]*\]|[\w-]+(?:\.[\w-]+)+`)

// plain is what a server said in words alone, in lower case.
func plain(diagnostic string) string {
	said := strings.ToLower(strings.NewReplacer("’", "'", "_", " ").Replace(diagnostic))
	return strings.Join(strings.Fields(names.ReplaceAllLiteralString(said, " ")), " ")
}
