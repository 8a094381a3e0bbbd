package iso

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// wrapped is how firmware holds such values: in unexported fields, where fmt
// asks no Formatter.
type wrapped struct {
	pan     PAN
	secret  Secret
	message *Message
	image   Image
	request Request
}

const (
	track2   = "4111111111111111=29121010000012345678"
	pinBlock = "0123456789ABCDEF"
	chip     = "5A084111111111111111"
)

func cardHolders(t testing.TB) []any {
	p := profile(t)
	r := saleRequest(t)
	r.Track2, r.PINBlock, r.Chip = NewSecret(track2), NewSecret(pinBlock), NewSecret(chip)
	m := build(t, p, r)
	m.Set(36, "99"+track2)
	m.Set(45, "B4111111111111111^TEST/CARD^2912")
	m.Set(48, "0100000"+visaTest) // batch upload carries PANs (PROTOCOL F)
	m.Set(62, visaTest)
	m.Set(63, visaTest)
	m.Set(102, visaTest)
	img, err := p.ImageOf(m)
	if err != nil {
		t.Fatal(err)
	}
	w := wrapped{r.PAN, r.Track2, m, img, r}
	return []any{r.PAN, &r.PAN, r.Track2, m, *m, img, &img, r, &r, w, &w, []any{w}, map[string]any{"x": w}, []PAN{r.PAN}}
}

// L11: whatever holds card data prints masked under every verb, in JSON and in
// logs, also from inside somebody else's unexported fields.
func TestL11NoVerbShowsACard(t *testing.T) {
	bcd := string([]byte{0x41, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11})
	for i, v := range cardHolders(t) {
		var out []string
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%p", "%5.3s", "%08b", "%!"} {
			out = append(out, fmt.Sprintf(verb, v))
		}
		if b, err := json.Marshal(v); err == nil {
			out = append(out, string(b))
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v)
		out = append(out, log.String(), fmt.Sprint(v), fmt.Sprintln(v), fmt.Errorf("e: %v", v).Error())
		for _, s := range out {
			for _, secret := range []string{visaTest, visaTest[:12], fmt.Sprintf("%x", visaTest), fmt.Sprintf("%X", visaTest), bcd, pinBlock, "123456789ABCDEF", "29121010000012345678", "TEST/CARD"} {
				if strings.Contains(s, secret) {
					t.Errorf("value %d (%T) shows card data: %d bytes of output", i, v, len(s))
				}
			}
		}
	}
}

func TestMasksHideWhatTheyDoNotUnderstand(t *testing.T) {
	for in, want := range map[string]string{
		"":                      "",
		visaTest:                "************1111",
		"411111111111":          "********1111",
		"41111111111":           hidden,
		"4111 1111 1111 1111":   hidden,
		strings.Repeat("4", 20): hidden,
	} {
		if got := maskPAN(in); got != want {
			t.Errorf("mask of %d characters: %q, want %q", len(in), got, want)
		}
	}
	for de := 2; de <= 128; de++ {
		if got := maskField(de, "SECRET"); got != hidden && !shown[de] {
			t.Errorf("DE %d is printed as it is", de)
		}
	}
	for _, de := range []int{2, 14, 26, 34, 35, 36, 43, 44, 45, 48, 52, 53, 54, 55, 60, 61, 62, 63, 64, 102, 103, 125, 127, 128} {
		if shown[de] {
			t.Errorf("DE %d can hold card data and is shown", de)
		}
	}
}

func TestZeroValuesPrint(t *testing.T) {
	var p PAN
	var s Secret
	var i Image
	var m *Message
	if got := fmt.Sprintf("%v|%v|%v|%v", p, s, i, m); got != "|||<no message>" {
		t.Errorf("zero values print %q", got)
	}
	if p.Reveal() != "" || p.Last4() != "" || s.Reveal() != "" {
		t.Error("zero values hold something")
	}
}

// No error of the package repeats what it was given.
func TestL11ErrorsCarryNoValue(t *testing.T) {
	p := profile(t)
	for _, bad := range []string{visaTest[:15] + "2", visaTest + "x", "41111", strings.Repeat("4111", 5)} {
		_, err := ParsePAN(bad)
		if err == nil || strings.Contains(err.Error(), bad) {
			t.Errorf("a PAN of %d characters: %v", len(bad), err)
		}
	}
	m := build(t, p, saleRequest(t))
	m.Set(35, visaTest+"!")
	if _, err := p.Pack(m); err == nil || strings.Contains(err.Error(), visaTest) {
		t.Errorf("pack: %v", err)
	}
	packed := pack(t, p, build(t, p, saleRequest(t)))
	for n := range packed {
		if _, err := p.Unpack(packed[:n]); err == nil || strings.Contains(err.Error(), visaTest[:12]) {
			t.Errorf("unpack of the first %d bytes: %v", n, err)
		}
	}
}
