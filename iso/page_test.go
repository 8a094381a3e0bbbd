package iso

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// squeezed is a text without its line breaks and columns.
func squeezed(s string) string { return strings.Join(strings.Fields(s), " ") }

func TestPageKeepsToTheTerminal(t *testing.T) {
	for _, p := range everyProfile(t) {
		for _, lang := range []Language{English, Chinese} {
			page := p.Page(lang)
			keepsToTheTerminal(t, page, p.Name())
			if !strings.HasSuffix(page, "\n") || strings.Contains(page, "\n\n\n") || strings.Contains(page, "%!") {
				t.Errorf("%s, %s: not a clean text", p.Name(), lang)
			}
			if lang == English && !isASCII(page) {
				t.Errorf("%s: the English page has characters that are not ASCII", p.Name())
			}
		}
	}
}

// section is what stands under a heading, up to the next one.
func section(t *testing.T, page, title string) string {
	t.Helper()
	_, rest, ok := strings.Cut(page, "\n"+title+"\n"+strings.Repeat("-", columns(title))+"\n")
	if !ok {
		t.Fatalf("no section %q", title)
	}
	lines := strings.Split(rest, "\n")
	for i, line := range lines {
		if i > 1 && line != "" && strings.Trim(line, "-") == "" {
			return strings.Join(lines[:i-1], "\n")
		}
	}
	return rest
}

func TestPageHasEveryTransactionCodeAndField(t *testing.T) {
	for _, p := range everyProfile(t) {
		for _, lang := range []Language{English, Chinese} {
			at := fmt.Sprintf("%s, %s", p.Name(), lang)
			page := p.Page(lang)
			transactions := section(t, page, lang.say("Transactions", "交易"))
			for name, tx := range p.data.Transactions {
				line := fmt.Sprintf("\n%-17s %s %-6s %-5s %-8s ", name, tx.MTI, dash(tx.Processing), dash(tx.Condition), tx.Recovery)
				_, after, ok := strings.Cut(transactions, line)
				after, _, _ = strings.Cut(squeezed(after), lang.say(" set ", " 设置 "))
				if !ok || !strings.HasPrefix(strings.ReplaceAll(after, " ", ""), strings.ReplaceAll(lang.say(tx.About, tx.ZH), " ", "")) {
					t.Errorf("%s: transaction %s is not on the page", at, name)
				}
				if !strings.Contains(after, lang.say("must ", "必备 ")+numbers(tx.Must)) {
					t.Errorf("%s: what %s must have is not on the page", at, name)
				}
				if tx.ZH == "" {
					t.Errorf("%s: transaction %s has no Chinese name", at, name)
				}
			}
			codes := section(t, page, lang.say("Response codes (DE 39)", "应答码（域39）"))
			for code, c := range p.data.Codes {
				_, group, ok := strings.Cut(codes, "\n"+string(c.Request)+": ")
				group, _, _ = strings.Cut(group, "\n\n")
				line := squeezed(fmt.Sprintf("%s %s %s", code, c.Reversal, lang.say(c.Name, c.ZH)))
				if !ok || !strings.Contains(squeezed(group), line) {
					t.Errorf("%s: code %s is not on the page as a %s", at, code, c.Request)
				}
				if c.ZH == "" {
					t.Errorf("%s: code %s has no Chinese name", at, code)
				}
			}
			fields := section(t, page, lang.say("Data elements", "数据域"))
			for de, f := range p.data.Fields {
				name := lang.say(f.Name, f.ZH)
				if len(name) > 43 { // goes over two lines
					name = name[:strings.LastIndexByte(name[:44], ' ')]
				}
				row := strings.Index(fields, fmt.Sprintf("%3d %s", de, name))
				if row < 0 || !strings.Contains(squeezed(fields[row:]), squeezed(fmt.Sprintf("%s %d %s %s", f.Type, f.Length, dash(f.Prefix), p.encodingOf(f)))) {
					t.Errorf("%s: DE %d is not on the page", at, de)
				}
			}
		}
	}
}

func TestPageSaysWhy(t *testing.T) {
	for _, p := range everyProfile(t) {
		for _, lang := range []Language{English, Chinese} {
			page := squeezed(p.Page(lang))
			d := p.data
			reasons := []string{
				d.About, d.Framing.Why, d.EncodingsWhy, d.FieldsWhy, d.ComposeWhy, d.Reversal.Why, d.Match.Why, d.CodesWhy, d.Timers.Why,
			}
			if d.MAC != nil {
				reasons = append(reasons, d.MAC.Why)
			}
			for _, tx := range d.Transactions {
				reasons = append(reasons, tx.Why)
			}
			for _, f := range d.Fields {
				reasons = append(reasons, f.Why)
			}
			for _, why := range reasons {
				if !strings.Contains(page, squeezed(why)) {
					t.Errorf("%s, %s: not on the page: %s", p.Name(), lang, why)
				}
			}
		}
	}
}

