package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Diff returns the fields in which two values differ, as they were and as they are: for Entry.Before and After. Both
// are structs or maps that marshal to JSON objects; what an object in them has is compared by itself, and called
// "texts.invitation" for instance. A field that one of them lacks is missing there.
func Diff(from, to any) (before, after Fields, err error) {
	was, err := flat(from)
	if err != nil {
		return nil, nil, err
	}
	is, err := flat(to)
	if err != nil {
		return nil, nil, err
	}
	before, after = Fields{}, Fields{}
	for name, value := range was {
		if !bytes.Equal(value, is[name]) {
			before[name] = value
		}
	}
	for name, value := range is {
		if !bytes.Equal(value, was[name]) {
			after[name] = value
		}
	}
	return before, after, nil
}

// flat returns the fields of v by their whole names.
func flat(v any) (map[string]json.RawMessage, error) {
	fields := make(map[string]json.RawMessage)
	raw, err := json.Marshal(v)
	if err == nil {
		err = flatten(raw, "", fields)
	}
	if err != nil {
		return nil, fmt.Errorf("compare for the audit trail: %w", err)
	}
	return fields, nil
}

func flatten(raw json.RawMessage, prefix string, into map[string]json.RawMessage) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return err
	}
	for name, value := range fields {
		if value[0] != '{' {
			into[prefix+name] = value
		} else if err := flatten(value, prefix+name+".", into); err != nil {
			return err
		}
	}
	return nil
}
