package provisioning

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// rosterColumn is one column of a roster file.
type rosterColumn struct {
	header string // as in the file; "column 7" when the file has none; made unique for extra columns
	field  Field  // empty if the column is kept as extra
	own    bool   // written by an export or into a file of rejects, and not read back
}

// synonyms lists the headers that stand for a field beside its own name, in the spelling of headerKey
// and the order of preference: those of real exports (the partner list of Constant Contact, HubSpot,
// Salesforce, Mailchimp, Google and Outlook contacts) and those that people choose. No header stands
// for two fields. Headers under which such exports hold something else are left out: the "account
// owner" of a CRM is the agency's own salesman.
func (f Field) synonyms() []string {
	switch f {
	case FieldName:
		return []string{
			"clientname", "client", "companyname", "company", "organizationname", "organisationname", "organization",
			"organisation", "accountname", "businessname", "business", "customername", "customer", "companyaccount",
			"associatedcompany", "primaryassociatedcompany", "organization1name", "firma", "firmenname", "unternehmen",
			"kunde", "kundenname", "societe", "entreprise", "raisonsociale", "empresa", "razonsocial", "cliente",
			"azienda", "ragionesociale", "bedrijf", "bedrijfsnaam", "klant", "klantnaam",
		}
	case FieldOwnerEmail:
		return []string{
			"ownersemail", "owneremailaddress", "accountowneremail", "clientemail", "clientemailaddress", "contactemail",
			"contactemailaddress", "primarycontactemail", "email", "emailaddress", "mail", "primaryemail", "customeremail",
			"companyemail", "businessemail", "workemail", "accountemail", "email1value", "email1", "emailadresse",
			"emailadres", "adresseemail", "adressemail", "courriel", "correo", "correoelectronico", "indirizzoemail",
		}
	case FieldRef:
		return []string{
			"reference", "externalid", "clientref", "clientid", "clientnumber", "clientno", "customerid", "customernumber",
			"customerno", "partneraccountid", "companyid", "recordid", "accountnumber", "crmid", "id", "kundennummer",
		}
	case FieldOwnerName:
		return []string{
			"ownersname", "owner", "contactname", "contact", "primarycontact", "primarycontactname", "contactperson",
			"fullname", "ansprechpartner", "siteownername", "firstname",
		}
	case FieldAccountID:
		return []string{
			"encodedaccountid", "constantcontactaccountid", "constantcontactid", "ctctaccountid", "ctctid",
			"provideraccountid",
		}
	case FieldSiteURL:
		return []string{"website", "websiteurl", "site", "url", "webpage", "homepage", "website1value", "companydomainname"}
	case FieldTimeZone:
		return []string{"tz"}
	case FieldTags:
		return []string{"tag"}
	case FieldRoute, FieldLocale:
	}
	return nil
}

// headerKey folds what people vary in a header: case, accents, and everything but letters and digits.
func headerKey(header string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, norm.NFKD.String(header))
}

// recognisedHeaders counts the cells that would be columns of ours.
func recognisedHeaders(cells []string, chosen map[Field]string) (n int) {
	for _, cell := range cells {
		key := headerKey(cell)
		if key != "" && slices.ContainsFunc(Fields(), func(f Field) bool {
			return key == headerKey(string(f)) || key == headerKey(chosen[f]) || slices.Contains(f.synonyms(), key)
		}) {
			n++
		}
	}
	return n
}

// rosterColumns finds the column of each field: the one that was chosen, else the one with the name of
// the field, else the one with the best synonym.
func rosterColumns(header []string, chosen map[Field]string) ([]rosterColumn, error) {
	columns := make([]rosterColumn, len(header))
	own := ownColumns(header)
	for i, cell := range header {
		if cell == "" {
			cell = unnamedColumn(i)
		}
		columns[i] = rosterColumn{header: cell, own: slices.Contains(own, cell)}
	}
	if err := chooseColumns(columns, chosen); err != nil {
		return nil, err
	}
	for _, field := range Fields() {
		if _, ok := chosen[field]; ok {
			continue
		}
		for _, key := range append([]string{headerKey(string(field))}, field.synonyms()...) {
			found, err := findColumn(columns, field, func(header string) bool { return headerKey(header) == key })
			if err != nil {
				return nil, err
			}
			if found {
				break
			}
		}
	}
	var missing []Field
	for _, field := range []Field{FieldName, FieldOwnerEmail} {
		if !slices.ContainsFunc(columns, func(c rosterColumn) bool { return c.field == field }) {
			missing = append(missing, field)
		}
	}
	if len(missing) > 0 {
		return nil, missingColumns(header, missing)
	}
	nameExtraColumns(columns)
	return columns, nil
}

