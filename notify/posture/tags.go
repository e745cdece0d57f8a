package posture

import (
	"errors"
	"fmt"
	"strings"
)

// tags are those of a DKIM or DMARC record.
type tags map[string]string

// parseTags reads
//
//	list = tag *( ";" tag ) [ ";" ]
//	tag  = name "=" value
//
// with spaces around every part (RFC 6376, 3.2). The first tag must have the name v and this version. Names are matched
// exactly, and none may come twice.
func parseTags(record, version string) (tags, error) {
	if !hasVersion(record, version) {
		return nil, fmt.Errorf("it does not begin with v=%s", version)
	}
	all := make(tags)
	for tag := range strings.SplitSeq(strings.TrimSuffix(strings.TrimSpace(record), ";"), ";") {
		name, value, ok := strings.Cut(tag, "=")
		name = strings.TrimSpace(name)
		_, again := all[name]
		switch {
		case !ok || name == "":
			return nil, fmt.Errorf("%q is not of the form tag=value", strings.TrimSpace(tag))
		case again:
			return nil, errors.New("it has the tag " + name + " twice")
		}
		all[name] = strings.TrimSpace(value)
	}
	return all, nil
}

// hasVersion tells records of a kind from the other TXT records of a name.
func hasVersion(record, version string) bool {
	first, _, _ := strings.Cut(record, ";")
	name, value, _ := strings.Cut(first, "=")
	return strings.TrimSpace(name) == "v" && strings.TrimSpace(value) == version
}

// list returns the parts of a value that is a list with colons.
func (t tags) list(name string) []string {
	var parts []string
	for part := range strings.SplitSeq(t[name], ":") {
		if part = strings.TrimSpace(part); part != "" {
			parts = append(parts, part)
		}
	}
	return parts
}
