package iso

import (
	"errors"
	"strings"
	"testing"
)

func TestProfilesLoad(t *testing.T) {
	for _, name := range ProfileNames() {
		p, err := LoadProfile(name)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if p.Name() != name || p.About() == "" {
			t.Errorf("file %s holds profile %q", name, p.Name())
		}
	}
	_, err := LoadProfile("iso99")
	if !errors.Is(err, ErrUnknownProfile) || !strings.Contains(err.Error(), "iso87-ascii") {
		t.Errorf("an unknown profile: %v", err)
	}
	if _, err := LoadProfile("../codec"); !errors.Is(err, ErrUnknownProfile) {
		t.Errorf("a path as a name: %v", err)
	}
}

// A profile that asks for what may not be, or forgets what must be, is refused
// and the place in the file is named.
func TestProfileValidation(t *testing.T) {
	raw, err := profileFiles.ReadFile("profiles/iso87-ascii.json")
	if err != nil {
		t.Fatal(err)
	}
	good := string(raw)
	for name, c := range map[string]struct{ old, with, says string }{
		"track kept":       {`"copy": [2,`, `"copy": [2, 35,`, "reversal.copy: DE 35"},
		"PIN block kept":   {`"copy": [2,`, `"copy": [2, 52,`, "reversal.copy: DE 52"},
		"no trace kept":    {" 11, 12, 13, 14, 18, 22, 25, 32", " 12, 13, 14, 18, 22, 25, 32", "reversal.copy: DE 11"},
		"no trace matched": {`"always": [3, 11,`, `"always": [3,`, "match.always: DE 11"},
		"cause missing":    {`"restart": "22"`, `"restart": ""`, "reversal.reasons.restart"},
		"cause unknown":    {`"restart": "22"`, `"restart": "22", "boredom": "1"`, "reversal.reasons.boredom"},
		"class unknown":    {`"request": "approve", "reversal": "confirm"`, `"request": "ok", "reversal": "confirm"`, "codes.00"},
		"reversal MTI":     {`"repeat": "0401"`, `"repeat": "0201"`, "reversal.repeat"},
		"sale MTI":         {`"mti": "0200"`, `"mti": "02"`, "transactions.sale.mti"},
		"recovery":         {`"recovery": "reverse"`, `"recovery": "hope"`, "transactions.sale.recovery"},
		"timer":            {`"answerWithin": "45s"`, `"answerWithin": "0s"`, "timers.answerWithin"},
		"timer unit":       {`"answerWithin": "45s"`, `"answerWithin": "45"`, "time"},
		"unknown key":      {`"schema": 1,`, `"schema": 1, "extra": 1,`, "extra"},
		"schema":           {`"schema": 1,`, `"schema": 2,`, "schema"},
		"framing":          {`"length": "binary2"`, `"length": "hope"`, "framing.length"},
		"field type":       {`"zh": "交易处理码", "type": "n"`, `"zh": "交易处理码", "type": "q"`, "fields.3.type"},
		"field prefix":     {`"length": 19, "prefix": "LL"`, `"length": 19, "prefix": "L"`, "fields.2.prefix"},
		"field length":     {`"zh": "交易处理码", "type": "n", "length": 6`, `"zh": "交易处理码", "type": "n", "length": 0`, "fields.3.length"},
		"match unknown":    {`"whenPresent": [4,`, `"whenPresent": [65,`, "match: DE 65"},
		"burst":            {`"burst": 3`, `"burst": 0`, "burst"},
		"template":         {`"90": "{mti}{stan}{7:10}`, `"90": "{mti}{35}{7:10}`, "reversal.set.90: {35} is not known"},
		"template open":    {`"90": "{mti}{stan}{7:10}`, `"90": "{mti{stan}{7:10}`, "reversal.set.90"},
		"private kept":     {`"copy": [2,`, `"copy": [2, 48,`, "reversal.copy: DE 48"},
		"long private":     {`"copy": [2,`, `"copy": [2, 62,`, "reversal.copy: DE 62"},
		"nothing makes it": {`"must": [3, 4, 7, 11,`, `"must": [3, 4, 7, 8, 11,`, "transactions.sale: nothing says how to make DE 8"},
		"base":             {`"schema": 1,`, `"schema": 1, "base": "nowhere",`, "base: must be one of"},
		"bitmap":           {`"bitmap": "hex"`, `"bitmap": "octal"`, "bitmap"},
		"no such field":    {`"3": {"name"`, `"1": {"name"`, "fields.1"},
	} {
		bad := strings.Replace(good, c.old, c.with, 1)
		if bad == good {
			t.Errorf("%s: the change did not take", name)
			continue
		}
		if _, err := parseProfile([]byte(bad)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, expected it to name %q", name, err, c.says)
		}
	}
}