// chooseColumns gives the fields the columns that the operator named.
func chooseColumns(columns []rosterColumn, chosen map[Field]string) error {
	for field := range chosen {
		if !slices.Contains(Fields(), field) {
			return &RosterError{Code: RosterMapInvalid, Message: fmt.Sprintf(
				"there is no field %q to map a column to: the fields are %s", field, quotedList(Fields()))}
		}
	}
	for _, field := range Fields() { // in a fixed order, so that the error is always the same
		name, ok := chosen[field]
		if !ok || name == "" {
			continue
		}
		for _, c := range columns {
			if c.field != "" && (c.header == name || headerKey(c.header) == headerKey(name)) {
				return &RosterError{Code: RosterMapInvalid, Message: fmt.Sprintf(
					"the column %q is mapped to both %s and %s: map each field to a column of its own", name, c.field, field)}
			}
		}
		found, err := findColumn(columns, field, func(header string) bool { return header == name })
		if err == nil && !found {
			found, err = findColumn(columns, field, func(header string) bool { return headerKey(header) == headerKey(name) })
		}
		if err != nil {
			return err
		}
		if !found {
			return &RosterError{Code: RosterMapInvalid, Message: fmt.Sprintf(
				"the file has no column %q to map to %s: its columns are %s", name, field, columnList(columns))}
		}
	}
	return nil
}

// findColumn gives field the one free column whose header matches.
func findColumn(columns []rosterColumn, field Field, matches func(header string) bool) (found bool, err error) {
	var candidates []int
	for i, c := range columns {
		if c.field == "" && !c.own && matches(c.header) {
			candidates = append(candidates, i)
		}
	}
	if len(candidates) > 1 {
		exact := slices.DeleteFunc(slices.Clone(candidates), func(i int) bool { return columns[i].header != string(field) })
		if len(exact) != 1 {
			first, second := columns[candidates[0]].header, columns[candidates[1]].header
			return false, &RosterError{Code: RosterColumnDuplicate, Message: fmt.Sprintf(
				"the columns %q and %q both stand for %s: rename or remove one, or choose with --map %s=COLUMN",
				first, second, field, field)}
		}
		candidates = exact
	}
	if len(candidates) == 1 {
		columns[candidates[0]].field = field
	}
	return len(candidates) == 1, nil
}

// ownColumns lists the columns of this header that Countersign itself adds to what the operator gave. They
// are told by most of them standing together, since one such word may well be the operator's.
func ownColumns(header []string) (own []string) {
	for _, added := range [][]string{exportColumns(), rejectColumns()} {
		present := slices.DeleteFunc(slices.Clone(added), func(column string) bool { return !slices.Contains(header, column) })
		if 2*len(present) > len(added) {
			own = append(own, present...)
		}
	}
	return own
}

// nameExtraColumns makes the headers of the extra columns differ, so that none hides another, and from
// the names of fields, so that an export can be told apart again.
func nameExtraColumns(columns []rosterColumn) {
	seen := make(map[string]bool, len(columns))
	for _, field := range Fields() {
		seen[string(field)] = true
	}
	for i, c := range columns {
		if c.own {
			continue
		}
		header := c.header
		for n := 2; c.field == "" && seen[header]; n++ {
			header = fmt.Sprintf("%s (%d)", c.header, n)
		}
		seen[header] = true
		columns[i].header = header
	}
}

// unnamedColumn stands for the header of column i, which has none.
func unnamedColumn(i int) string { return "column " + strconv.Itoa(i+1) }

// missingColumns says what is wrong with a header that lacks fields.
func missingColumns(header []string, missing []Field) error {
	isAddress := func(cell string) bool { _, _, err := parseAddress(cell); return err == nil }
	if recognisedHeaders(header, nil) == 0 && slices.ContainsFunc(header, isAddress) {
		return &RosterError{Code: RosterHeaderMissing, Message: "the file has no header: its first line is already a client;" +
			" put a line above it that names the columns, such as name,owner_email"}
	}
	return &RosterError{Code: RosterColumnMissing, Message: fmt.Sprintf(
		"the file has no column for %s: its columns are %s; rename the right one, or say which it is with --map %s=COLUMN",
		quotedList(missing), quotedList(header), missing[0])}
}

func columnList(columns []rosterColumn) string {
	headers := make([]string, len(columns))
	for i, c := range columns {
		headers[i] = c.header
	}
	return quotedList(headers)
}

// quotedList writes a list for a message, at most 40 of it.
func quotedList[S ~string](items []S) string {
	var b strings.Builder
	for i, item := range items {
		if i == 40 {
			fmt.Fprintf(&b, " and %d more", len(items)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%q", abbreviate(string(item)))
	}
	return b.String()
}
