package iso

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// FuzzProfileFile: no file makes the program fall over; a file that is taken can be
// taken again from its own text, and its reversals hold no card secret. Its seeds are
// small files based on built-in ones; TestSpoiledProfileFiles has whole ones.
func FuzzProfileFile(f *testing.F) {
	for _, name := range ProfileNames() {
		for _, rest := range []string{
			`"x": 1`, `"fields": null`, `"fields": {"2": null}`, `"reversal": null`, `"framing": []`, `"mac": {}`, `"mac": null`, `"timers": {"burst": -1}`, `"codes": {"": {}}`,
			`"compose": {"2": "{{"}`, `"transactions": {"": {}}`, `"base": "` + name + `"`, `"reversal": {"set": {"60": "{60.2}{stan}{13|0000}"}}`, `"reversal": {"copy": [2, 3, 4, 11, 35, 41, 42]}`,
		} {
			f.Add(fmt.Appendf(nil, `{"schema": 1, "name": "x", "base": %q, %s}`, name, rest))
		}
	}
	f.Add([]byte(`{"base": {}}`))
	f.Add([]byte(strings.Repeat("[", 200)))
	f.Add([]byte("\x00"))
	f.Fuzz(takesOrRefuses)
}

// The built-in files, cut, doubled and with values of other kinds in them.
func TestSpoiledProfileFiles(t *testing.T) {
	for _, name := range ProfileNames() {
		raw, err := profileFiles.ReadFile("profiles/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		takesOrRefuses(t, raw)
		takesOrRefuses(t, raw[:len(raw)/2])
		takesOrRefuses(t, append(bytes.Clone(raw), raw...))
		for _, change := range [][2]string{
			{`"2"`, `"02"`}, {`"copy": [2,`, `"copy": [2, 35,`}, {`"reverse"`, `null`}, {`{pan}`, `{pan`}, {`: 6`, `: 99999999999999999999`}, {`"LL"`, `"rest"`}, {"{", "[{"},
			{`"why"`, `"Why"`}, {`"n"`, `"z"`}, {`"length": `, `"length": -`}, {`"must": [`, `"must": [129, -1, `}, {`"must": [3, 4,`, `"must": [`}, {`"elements": [64`, `"elements": [0`},
		} {
			takesOrRefuses(t, bytes.ReplaceAll(raw, []byte(change[0]), []byte(change[1])))
		}
	}
	takesOrRefuses(t, []byte(strings.Repeat("[", 200000)))
}

func takesOrRefuses(t *testing.T, raw []byte) {
	p, err := parseProfile(raw)
	if err != nil {
		if !errors.Is(err, ErrProfile) || p != nil {
			t.Fatalf("of no kind: %v", err)
		}
		return
	}
	whole := alone(t, p) // without its base: TestAProfilesOwnText
	again, err := parseProfile(whole)
	if err != nil || !bytes.Equal(again.JSON(), whole) {
		t.Fatalf("its own text is another profile: %v", err)
	}
	for _, kind := range p.TxTypes() {
		m, err := p.Build(fullRequest(t, p, kind))
		if err != nil {
			continue
		}
		img := image(t, p, m)
		r, err := p.BuildReversal(img, Reversal{Attempt: 1, Cause: NoAnswer, STAN: 9})
		if err != nil {
			continue
		}
		for _, de := range slices.Concat(img.Fields(), r.Fields()) {
			if forbidden(de) {
				t.Fatalf("DE %d is kept", de)
			}
		}
	}
}

// alone is a profile's text without the name of what it was based on.
func alone(t *testing.T, p *Profile) []byte {
	t.Helper()
	v, err := object(p.JSON())
	if err != nil {
		t.Fatal(err)
	}
	delete(v, "base")
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// The whole text of a profile, saved as a file, is that profile.
func TestAProfilesOwnText(t *testing.T) {
	p, err := basedOn(t, "unionpay", "plain", `"mac": null, "fields": {"7": null}`)
	if err != nil {
		t.Fatal(err)
	}
	again, err := parseProfile(p.JSON())
	if err != nil {
		t.Fatal(err)
	}
	if again.HasMAC() || again.wire[7] != nil {
		t.Error("what was taken away is back")
	}
}

// A number that is no data element is refused wherever a file may have one.
func TestNoSuchElementInAProfile(t *testing.T) {
	for _, de := range []string{"-1", "0", "1", "65", "129", "500"} {
		refused(t, "iso87-ascii", `"compose": {"`+de+`": "x"}`, "compose."+de)
		refused(t, "iso87-ascii", `"transactions": {"sale": {"set": {"`+de+`": "x"}}}`, "transactions.sale.set."+de)
		refused(t, "iso87-ascii", `"reversal": {"set": {"`+de+`": "x"}}`, "reversal.set."+de)
	}
}

// FuzzOriginal: String inverts ParseOriginal.
func FuzzOriginal(f *testing.F) {
	f.Add("020000000712201232310000053998300000557694")
	f.Add("020000000711230130150000000000000000000000")
	f.Add("042000000711230130150000012345000000543210")
	f.Add("0200999999000000000000000000000000000000000")
	f.Add("02000000000000000000000000000000000000000000")
	f.Add("12000304029501231549521110076401251")
	f.Add("120003040295012315495200")
	f.Add("0000010011761123")
	f.Add("00000100117611230012345678901")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		for name, form := range map[string]struct {
			parse func(string) (Original, error)
			write func(Original) string
			upTo  int // what stands behind it is not part of an Original
		}{
			"DE 90": {ParseOriginal, Original.String, 42},
			"DE 56": {ParseDE56, Original.DE56, 35},
			"DE 61": {ParseDE61, Original.DE61, 16},
		} {
			o, err := form.parse(s)
			if err != nil {
				if !errors.Is(err, ErrInvalid) || o != (Original{}) {
					t.Fatalf("%s: %v, and a value", name, err)
				}
				continue
			}
			// Leading zeros of an institution are padding, and a date that is not there is zeros.
			if again := form.write(o); !strings.HasPrefix(again, s[:min(len(s), form.upTo)]) {
				t.Fatalf("%s: %q comes back as %q", name, s, again)
			}
		}
	})
}

// FuzzTemplate: a template that is taken gives what it is made of, and only that.
func FuzzTemplate(f *testing.F) {
	for _, p := range dialectsKnown() {
		for _, text := range p.data.Compose {
			f.Add(text, "12")
		}
	}
	f.Add("{a:99}{b|x}{c?y}{ll:d}", "")
	f.Add("{a:999}", "")
	f.Add("}{", "1")
	f.Add("{ll:}", "1")
	f.Fuzz(func(t *testing.T, text, value string) {
		parsed, err := parseTemplate(text)
		if err != nil {
			return
		}
		if len(text) > templateMax {
			t.Fatalf("a template of %d characters", len(text))
		}
		got, missing := parsed.expand(func(string) string { return value })
		if got != "" && missing != "" {
			t.Fatalf("%q lacks %q and gives a value", text, missing)
		}
		if most := len(text) + len(parsed)*(99+len(value)); len(got) > most {
			t.Fatalf("%q gives %d characters", text, len(got))
		}
	})
}

// spoiled is a good message with one thing wrong, and what must be named.
type spoiled struct {
	name          string
	bytes         []byte
	field, offset int
}
