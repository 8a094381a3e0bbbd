package iso

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// based loads a profile file that changes a built-in one.
func based(t *testing.T, base, changes string) (*Profile, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "p.json")
	text := `{"schema":1,"name":"mine","base":"` + base + `"` + changes + `}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return LoadProfile(file)
}

func mustBased(t *testing.T, base, changes string) *Profile {
	t.Helper()
	p, err := based(t, base, changes)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// An approval is not refused for what a host writes into a text for people: it
// decodes, and packs to the same bytes.
func TestTextsOfAHostDoNotSpoilAnAnswer(t *testing.T) {
	for name, text := range map[string]string{
		"full-width space": "CUP\xa1\xa1", "cut inside a character": "\xbd\xbb\xd2 ", "separator": "A\x1cB\x00", "line end": "OK\r\n",
		"no character": "\xff\xfe", "Chinese": "\xbd\xbb\xd2\xd7\xb3\xc9\xb9\xa6", "Latin-1": "caf\xe9",
	} {
		for _, profile := range []string{"unionpay", "iso87-ascii", "iso87-binary", "iso93"} {
			p, err := LoadProfile(profile)
			if err != nil {
				t.Fatal(err)
			}
			m := NewMessage(MTI(p.data.Version + "210"))
			m.Set(11, "000007")
			m.Set(63, strings.Repeat("x", len(text)))
			packed := bytes.Replace(pack(t, p, m), []byte(strings.Repeat("x", len(text))), []byte(text), 1)
			got, err := p.Unpack(packed)
			if err != nil {
				t.Errorf("%s, %s: %v", profile, name, err)
				continue
			}
			if again, err := p.Pack(got); err != nil || !bytes.Equal(again, packed) {
				t.Errorf("%s, %s: packs to other bytes (%v)", profile, name, err)
			}
			if out := got.String(); strings.ContainsAny(out, "\x00\r\n") || !utf8.ValidString(out) {
				t.Errorf("%s, %s: printed as it came", profile, name)
			}
		}
	}
}

// A length in front of opaque bytes counts bytes; a profile may say that it counts
// the characters of their hex form.
func TestWhatALengthCounts(t *testing.T) {
	for changes, want := range map[string]string{"": "0029505", `,"fields":{"55":{"counts":"characters"}}`: "0049505"} {
		p := mustBased(t, "iso93", changes)
		m := NewMessage("1200")
		m.Set(55, "9505")
		if got := string(pack(t, p, m)); !strings.HasSuffix(got, want) {
			t.Errorf("%s: %s", changes, got)
		}
	}
}

// PROTOCOL K.5: whether the reversal of a swiped sale names the card is the
// profile's to say; nothing else of the track is ever kept (L11).
func TestL11TheCardOfATrack(t *testing.T) {
	for base, want := range map[string]bool{"unionpay": false, "iso87-ascii": true, "iso93": true} {
		for _, asked := range []string{"", `,"reversal":{"cardOfTrack":false}`, `,"reversal":{"cardOfTrack":true}`} {
			p := mustBased(t, base, asked)
			names := want
			if asked != "" {
				names = strings.Contains(asked, "true")
			}
			r := saleRequest(t)
			r.PAN, r.Expiry, r.Track2 = PAN{}, Secret{}, NewSecret(visaTest+"D29121010000012345")
			img := image(t, p, build(t, p, r))
			rev, err := p.BuildReversal(img, Reversal{Attempt: 1, Cause: NoAnswer, STAN: 9})
			if err != nil {
				t.Fatal(err)
			}
			if rev.Text(2) != map[bool]string{true: visaTest}[names] || rev.Text(14) != map[bool]string{true: "2912"}[names] {
				t.Errorf("%s %s: the reversal names the card: %v", base, asked, rev.Text(2) != "")
			}
			if kept, _ := img.Bytes(); strings.Contains(string(kept), "1010000012345") {
				t.Errorf("%s: the image keeps what stands behind the expiry", base)
			}
			if r.Last4() != visaTest[12:] {
				t.Error("a swiped sale has no last four digits")
			}
		}
	}
}

// One acquirer answers a reversal request and a reversal advice with the same MTI
// (PROTOCOL A.2).
func TestAnAnswerWithAnMTIOfItsOwn(t *testing.T) {
	p := mustBased(t, "iso87-ascii", `,"reversal":{"answer":"0430"}`)
	rev, err := p.BuildReversal(image(t, p, build(t, p, saleRequest(t))), Reversal{Attempt: 2, Cause: NoAnswer})
	if err != nil {
		t.Fatal(err)
	}
	answer := rev.Clone()
	for mti, want := range map[MTI]error{"0430": nil, "0410": ErrUnmatched} {
		answer.SetMTI(mti)
		if err := p.Match(rev, answer); !errors.Is(err, want) {
			t.Errorf("%s: %v", mti, err)
		}
	}
}

// What would load and mislead, or fail when a reversal is owed, is refused when it
// is loaded, and the place is named.
func TestProfileFilesThatMislead(t *testing.T) {
	for changes, says := range map[string]string{
		`,"MAC":null`:                                             "MAC: no such key",
		`,"timers":{"AnswerWithin":"1s"}`:                         "timers.AnswerWithin: no such key",
		`,"fields":{"064":{"length":8}}`:                          "fields.064: no such key",
		`,"timers":{"answerWithin":"45"}`:                         "timers.answerWithin: must be a time",
		`,"reversal":{"reasons":{"restart":"4021"}}`:              "reversal.reasons.restart",
		`,"reversal":{"reason":4}`:                                "reversal.reason: DE 4",
		`,"reversal":{"authCode":11}`:                             "reversal.authCode: DE 11",
		`,"reversal":{"set":{"61":"{37}"}}`:                       "rests on DE 37",
		`,"compose":{"43":"{track2}"}`:                            "{track2} is card data",
		`,"compose":{"500":"{pan}"}`:                              "compose.500",
		`,"fields":{"60":{"parts":[{"name":"x","length":-5}]}}`:   "fields.60.parts.0.length",
		`,"fields":{"23":{"type":"z","prefix":"LL","length":37}}`: "DE 23",
		`,"mac":{"without":["inquiry"]}`:                          "mac.without: inquiry",
		`,"codes":null`:                                           "codes: ",
		`,"transactions":{"sale":{"processing":"00"}}`:            "transactions.sale.processing",
	} {
		if _, err := based(t, "unionpay", changes); !errors.Is(err, ErrProfile) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want it to name %q", changes, err, says)
		}
	}
}
