package templates

import "fmt"

func english() language {
	return language{
		tag:  "en",
		name: "English",
		may: map[string]string{
			"account_read":   "See the account’s name, address and contact details",
			"account_update": "Change the account’s name, address and contact details",
			"contact_data":   "See, add, change and delete your contacts and lists",
			"campaign_data":  "See, write, change, send and delete your email campaigns, and read their reports",
			"billing_data":   "See your billing information",
			"offline_access": "Stay connected, so that you need not sign in each time",
		},
		other: "Use the permission that %[1]s calls “%[2]s”",
		mayNot: []limit{
			{"", "See or learn your password"},
			{"billing_data", "See or change your plan, invoices or payment"},
			{"", "Add or remove users"},
			{"account_update", "Change your account’s name, address or settings"},
			{"contact_data", "See or change your contacts"},
			{"campaign_data", "See, change or send your emails"},
		},
		months: [12]string{"January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"},
		date: func(day int, month string, year int) string {
			return fmt.Sprintf("%d %s %d", day, month, year)
		},
		button:      "Open the page",
		address:     "If the button does not work, copy this address into your browser:",
		whyAsked:    "You get this mail because {agency} would like to connect the {provider} account of {client}, and yours is the address on record for it.",
		whyThanked:  "You get this mail because yours is the address on record for the {provider} account of {client}.",
		questions:   "Questions? {support}",
		unsubscribe: "No more reminders about this",
		colon:       ":",
	}
}
