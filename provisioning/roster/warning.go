package roster

import (
	"fmt"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// WarningCode says to a program what is doubtful about a row that was taken. A code never changes its
// meaning.
type WarningCode string

// The codes with which a Reader warns.
const (
	WarningEmailTypo   WarningCode = "email_typo"   // the domain looks like a mistyped mail provider
	WarningEmailRole   WarningCode = "email_role"   // a mailbox of a function, not of a person
	WarningEmailAgency WarningCode = "email_agency" // the agency's own mailbox
	WarningRefRounded  WarningCode = "ref_rounded"  // the ref is a number that lost its last digits
)

// Warning is what a person should look at in a row that was taken all the same.
type Warning struct {
	Line    int         `json:"line" doc:"line of the file on which the record starts"`
	Column  string      `json:"column" doc:"header of the doubtful cell"`
	Code    WarningCode `json:"code"`
	Message string      `json:"message" doc:"what is doubtful, and the cure"`
}

func (r *Row) warn(column string, code WarningCode, format string, args ...any) {
	r.Warnings = append(r.Warnings, Warning{Line: r.Line, Column: column, Code: code, Message: fmt.Sprintf(format, args...)})
}

// warnOfAddress looks at the owner's address, which is a valid one.
func (r *Reader) warnOfAddress(row *Row, column string) {
	local, domain, _ := strings.Cut(row.OwnerEmail, "@")
	user, _, _ := strings.Cut(local, "+")
	if agencyUser, agencyDomain := splitUser(r.agency); domain == agencyDomain && strings.EqualFold(user, agencyUser) {
		row.warn(column, WarningEmailAgency, "%s is the agency's own mailbox: the invitation would not reach the client."+
			" Write the address of the Account Owner.", quote(row.OwnerEmail))
		return // A better address cures the rest as well.
	}
	if meant := r.providers.meant(domain); meant != "" {
		row.warn(column, WarningEmailTypo, "%s looks mistyped. Did you mean %s? If so, write %s.",
			quote(row.OwnerEmail), meant, quote(local+"@"+meant))
	}
	switch roleOf(user) {
	case roleShared:
		row.warn(column, WarningEmailRole, "%s is a shared mailbox: perhaps nobody who reads it can sign in to the account."+
			" Write the address of the Account Owner if you know it.", quote(row.OwnerEmail))
	case roleUnread:
		row.warn(column, WarningEmailRole, "%s is a mailbox that nobody reads, so the invitation would be lost."+
			" Write the address of the Account Owner.", quote(row.OwnerEmail))
	case rolePerson:
	}
}

// splitUser returns the two sides of an address, without a tag.
func splitUser(address string) (user, domain string) {
	local, domain, _ := strings.Cut(address, "@")
	user, _, _ = strings.Cut(local, "+")
	return user, domain
}

type role int

const (
	rolePerson role = iota
	roleShared
	roleUnread
)

// roleOf tells by the local part of an address, without a tag, whom it belongs to.
func roleOf(user string) role {
	if len(user) > len("undisclosed-recipients") {
		return rolePerson
	}
	switch strings.ToLower(user) {
	case "noreply", "no-reply", "no_reply", "no.reply", "donotreply", "do-not-reply", "do_not_reply", "do.not.reply",
		"dontreply", "nepasrepondre", "ne-pas-repondre", "keineantwort", "mailer-daemon", "devnull", "null", "bounce",
		"bounces", "undisclosed-recipients":
		return roleUnread
	case "info", "admin", "administrator", "support", "contact", "contactus", "contact-us", "hello", "hi", "office", "mail",
		"email", "sales", "marketing", "newsletter", "news", "billing", "accounting", "accounts", "finance", "invoice",
		"invoices", "orders", "order", "shop", "store", "service", "customerservice", "customer-service", "customercare",
		"help", "helpdesk", "team", "staff", "enquiries", "enquiry", "inquiries", "inquiry", "reception", "frontdesk",
		"front-desk", "bookings", "booking", "reservations", "jobs", "careers", "hr", "press", "media", "pr", "legal",
		"privacy", "security", "abuse", "postmaster", "hostmaster", "webmaster", "root", "it", "tech", "general", "company",
		"kontakt", "buero", "verwaltung", "buchhaltung", "rechnung", "vertrieb", "verkauf", "bestellung", "zentrale",
		"empfang", "service-center", "accueil", "bonjour", "commercial", "comptabilite", "secretariat", "administration",
		"contacto", "ventas", "hola", "administracion", "contatto", "amministrazione", "vendite",
		"segreteria", "verkoop", "boekhouding", "administratie", "kantoor":
		return roleShared
	}
	return rolePerson
}

// mailProviders finds the well-known mail provider that a mistyped domain stands for.
type mailProviders struct {
	known   map[string]bool   // domains that are right as they are
	names   []mailProvider    // whose names are long enough to tell a mistyped one
	endings map[string]string // top-level domains that do not exist, and what is meant
}

type mailProvider struct{ name, ending string }

func newMailProviders() mailProviders {
	p := mailProviders{
		known: make(map[string]bool),
		names: []mailProvider{
			{"gmail", "com"},
			{"googlemail", "com"},
			{"yahoo", "com"},
			{"hotmail", "com"},
			{"outlook", "com"},
			{"icloud", "com"},
			{"rocketmail", "com"},
			{"protonmail", "com"},
			{"fastmail", "com"},
			{"btinternet", "com"},
			{"comcast", "net"},
			{"verizon", "net"},
			{"sbcglobal", "net"},
			{"bellsouth", "net"},
			{"earthlink", "net"},
			{"optonline", "net"},
			{"t-online", "de"},
			{"wanadoo", "fr"},
			{"laposte", "net"},
			{"yandex", "com"},
			{"bluewin", "ch"},
			{"bigpond", "com"},
			{"sympatico", "ca"},
		},
		endings: map[string]string{
			"con": "com", "cmo": "com", "ocm": "com", "vom": "com", "xom": "com", "comm": "com", "coom": "com", "ccom": "com",
			"cpm": "com", "cim": "com", "clm": "com", "cxm": "com", "c0m": "com", "com1": "com", "comn": "com", "nte": "net",
			"ent": "net", "netr": "net", "ogr": "org", "rog": "org", "orgg": "org",
		},
	}
	for _, provider := range p.names {
		p.known[provider.name+"."+provider.ending] = true
	}
	// Neighbours of the names above that are right, and the ones too short to guess at.
	for _, domain := range []string{
		"mail.com", "email.com", "ymail.com", "gmx.com", "gmx.net", "gmx.de", "gmx.at", "gmx.ch", "web.de", "aol.com", "msn.com",
		"live.com", "me.com", "mac.com", "pm.me", "proton.me", "hushmail.com", "hostmail.com", "fastmail.fm", "hey.com",
		"zoho.com", "cox.net", "att.net", "ntlworld.com", "orange.fr", "free.fr", "sfr.fr", "qq.com", "163.com", "126.com",
		"rediffmail.com", "mailbox.org", "posteo.de",
	} {
		p.known[domain] = true
	}
	return p
}

// meant returns the domain that a mistyped one stands for, or an empty string. Doubt is for the domain: a
// name that may well be somebody's own is left alone.
func (p mailProviders) meant(domain string) string {
	if p.known[domain] {
		return ""
	}
	name, ending, _ := strings.Cut(domain, ".")
	right, wrongEnding := p.endings[ending[strings.LastIndexByte(ending, '.')+1:]]
	for _, provider := range p.names {
		if name == "" || name[0] != provider.name[0] {
			continue // The first letter is seldom mistyped, and tells many names apart.
		}
		sameEnding := ending == provider.ending || wrongEnding && right == provider.ending
		switch {
		case name == provider.name && isWrongEnding(ending, provider.ending),
			sameEnding && isTypo(name, provider.name):
			return provider.name + "." + provider.ending
		}
	}
	if wrongEnding {
		return domain[:strings.LastIndexByte(domain, '.')+1] + right
	}
	return ""
}

// isWrongEnding tells what providers never have: yahoo.de and hotmail.co.uk are right, gmail.co is not.
func isWrongEnding(ending, right string) bool {
	switch {
	case ending == right:
		return false
	case right == "com" && (ending == "co" || ending == "cm" || ending == "om" || ending == "con.com" || ending == "com.com"):
		return true
	}
	suffix, icann := publicsuffix.PublicSuffix(ending)
	return (!icann || suffix != ending) && distance(ending, right) <= 2
}

// isTypo allows long names two mistakes and others one.
func isTypo(name, right string) bool {
	switch {
	case name == right:
		return true
	case len(right) < len("gmail"):
		return false
	case len(right) < len("hotmail"):
		return distance(name, right) == 1
	}
	return distance(name, right) <= 2
}

// distance counts the letters to insert, delete, replace or swap with the next to make b of a (optimal
// string alignment). Names that differ too much in length to matter are far apart.
func distance(a, b string) int {
	const far, longest = 3, 16
	if len(a) > len(b)+2 || len(b) > len(a)+2 || len(a) > longest || len(b) > longest {
		return far
	}
	var rows [3][longest + 1]int // the last two rows of the table and the one in work
	before, last, next := &rows[0], &rows[1], &rows[2]
	for j := range len(b) + 1 {
		last[j] = j
	}
	for i := range len(a) {
		next[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next[j+1] = min(last[j+1]+1, next[j]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
		before, last, next = last, next, before
	}
	return last[len(b)]
}
