package roster

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// headerColumn is one column of a roster file.
type headerColumn struct {
	header string   // as in the file; "column 7" when the file has none; made unique for extra columns
	label  string   // by which an operator can choose it: the header, made unique
	key    string   // the header as headerKey folds it
	field  Field    // empty if the column is kept as extra
	part   namePart // of the owner's name, if that stands in two columns
	own    bool     // written by an export or into a file of rejects, and not read back
}

// namePart says which part of the owner's name a column gives.
type namePart int

const (
	wholeName namePart = iota
	givenName
	familyName
)

// synonyms lists the headers that stand for a field beside its own name, in the spelling of headerKey
// and the order of preference: those of real exports (the partner list and the contacts of Constant
// Contact, HubSpot, Salesforce, Mailchimp, Google and Outlook contacts) and those that people choose. No
// header stands for two fields. Headers under which such exports hold something else are left out: the
// "account owner" of a CRM is the agency's own salesman, the "site owner name" of the partner list is a
// login.
func (f Field) synonyms() []string {
	switch f {
	case FieldName:
		return []string{
			"clientname", "client", "companyname", "company", "organizationname", "organisationname", "organization",
			"organisation", "accountname", "accountaccountname", "businessname", "business", "customername", "customer",
			"companyaccount", "associatedcompany", "primaryassociatedcompany", "organization1name", "companyorganization",
			"firma", "firmenname", "unternehmen", "kunde", "kundenname", "societe", "entreprise", "raisonsociale",
			"nomdelentreprise", "empresa", "nombredelaempresa", "razonsocial", "cliente", "azienda", "ragionesociale",
			"bedrijf", "bedrijfsnaam", "klant", "klantnaam",
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
			"ownersname", "owner", "contactname", "contact", "primarycontact", "primarycontactname", "contactfullname",
			"contactperson", "fullname", "ansprechpartner",
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

// namePairs lists the headers of two columns that give the owner's name together, given name first, in
// the spelling of headerKey and the order of preference.
func namePairs() [][2]string {
	return [][2]string{
		{"ownerfirstname", "ownerlastname"},
		{"contactfirstname", "contactlastname"},
		{"primarycontactfirstname", "primarycontactlastname"},
		{"firstname", "lastname"},
		{"givenname", "familyname"},
		{"firstname", "surname"},
		{"fname", "lname"},
		{"first", "last"},
		{"vorname", "nachname"},
		{"prenom", "nom"},
		{"nombre", "apellidos"},
		{"nombre", "apellido"},
		{"nome", "cognome"},
		{"voornaam", "achternaam"},
	}
}

// headerSense is what a file as a whole says about headers that mean one thing here and another there.
type headerSense struct {
	people        bool // a list of people: "Name" is a person, the client stands under "Company" or the like
	salesforceIDs bool // what stands under "Account ID" are ids of Salesforce, the agency's own keys
}

// senseHeader looks at the header and the first records.
func senseHeader(columns []headerColumn, first []fileRecord) (sense headerSense) {
	has := func(key string) bool {
		return slices.ContainsFunc(columns, func(c headerColumn) bool { return c.key == key })
	}
	hasPair := slices.ContainsFunc(namePairs(), func(pair [2]string) bool { return has(pair[0]) && has(pair[1]) })
	isOurs := slices.ContainsFunc(columns, func(c headerColumn) bool { return c.header == string(FieldName) })
	sense.people = !isOurs && (has("accountname") || hasPair && slices.ContainsFunc(FieldName.synonyms(), has))
	for i, c := range columns {
		if c.key != headerKey(string(FieldAccountID)) || c.header == string(FieldAccountID) {
			continue
		}
		for _, record := range first {
			if i < len(record.cells) && record.cells[i] != "" {
				if sense.salesforceIDs = isSalesforceAccountID(strings.TrimSpace(record.cells[i])); !sense.salesforceIDs {
					return sense
				}
			}
		}
	}
	return sense
}

// keys lists the headers that stand for a field in this file, in the spelling of headerKey, the best first.
func (s headerSense) keys(field Field) []string {
	keys := append([]string{headerKey(string(field))}, field.synonyms()...)
	switch {
	case s.people && field == FieldName:
		return keys[1:]
	case s.people && field == FieldOwnerName:
		return append(keys, headerKey(string(FieldName)))
	case s.salesforceIDs && field == FieldAccountID:
		return keys[1:]
	case s.salesforceIDs && field == FieldRef:
		return slices.Insert(keys, 1, headerKey(string(FieldAccountID)))
	}
	return keys
}

// headerKey folds what people vary in a header: case, accents, and everything but letters and digits. A
// path through a CRM's tables such as "Owner.Email" or "Account Owner: Full Name" leads to the agency's
// own salesman and gets a key that no field has.
func headerKey(header string) string {
	fold := func(s string) string {
		return strings.Map(func(r rune) rune {
			if unicode.IsLetter(r) || unicode.IsDigit(r) {
				return unicode.ToLower(r)
			}
			return -1
		}, norm.NFKD.String(s))
	}
	if dot := strings.IndexAny(header, ".:"); dot > 0 && strings.HasSuffix(fold(header[:dot]), "owner") {
		return "crm:" + fold(header)
	}
	return fold(header)
}

// recognisedHeaders counts the cells that would be columns of ours.
func recognisedHeaders(cells []string, chosen map[Field]string) (n int) {
	known := make(map[string]bool)
	for _, field := range Fields() {
		known[headerKey(string(field))] = true
		known[headerKey(chosen[field])] = true
		for _, key := range field.synonyms() {
			known[key] = true
		}
	}
	delete(known, "")
	for _, cell := range cells {
		if known[headerKey(cell)] {
			n++
		}
	}
	return n
}

// headerGaps says for which fields no column could be taken.
type headerGaps struct {
	missing    []Field            // required ones without a column
	duplicates map[Field][]string // the columns that stand for one field alike
}

// err returns the *Error of a file that cannot be read with these gaps.
func (g headerGaps) err(header []string) error {
	for _, field := range Fields() {
		if columns := g.duplicates[field]; columns != nil {
			return &Error{Code: ColumnDuplicate, Message: fmt.Sprintf(
				"the columns %s all stand for %s: rename or remove all but one, or choose with --map %s=COLUMN",
				quotedList(columns), field, field)}
		}
	}
	if len(g.missing) > 0 {
		return &Error{Code: ColumnMissing, Message: fmt.Sprintf(
			"the file has no column for %s: its columns are %s; rename the right one, or say which it is with --map %s=COLUMN",
			quotedList(g.missing), quotedList(header), g.missing[0])}
	}
	return nil
}

// headerColumns finds the column of each field: the one that was chosen, else the one with the name of
// the field, else the one with the best synonym. It returns a *Error if the choice cannot be
// followed or the header is none.
func headerColumns(header []string, first []fileRecord, chosen map[Field]string) ([]headerColumn, headerGaps, error) {
	gaps := headerGaps{duplicates: make(map[Field][]string)}
	columns := make([]headerColumn, len(header))
	own := ownColumns(header)
	labels := columnLabels(header)
	for i, cell := range header {
		cell = cmp.Or(cell, unnamedColumn(i))
		columns[i] = headerColumn{header: cell, label: labels[i], key: headerKey(cell), own: slices.Contains(own, cell)}
	}
	if err := chooseColumns(columns, chosen); err != nil {
		return nil, gaps, err
	}
	sense := senseHeader(columns, first)
	for _, field := range Fields() {
		if _, ok := chosen[field]; ok {
			continue
		}
		keys := make([][]string, 0, 64)
		for _, key := range sense.keys(field) {
			keys = append(keys, []string{key})
		}
		if field == FieldOwnerName {
			for _, pair := range namePairs() {
				keys = append(keys, pair[:])
			}
			keys = append(keys, []string{"firstname"}, []string{"givenname"}, []string{"fname"})
		}
		for _, key := range keys {
			found, candidates := findColumns(columns, field, key)
			if len(candidates) > 0 {
				gaps.duplicates[field] = candidates
			}
			if found || len(candidates) > 0 {
				break
			}
		}
	}
	for _, field := range []Field{FieldName, FieldOwnerEmail} {
		hasColumn := slices.ContainsFunc(columns, func(c headerColumn) bool { return c.field == field })
		if !hasColumn && gaps.duplicates[field] == nil {
			gaps.missing = append(gaps.missing, field)
		}
	}
	if len(gaps.missing) > 0 && isClient(header) {
		return nil, gaps, &Error{Code: HeaderMissing, Message: "the file has no header: its first line is already" +
			" a client; put a line above it that names the columns, such as name,owner_email"}
	}
	nameExtraColumns(columns)
	return columns, gaps, nil
}

// chooseColumns gives the fields the columns that the operator named.
func chooseColumns(columns []headerColumn, chosen map[Field]string) error {
	for field := range chosen {
		if !slices.Contains(Fields(), field) {
			return &Error{Code: MapInvalid, Message: fmt.Sprintf(
				"there is no field %q to map a column to: the fields are %s", field, quotedList(Fields()))}
		}
	}
	for _, field := range Fields() { // in a fixed order, so that the error is always the same
		name, ok := chosen[field]
		if !ok || name == "" {
			continue
		}
		err := chooseColumn(columns, field, name, wholeName)
		if given, family, two := strings.Cut(name, joinedColumns); err != nil && two && field == FieldOwnerName {
			err = chooseColumn(columns, field, given, givenName)
			if err == nil {
				err = chooseColumn(columns, field, family, familyName)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// joinedColumns stands between the headers of two columns that give the owner's name together.
const joinedColumns = " + "

// chooseColumn gives field the column of that header, of that label, or of a header that is spelled a
// little differently.
func chooseColumn(columns []headerColumn, field Field, name string, part namePart) error {
	key := headerKey(name)
	for _, matches := range []func(c headerColumn) bool{
		func(c headerColumn) bool { return c.header == name },
		func(c headerColumn) bool { return c.label == name },
		func(c headerColumn) bool { return c.key == key },
	} {
		var candidates []int
		for i, c := range columns {
			if matches(c) && !c.own {
				candidates = append(candidates, i)
			}
		}
		if len(candidates) == 0 {
			continue
		}
		c := &columns[candidates[0]]
		switch {
		case len(candidates) > 1:
			return &Error{Code: ColumnDuplicate, Message: fmt.Sprintf(
				"%q can be each of the columns %s: choose one of them with --map %s=COLUMN",
				name, quotedList(labelsOf(columns, candidates)), field)}
		case c.field != "":
			return &Error{Code: MapInvalid, Message: fmt.Sprintf(
				"the column %q is mapped to both %s and %s: map each field to a column of its own", name, c.field, field)}
		}
		c.field, c.part = field, part
		return nil
	}
	all := make([]int, len(columns))
	for i := range all {
		all[i] = i
	}
	return &Error{Code: MapInvalid, Message: fmt.Sprintf(
		"the file has no column %q to map to %s: its columns are %s", name, field, quotedList(labelsOf(columns, all)))}
}

// findColumns gives field the free columns that have these keys: one column, or the two of a name pair.
// It returns the candidates if there are several for one key and none has the literal name of the field.
func findColumns(columns []headerColumn, field Field, keys []string) (found bool, duplicates []string) {
	chosen := make([]int, 0, len(keys))
	for _, key := range keys {
		var candidates []int
		for i, c := range columns {
			if c.field == "" && !c.own && c.key == key {
				candidates = append(candidates, i)
			}
		}
		if len(candidates) > 1 {
			exact := slices.DeleteFunc(slices.Clone(candidates), func(i int) bool { return columns[i].header != string(field) })
			if len(exact) != 1 {
				return false, labelsOf(columns, candidates)
			}
			candidates = exact
		}
		if len(candidates) == 0 {
			return false, nil
		}
		chosen = append(chosen, candidates[0])
	}
	for n, i := range chosen {
		columns[i].field = field
		if len(chosen) == 2 {
			columns[i].part = givenName + namePart(n)
		}
	}
	return true, nil
}

func labelsOf(columns []headerColumn, indices []int) []string {
	labels := make([]string, len(indices))
	for n, i := range indices {
		labels[n] = columns[i].label
	}
	return labels
}

// columnLabels names every column so that it can be chosen: a header that repeats gets its number.
func columnLabels(header []string) []string {
	count := make(map[string]int, len(header))
	for _, cell := range header {
		count[cell]++
	}
	seen := make(map[string]int, len(header))
	labels := make([]string, len(header))
	for i, cell := range header {
		labels[i] = cell
		switch {
		case cell == "":
			labels[i] = unnamedColumn(i)
		case count[cell] > 1:
			for labels[i] == cell || count[labels[i]] > 0 {
				seen[cell]++
				labels[i] = fmt.Sprintf("%s (%d)", cell, seen[cell])
			}
		}
	}
	return labels
}

// ExportColumns are the columns that an export adds to those of a roster file. Importing it again
// passes them over: they are ours to say.
func ExportColumns() []string {
	return []string{"username", "stage", "reason", "paused", "invited_at", "authorized_at", "proven_at"}
}

// RejectColumns are the columns that a file of rejects adds to the original ones.
func RejectColumns() []string { return []string{"error_code", "error_message"} }

// ownColumns lists the columns of this header that Countersign itself adds to what the operator gave. They
// are told by most of them standing together, since one such word may well be the operator's.
func ownColumns(header []string) (own []string) {
	for _, added := range [][]string{ExportColumns(), RejectColumns()} {
		present := slices.DeleteFunc(slices.Clone(added), func(column string) bool { return !slices.Contains(header, column) })
		if 2*len(present) > len(added) {
			own = append(own, present...)
		}
	}
	return own
}

// nameExtraColumns makes the headers of the extra columns differ, so that none hides another, and from
// the names of fields, so that an export can be told apart again.
func nameExtraColumns(columns []headerColumn) {
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

// isClient tells a first line that names no column but holds a mail address.
func isClient(header []string) bool {
	isAddress := func(cell string) bool { _, _, err := ParseAddress(cell); return err == nil }
	return recognisedHeaders(header, nil) == 0 && slices.ContainsFunc(header, isAddress)
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

// ParseMapping reads "field=column" pairs, as given by --map. It returns a *Error.
func ParseMapping(pairs []string) (map[Field]string, error) {
	mapping := make(map[Field]string, len(pairs))
	for _, pair := range pairs {
		field, column, ok := strings.Cut(pair, "=")
		if !ok || column == "" {
			return nil, &Error{Code: MapInvalid, Message: fmt.Sprintf("%q is not of the form field=column", pair)}
		}
		mapping[Field(strings.TrimSpace(field))] = strings.TrimSpace(column)
	}
	return mapping, nil
}
