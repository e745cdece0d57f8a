package sandbox

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// MadePartnerID is the partner of every account that [MakeAccounts] makes. Add an
// account with this id and a user of role partner_manager to have its login.
const MadePartnerID = "a37csandboxpt0"

// MakeAccounts makes up n believable accounts, the same ones for the same seed. Each
// has an owner, whose login is the contact address; every fourth has a manager and
// every tenth a campaign creator besides. Every fifth is unmanaged, every twentieth
// canceled.
func MakeAccounts(n int, seed uint64) []Account {
	maker := maker{
		rand:  rand.New(rand.NewPCG(seed, 0)), //nolint:gosec // made-up names need no secrecy, but repetition
		taken: map[string]bool{},
	}
	accounts := make([]Account, n)
	for i := range accounts {
		accounts[i] = maker.account(i)
	}
	return accounts
}

// maker makes accounts up and remembers what must not come twice.
type maker struct {
	rand  *rand.Rand
	taken map[string]bool
}

func (m maker) account(i int) Account {
	first, last := m.name()
	organization := m.organization(last)
	domain := m.domain(organization)
	place := pick(m.rand,
		Address{City: "Burlington", State: "VT", StateName: "Vermont", PostalCode: "05401"},
		Address{City: "Madison", State: "WI", StateName: "Wisconsin", PostalCode: "53703"},
		Address{City: "Boise", State: "ID", StateName: "Idaho", PostalCode: "83702"},
		Address{City: "Savannah", State: "GA", StateName: "Georgia", PostalCode: "31401"},
		Address{City: "Tucson", State: "AZ", StateName: "Arizona", PostalCode: "85701"},
		Address{City: "Portland", State: "OR", StateName: "Oregon", PostalCode: "97205"},
	)
	zones := map[string]string{
		"VT": "US/Eastern", "WI": "US/Central", "ID": "US/Mountain", "GA": "US/Eastern", "AZ": "US/Arizona", "OR": "US/Pacific",
	}
	place.Line1 = fmt.Sprintf("%d %s Street", 1+m.rand.IntN(900), pick(m.rand, "Main", "Oak", "Mill", "River", "Church", "Market"))
	place.Country = "US"
	phone := fmt.Sprintf("802-555-01%02d", m.rand.IntN(100)) // 555-01xx is kept for fiction

	account := Account{
		ID:                m.id(),
		PartnerID:         MadePartnerID,
		Organization:      organization,
		OrganizationPhone: phone,
		FirstName:         first,
		LastName:          last,
		ContactEmail:      strings.ToLower(slug(first)) + "@" + domain,
		ContactPhone:      phone,
		Country:           "US",
		State:             place.State,
		TimeZone:          zones[place.State],
		Website:           "https://www." + domain,
		PhysicalAddress:   &place,
		CompanyLogo:       &Logo{URL: "https://www." + domain + "/logo.png", ExternalURL: "https://www." + domain, InternalID: m.id()},
	}
	switch {
	case i%20 == 19:
		account.BillingStatus = "Canceled"
	case i%7 == 6:
		account.BillingStatus = "Trial End"
	}
	account.Unmanaged = i%5 == 4
	account.Subscribers = 10 * i
	account.Users = append(account.Users, m.user(account.ContactEmail, RoleOwner))
	if i%4 == 3 {
		account.Users = append(account.Users, m.user("marketing@"+domain, RoleManager))
	}
	if i%10 == 9 {
		account.Users = append(account.Users, m.user("design@"+domain, RoleCampaignCreator))
	}
	return account
}

func (m maker) name() (first, last string) {
	return pick(m.rand, "Maria", "James", "Aisha", "Robert", "Linh", "Sofía", "Daniel", "Grace", "Omar", "Emily", "Zoë", "Peter",
			"Ngozi", "Hannah", "Luis", "Karen", "André", "Priya", "Thomas", "Yuki"),
		pick(m.rand, "Alvarez", "Bennett", "Castellano", "Dubois", "Ellison", "Fitzgerald", "Grant", "Hollis", "Ivanova", "Jensen",
			"Kowalski", "Lindqvist", "Müller", "Nakamura", "O'Brien", "Patel", "Quinn", "Rosenberg", "Sandoval", "Whitaker")
}

func (m maker) organization(last string) string {
	trade := pick(m.rand, "Bakery", "Dental Care", "Landscaping", "Yoga Studio", "Bookshop", "Auto Repair", "Veterinary Clinic",
		"Florist", "Law Office", "Coffee Roasters", "Music School", "Hardware", "Bike Shop", "Catering", "Pottery", "Animal Rescue",
		"Chiropractic", "Brewing Company", "Insurance Agency", "Community Theater")
	switch m.rand.IntN(4) {
	case 0:
		return last + " " + trade
	case 1:
		return last + " & Sons " + trade
	case 2:
		return pick(m.rand, "Maple", "Harbor", "Summit", "Riverside", "Old Mill", "Green Door", "Blue Heron", "Café Lumière") + " " + trade
	default:
		return "The " + pick(m.rand, "Corner", "Village", "Sunny", "Honest", "Little") + " " + trade
	}
}

func (m maker) domain(organization string) string {
	name := slug(organization)
	for i := 1; ; i++ {
		domain := name + ".example"
		if i > 1 {
			domain = fmt.Sprintf("%s%d.example", name, i)
		}
		if !m.taken[domain] {
			m.taken[domain] = true
			return domain
		}
	}
}

// id looks like an encoded account id of the provider, such as a07e1lxqqqo0.
func (m maker) id() string {
	for {
		id := []byte("a07e")
		for range 9 {
			id = append(id, "0123456789abcdefghijklmnopqrstuvwxyz"[m.rand.IntN(36)])
		}
		if !m.taken[string(id)] {
			m.taken[string(id)] = true
			return string(id)
		}
	}
}

// user has a password that a person can type on a phone.
func (m maker) user(login string, role Role) User {
	word := func() string {
		return pick(m.rand, "amber", "cedar", "copper", "harbor", "indigo", "lantern", "maple", "meadow", "orchid", "pepper", "saffron", "willow")
	}
	return User{Login: login, Password: fmt.Sprintf("%s-%s-%02d", word(), word(), m.rand.IntN(100)), Role: role}
}

func pick[T any](r *rand.Rand, choices ...T) T { return choices[r.IntN(len(choices))] }

// slug keeps the letters of a name that may stand in a domain.
func slug(name string) string {
	name = strings.NewReplacer("é", "e", "è", "e", "ë", "e", "í", "i", "ü", "u").Replace(strings.ToLower(name))
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, name)
}