func TestPageSaysWhatAReversalIsMadeOf(t *testing.T) {
	for _, p := range everyProfile(t) {
		for _, lang := range []Language{English, Chinese} {
			r := p.data.Reversal
			got := squeezed(section(t, p.Page(lang), lang.say("Reversal", "冲正")))
			want := []string{"MTI " + string(r.MTI), numbers(r.Copy), strings.Join(r.ChipTags, ", ")}
			for _, c := range Causes() {
				want = append(want, r.Reasons[c]+" "+string(c))
			}
			for de, template := range r.Set {
				want = append(want, fmt.Sprintf("%d = %s", de, template))
			}
			if r.Repeat != "" {
				want = append(want, " "+string(r.Repeat)+" ")
			}
			for _, text := range want {
				if !strings.Contains(got, text) {
					t.Errorf("%s, %s: %q is not there", p.Name(), lang, text)
				}
			}
			if own := strings.Contains(got, lang.say("one of its own", "新流水号")); own != p.NewSTAN() {
				t.Errorf("%s, %s: a wrong word on the trace number", p.Name(), lang)
			}
		}
	}
}

// The encoding on the page is the one on the wire.
func TestPageEncodingIsTheOneUsed(t *testing.T) {
	samples := map[string]string{"n": "123", "an": "A1 ", "ans": "A1.", "z": "1=2", "b": "1234", "x+n": "C123"}
	for _, p := range everyProfile(t) {
		for de, f := range p.data.Fields {
			want, wantErr := wireTexts[p.encodingOf(f)].encode(samples[f.Type])
			got, gotErr := p.wire[de].text.encode(samples[f.Type])
			if string(want) != string(got) || (wantErr == nil) != (gotErr == nil) {
				t.Errorf("%s: DE %d is written as %X, the page says %s: %X", p.Name(), de, got, p.encodingOf(f), want)
			}
		}
	}
}

// A profile comes from anybody: what a terminal takes for a command stays out.
func TestPageShowsNoControlCharacters(t *testing.T) {
	p, err := parseProfile([]byte(`{"base": "iso93", "schema": 1, "name": "own", "mac": null, "about": "red \u001b[31m\u0007",
		"fields": {"4": {"name": "amount\u001b[2J", "zh": ""}}, "codes": {"\u001bc": {"name": "x", "request": "doubt", "reversal": "refuse"}},
		"transactions": {"a-transaction-of-a-very-long-name-indeed": {"mti": "1200", "recovery": "nothing", "must": [11, 41]}}}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, lang := range []Language{English, Chinese} {
		page := p.Page(lang)
		keepsToTheTerminal(t, page, "own")
		if strings.ContainsAny(page, "\x1b\x07") {
			t.Error("a control character is on the page")
		}
		if !strings.Contains(page, "amount?[2J") { // also in Chinese: there is no other name
			t.Error("the name is not on the page")
		}
		if !strings.HasPrefix(section(t, page, lang.say("Message authentication (MAC)", "报文鉴别（MAC）")), "  "+lang.say("none", "无")) {
			t.Error("a profile without a MAC says nothing of it")
		}
	}
}

func TestWrap(t *testing.T) {
	for _, c := range []struct {
		in   string
		room int
		want []string
	}{
		{"", 10, []string{""}},
		{"as  it  is", 10, []string{"as  it  is"}},
		{"one two three", 8, []string{"one two", "three"}},
		{"0123456789", 4, []string{"0123", "4567", "89"}},
		{"a 0123456789", 4, []string{"a", "0123", "4567", "89"}},
		{"two\nlines", 20, []string{"two lines"}},
		{"批准交易", 8, []string{"批准交易"}},
		{"批准交易", 7, []string{"批准交", "易"}},
		{"批准，交易", 4, []string{"批", "准，", "交易"}}, // no comma begins a line
		{"甲（乙）", 4, []string{"甲", "（乙", "）"}},   // but there is no room for both brackets
		{"甲乙（丙）", 6, []string{"甲乙", "（丙）"}},
		{"PIN格式错", 5, []string{"PIN格", "式错"}},
	} {
		got := wrap(c.in, c.room)
		if !slices.Equal(got, c.want) {
			t.Errorf("%q in %d columns: %q, want %q", c.in, c.room, got, c.want)
		}
	}
}
