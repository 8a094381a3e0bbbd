package iso

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A template says how the value of a data element is put together. It is text
// with names in braces:
//
//	{stan}          the value; when there is none, the whole data element is left out
//	{batch:6}       filled with zeros in front to six digits; zeros when there is none
//	{date|0000}     what stands behind the bar when there is none
//	{pin?12}        what stands behind the question mark when there is one, else left out
//	{ll:acquirer}   two digits of length and the value; 00 when there is none
//
// In a reversal a name may also be a data element of the request (7) or a part
// of one (60.2).
type template []templatePart

type templatePart struct {
	literal string
	name    string // "" for a literal
	width   int    // {name:6}
	instead string // {name|0000}
	has     bool   // there is an instead
	then    string // {name?12}
	length  bool   // {ll:name}
}

// templateMax bounds the text of a template.
const templateMax = 256

func parseTemplate(s string) (template, error) {
	if len(s) > templateMax {
		return nil, fmt.Errorf("is longer than %d characters", templateMax)
	}
	var t template
	for s != "" {
		open := strings.IndexByte(s, '{')
		if open != 0 {
			if open < 0 {
				open = len(s)
			}
			if strings.ContainsRune(s[:open], '}') {
				return nil, fmt.Errorf("has a } without a {")
			}
			t = append(t, templatePart{literal: s[:open]})
			s = s[open:]
			continue
		}
		inside, rest, ok := strings.Cut(s[1:], "}")
		if !ok {
			return nil, fmt.Errorf("has a { without a }")
		}
		part, err := parsePlaceholder(inside)
		if err != nil {
			return nil, err
		}
		t, s = append(t, part), rest
	}
	return t, nil
}

func parsePlaceholder(s string) (templatePart, error) {
	var part templatePart
	s, part.length = strings.CutPrefix(s, "ll:")
	part.name = s
	if name, then, ok := strings.Cut(s, "?"); ok {
		part.name, part.then = name, then
	} else if name, instead, ok := strings.Cut(s, "|"); ok {
		part.name, part.instead, part.has = name, instead, true
	} else if name, width, ok := strings.Cut(s, ":"); ok {
		n, err := strconv.Atoi(width)
		if err != nil || n < 1 || n > 99 {
			return part, fmt.Errorf("{%s}: the width must be 1 to 99", s)
		}
		part.name, part.width = name, n
	}
	if part.name == "" {
		return part, fmt.Errorf("{%s}: has no name", s)
	}
	return part, nil
}

// names lists the names that a template asks for.
func (t template) names() []string {
	var list []string
	for _, part := range t {
		if part.name != "" {
			list = append(list, part.name)
		}
	}
	return list
}

// expand puts the values in. It returns "" when one is missing that has nothing
// to stand in for it, and the name of that one.
func (t template) expand(value func(name string) string) (text, missing string) {
	var b strings.Builder
	for _, part := range t {
		if part.name == "" {
			b.WriteString(part.literal)
			continue
		}
		v := value(part.name)
		switch {
		case part.then != "":
			if v == "" {
				return "", part.name
			}
			v = part.then
		case part.length:
			v = fmt.Sprintf("%02d%s", len(v), v)
		case part.width > 0:
			if len(v) > part.width { // it would move what stands behind it
				return "", part.name
			}
			v = zeros(v, part.width)
		case v == "" && part.has:
			v = part.instead
		case v == "":
			return "", part.name
		}
		b.WriteString(v)
	}
	return b.String(), ""
}

// homes says where card data of a request may go: nowhere but into the data
// element that is made for it, because any other might be kept or shown (L11).
var homes = map[string][]int{
	"pan": {2}, "expiry": {14}, "track2": {35}, "track3": {36}, "pin": {52}, "chip": {55}, "script": {55},
}

// compileTemplates reads the templates for requests.
func (p *Profile) compileTemplates() error {
	parse := func(at string, texts map[int]string, known func(string) bool) (map[int]template, error) {
		out := map[int]template{}
		for de, text := range texts {
			t, err := parseTemplate(text)
			if err != nil {
				return nil, fmt.Errorf("%s.%d: %w", at, de, err)
			}
			if de < 2 || de > 128 || p.wire[de] == nil {
				return nil, fmt.Errorf("%s.%d: is not in fields", at, de)
			}
			for _, part := range t {
				if part.name != "" && !known(part.name) {
					return nil, fmt.Errorf("%s.%d: {%s} is not known", at, de, part.name)
				}
				if at, ok := homes[part.name]; ok && part.then == "" && !slices.Contains(at, de) { // L11
					return nil, fmt.Errorf("compose or set, DE %d: {%s} is card data and may stand in DE %v only", de, part.name, at)
				}
			}
			out[de] = t
		}
		return out, nil
	}
	ofRequest := func(name string) bool { _, ok := requestValues[name]; return ok }
	var err error
	if p.makes, err = parse("compose", p.data.Compose, ofRequest); err != nil {
		return err
	}
	p.sets = map[TxType]map[int]template{}
	for name, tx := range p.data.Transactions {
		if p.sets[name], err = parse("transactions."+string(name)+".set", tx.Set, ofRequest); err != nil {
			return err
		}
		for _, de := range slices.Concat(tx.Must, tx.OneOf, tx.May) {
			if p.makes[de] == nil && p.sets[name][de] == nil {
				return fmt.Errorf("transactions.%s: nothing says how to make DE %d; add it to compose or to set", name, de)
			}
		}
	}
	p.turns, err = parse("reversal.set", p.data.Reversal.Set, p.ofReversal)
	return err
}

// ofReversal reports whether a reversal's template may use a name: something of
// the reversal itself, or a data element of the request that may be kept.
func (p *Profile) ofReversal(name string) bool {
	switch name {
	case "mti", "reason", "stan", "amount":
		return true
	}
	number, part, _ := strings.Cut(name, ".")
	de, err := strconv.Atoi(number)
	if err != nil || de < 2 || de > 128 || p.wire[de] == nil || forbidden(de) {
		return false
	}
	if part == "" {
		return !strings.Contains(name, ".")
	}
	n, err := strconv.Atoi(part)
	return err == nil && n >= 1 && n <= len(p.wire[de].Parts)
}
