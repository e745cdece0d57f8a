package notify

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Trouble is what keeps mails from their owners, for one cause.
type Trouble struct {
	Cause   Cause            `json:"cause" enum:"server,sign_in,sender,us,address,mailbox,busy,route,broken,text,other"`
	Words   string           `json:"words" doc:"the cause in words"`
	Cure    string           `json:"cure" doc:"what to do about it"`
	N       int              `json:"n" doc:"mails"`
	Said    string           `json:"said" doc:"what was said of one of them"`
	Clients []TroubledClient `json:"clients" doc:"some of those that they are for"`
}

// TroubledClient is a client whom a mail does not reach.
type TroubledClient struct {
	ID   uuid.UUID `json:"id" format:"uuid"`
	Name string    `json:"name"`
}

// shownClients is how many clients a Trouble names.
const shownClients = 5

// Cause is why a mail does not go out, as far as it can be told from what was written down of its last attempt.
type Cause string

const (
	CauseServer  Cause = "server"  // our mail server is not reached, or lets nobody in
	CauseSignIn  Cause = "sign_in" // it does not let us sign in
	CauseSender  Cause = "sender"  // it takes no mail from our address
	CauseUs      Cause = "us"      // refused for our sake
	CauseAddress Cause = "address" // the address takes no mail
	CauseMailbox Cause = "mailbox" // the mailbox takes none for now
	CauseBusy    Cause = "busy"    // a mail server wants less, or later
	CauseRoute   Cause = "route"   // the owner's mail server is not reached
	CauseBroken  Cause = "broken"  // the connection broke
	CauseText    Cause = "text"    // the mail could not be written
	CauseOther   Cause = "other"
)

// Words says what is the matter.
func (c Cause) Words() string {
	switch c {
	case CauseServer:
		return "Our own mail server is not reached, or lets nobody in."
	case CauseSignIn:
		return "Our own mail server does not let us sign in."
	case CauseSender:
		return "Our own mail server takes no mail from our address."
	case CauseUs:
		return "Refused for our sake and not for the address: for our reputation, our DNS records or what the mail says."
	case CauseAddress:
		return "The address takes no mail."
	case CauseMailbox:
		return "The mailbox is full, or takes no mail at the moment."
	case CauseBusy:
		return "A mail server wants us to come later: we send too much at once, or it does not know us yet."
	case CauseRoute:
		return "The owner’s mail server is not reached."
	case CauseBroken:
		return "The connection to the mail server broke off."
	case CauseText:
		return "The mail could not be written."
	case CauseOther:
	}
	return "A mail server refused it."
}

// Cure says what an operator can do, for mails that were given up or are still tried.
func (c Cause) Cure(ended bool) string {
	var cure string
	switch c {
	case CauseServer:
		cure = "Check COUNTERSIGN_SMTP_URL and that server: countersign doctor says what is wrong."
	case CauseSignIn:
		cure = "Correct the user and the password in COUNTERSIGN_SMTP_URL."
	case CauseSender:
		cure = "Check COUNTERSIGN_MAIL_FROM, and that the mail server lets us send from it."
	case CauseUs:
		cure = "Run countersign doctor, and mend what it says of SPF, DKIM and DMARC. Read what the mail server said: it may name a page with the reason."
	case CauseAddress:
		return "Correct the owner’s address on the client’s page: it is mailed again at once."
	case CauseMailbox:
		cure = "If it lasts, call the owner and ask for another address."
	case CauseBusy:
		cure = "If it lasts, send more slowly: COUNTERSIGN_MAIL_RATE, COUNTERSIGN_MAIL_DOMAIN_RATE or COUNTERSIGN_MAIL_RAMP."
	case CauseRoute:
		cure = "If it lasts, look for a slip in what stands behind the @."
	case CauseBroken:
		cure = "If it lasts, look into the log of the mail server."
	case CauseText:
		cure = "Correct what is said below."
	case CauseOther:
		cure = "Read what the mail server said."
	}
	if ended {
		return cure + " Then invite these clients again."
	}
	return "The mails are tried again by themselves, for five days. " + cure
}

// attempted reads what an smtp.Error says: its step, and the code and the enhanced code of the reply if there was one.
var attempted = regexp.MustCompile(`^mail server \S+: (.+?)(?:: | answered (\d{3}) ?([245]\.\d{1,3}\.\d{1,3})?)`)

// causeOf reads the error of a message.
func causeOf(said string) Cause {
	m := attempted.FindStringSubmatch(said)
	if m == nil {
		return CauseText
	}
	step, code, enhanced := m[1], m[2], m[3]
	good := !strings.HasPrefix(code, "5") // there is hope
	switch step {
	case "waiting for a connection", "connect", "greeting", "EHLO", "TLS":
		return CauseServer
	case "AUTH":
		return CauseSignIn
	case "MAIL FROM":
		if !good {
			return CauseSender
		}
	}
	switch code {
	case "":
		return CauseBroken
	case "530", "534", "535", "538": // RFC 4954
		return CauseSignIn
	}
	if strings.Contains(strings.ToLower(said), "relay") {
		return CauseSender
	}
	// RFC 3463: subject and detail.
	_, detail, _ := strings.Cut(enhanced, ".")
	switch subject, _, _ := strings.Cut(detail, "."); {
	case detail == "1.7" || detail == "1.8":
		return CauseSender
	case detail == "2.2", code == "552" && enhanced == "":
		return CauseMailbox
	case detail == "3.4":
		return CauseUs
	case subject == "1" && good, subject == "4":
		return CauseRoute
	case subject == "2" && good:
		return CauseMailbox
	case subject == "1", subject == "2":
		return CauseAddress
	case good:
		return CauseBusy
	case subject == "5", subject == "6", subject == "7":
		return CauseUs
	}
	return CauseOther
}

// collectTroubles groups mails by what keeps them: rows of a client's id and name, the error, and whether
// the address bounced.
func collectTroubles(rows pgx.Rows, err error, ended bool) ([]Trouble, error) {
	if err != nil {
		return nil, err
	}
	troubles := []Trouble{}
	places := map[Cause]int{}
	var client *uuid.UUID
	var name, said string
	var bounced bool
	_, err = pgx.ForEachRow(rows, []any{&client, &name, &said, &bounced}, func() error {
		cause := causeOf(said)
		if bounced {
			cause = CauseAddress
		}
		place, known := places[cause]
		if !known {
			place, places[cause] = len(troubles), len(troubles)
			troubles = append(troubles, Trouble{Cause: cause, Words: cause.Words(), Cure: cause.Cure(ended), Said: said, Clients: []TroubledClient{}})
		}
		t := &troubles[place]
		t.N++
		if client != nil && len(t.Clients) < shownClients {
			t.Clients = append(t.Clients, TroubledClient{*client, name})
		}
		return nil
	})
	sortByNumber(troubles, func(t Trouble) int { return t.N })
	return troubles, err
}

// sortByNumber puts the greatest first.
func sortByNumber[T any](list []T, number func(T) int) {
	slices.SortStableFunc(list, func(a, b T) int { return cmp.Compare(number(b), number(a)) })
}
