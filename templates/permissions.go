package templates

import "slices"

// Permissions is what an owner grants, in plain words.
type Permissions struct {
	May    []string
	MayNot []string
}

// permissions puts scopes into words. What is not asked for is promised to stay out of reach, so
// the second list depends on the first. The provider has no scope that separates reading from
// changing contacts or campaigns; the words must not promise less than is granted.
func permissions(scopes []string, provider string) Permissions {
	var p Permissions
	for _, scope := range scopes {
		p.May = append(p.May, may(scope, provider))
	}
	without := func(scope, words string) {
		if !slices.Contains(scopes, scope) {
			p.MayNot = append(p.MayNot, words)
		}
	}
	p.MayNot = append(p.MayNot, "See or learn your password")
	without("billing_data", "See or change your plan, invoices or payment")
	p.MayNot = append(p.MayNot, "Add or remove users")
	without("account_update", "Change your account’s name, address or settings")
	without("contact_data", "See or change your contacts")
	without("campaign_data", "See, change or send your emails")
	return p
}

func may(scope, provider string) string {
	switch scope {
	case "account_read":
		return "See the account’s name, address and contact details"
	case "account_update":
		return "Change the account’s name, address and contact details"
	case "contact_data":
		return "See, add, change and delete your contacts and lists"
	case "campaign_data":
		return "See, write, change, send and delete your email campaigns, and read their reports"
	case "billing_data":
		return "See your billing information"
	case "offline_access":
		return "Stay connected, so that you need not sign in each time"
	}
	return "Use the permission that " + provider + " calls “" + scope + "”"
}
