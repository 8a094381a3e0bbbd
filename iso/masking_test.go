package iso

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// cardData is one card of a published test range and what hangs on it.
type cardData struct {
	pan, track1, track2, track3, pinBlock string
}

func cards() []cardData {
	var list []cardData
	for i, pan := range []string{"4111111111111111", "5555555555554444", "378282246310005", "6212142000000000012"} {
		list = append(list, cardData{
			pan: pan, pinBlock: []string{"1C9A7E30B24D58F6", "8E5F1A97C3D06B24", "F3D7194B6C02EA85", "5B83E7C61D94A0F2"}[i],
			track1: "B" + pan + "^TEST/CARDHOLDER^29121010000012345678",
			track2: pan + "=29121017654321098",
			track3: "01" + pan + "=72472700003003210321200001912024018765",
		})
	}
	return list
}

func (c cardData) all() []string { return []string{c.pan, c.track1, c.track2, c.track3, c.pinBlock} }

// traces are the forms in which a secret could be seen: as text, as the hex and the
// numbers of its characters, as BCD in bytes, in base64, and with its half-bytes
// turned round. Of a PAN the first eight digits and those in the middle are enough
// to be seen; the last four alone are not.
func (c cardData) traces() []string {
	var list []string
	add := func(s string) {
		if strings.Trim(s, s[:1]) == "" { // 11111111 is not seen to be a card's, and may stand in an address
			return
		}
		text := hex.EncodeToString([]byte(s))
		numbers := strings.Trim(fmt.Sprint([]byte(s)), "[]")
		list = append(list, s, strings.ToLower(s), text, strings.ToUpper(text), numbers, spread(text), strings.ToUpper(spread(text)),
			strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(s)), "="))
		if packed, err := hex.DecodeString(s); err == nil { // digits two a byte; as hex they are the text itself
			list = append(list, string(packed), strings.Trim(fmt.Sprint(packed), "[]"), spread(s), swapped(s), swapped(strings.ToLower(s)))
		}
	}
	add(c.pan[:8])
	add(c.pan[2:10])
	add(c.pan[:len(c.pan)-5])
	add(c.pan[:2*(len(c.pan)/2)])
	if end := c.pan[len(c.pan)-8:]; !strings.Contains(end, "0000") { // zeros are found in any amount
		add(end)
	}
	add(c.pinBlock)
	add(c.pinBlock[:8])
	add(c.pinBlock[8:])
	add("TEST/CARDHOLDER")
	add("29121017654321098"[4:16])
	add("72472700003003210321")
	return list
}

// spread is hex with a space between the bytes, as % x prints it.
func spread(digits string) string {
	var b strings.Builder
	for i := 0; i+1 < len(digits); i += 2 {
		b.WriteString(" " + digits[i:i+2])
	}
	return strings.TrimSpace(b.String())
}

// swapped turns the two digits of each byte round.
func swapped(digits string) string {
	b := []byte(digits)
	for i := 0; i+1 < len(b); i += 2 {
		b[i], b[i+1] = b[i+1], b[i]
	}
	return string(b)
}

// nested is how others hold a value: in fields of theirs, exported or not, behind
// pointers, in slices and maps.
func nested[T any](v T) []any {
	type box struct {
		Open T
		shut T
		Far  *T
		far  *T
		list []T
		dict map[string]T
		any  any
		Any  any
	}
	b := box{v, v, &v, &v, []T{v}, map[string]T{"k": v}, v, &v}
	return []any{v, &v, b, &b, map[string]*box{"k": &b}, []T{v}, []*T{&v}, struct{ box }{b}}
}

var verbs = []string{
	"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "% x", "%#x", "% X", "%b", "%o", "%O", "%c", "%U", "%e", "%E", "%f", "%F", "%g", "%G", "%t", "%p", "%#p",
	"%5.3s", "%-40v", "%+q", "%#q", "%08b", "%z", "%!", "%.100v", "%[1]*d",
}

// printed is everything that fmt, JSON and log/slog make of a value, without the
// addresses in it: 824637828224, an address at the start of Go's heap, is no card
// because its digits have those of one in them.
func printed[T any](v T) string {
	var all strings.Builder
	for _, held := range nested(v) {
		all.WriteString(withoutAddresses(printedAsHeld(held), held))
	}
	return all.String()
}

func printedAsHeld(held any) string {
	var out bytes.Buffer
	noTime := &slog.HandlerOptions{AddSource: false, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}
	seen := map[string]bool{} // most verbs print the same
	for _, verb := range verbs {
		if s := fmt.Sprintf(verb, held); !seen[s] {
			seen[s] = true
			out.WriteString(s + "\n")
		}
	}
	_, _ = fmt.Fprintln(&out, held)
	out.WriteString(fmt.Sprint(held) + fmt.Errorf("wrapped: %v", held).Error())
	if b, err := json.Marshal(held); err == nil {
		out.Write(b)
	} else {
		out.WriteString(err.Error())
	}
	for _, log := range []*slog.Logger{slog.New(slog.NewTextHandler(&out, noTime)), slog.New(slog.NewJSONHandler(&out, noTime))} {
		log.Info("x", "v", held)
		log.With("v", held).WithGroup("g").Info("x", slog.Group("h", slog.Any("v", held)))
	}
	return out.String()
}

// plainly is what a value prints by itself, without the addresses that those print
// who hold it: they are no card data, and may look like four digits of it.
func plainly(v any) string {
	j, _ := json.Marshal(v)
	return fmt.Sprintf("%v %+v %s %q %x %X %d %#v", v, v, v, v, v, v, v, []any{v}) + string(j) + slog.AnyValue(v).Resolve().String()
}

func unseen[T any](t *testing.T, at string, v T, c cardData) {
	t.Helper()
	out := printed(v)
	for _, trace := range c.traces() {
		if i := strings.Index(out, trace); i >= 0 {
			t.Errorf("%s: a secret of %d characters can be seen at %d of %d bytes of output", at, len(trace), i, len(out))
			return
		}
	}
}

// may reports whether a data element is printed as it is and so must hold what
// belongs there: only what the field table lets in.
func may(p *Profile, de int, value string) bool {
	if !shown[de] {
		return true
	}
	w := p.wire[de]
	return w != nil && de != 90 && w.check(de, value, ErrInvalid) == nil // DE 90: TestShownElementsHoldNoSecret
}

// L11: what holds card data in any of its elements prints none of it, in any
// profile: DE 48 of a batch upload, 62 and 63 included.
func TestL11NoElementShowsASecret(t *testing.T) {
	each(t, func(t *testing.T, p *Profile) {
		for i, c := range cards() {
			m := NewMessage(MTI(p.data.Version + "200"))
			for de := 2; de <= 140; de++ { // over the cards and profiles every secret comes to every element
				if secret := c.all()[(de+i+len(p.Name()))%5]; may(p, de, secret) {
					m.Set(de, secret)
				}
			}
			unseen(t, "message", m, c)
			unseen(t, "copy of a message", *m, c)
			r := secretRequest(t, p, c)
			unseen(t, "request", r, c)
			m = build(t, p, r)
			unseen(t, "PAN", r.PAN, c)
			unseen(t, "track", r.Track2, c)
			if _, err := p.ImageOf(m); err != nil { // the card is in an element that would be kept: refused, and not shown
				unseen(t, "refused image", err, c)
				m.Set(60, "22000001000501")
				m.Set(61, "000001000007")
			}
			img := image(t, p, m)
			unseen(t, "image", img, c)
			unseen(t, "stored image", stored(t, img), c)
			unseen(t, "what an image keeps", img.Request(), c)
			reversal, err := p.BuildReversal(img, Reversal{Attempt: 1, Cause: NoAnswer, STAN: 9})
			if err != nil {
				t.Fatal(err)
			}
			unseen(t, "reversal", reversal, c)
			back, err := p.Unpack(pack(t, p, m))
			if err != nil {
				t.Fatal(err)
			}
			unseen(t, "message that came", back, c)
		}
	})
}

// secretRequest has a card's data wherever a request can have it.
func secretRequest(t testing.TB, p *Profile, c cardData) Request {
	t.Helper()
	pan, err := ParsePAN(c.pan)
	if err != nil {
		t.Fatal(err)
	}
	r := fullRequest(t, p, Sale)
	r.PAN, r.Track2, r.PINBlock = pan, NewSecret(c.track2), NewSecret(c.pinBlock)
	r.Track3 = NewSecret(strings.ReplaceAll(c.track3, "=", "D"))
	padded := c.pan + "F"[:len(c.pan)%2]
	r.Chip = NewSecret(fmt.Sprintf("5A%02X%s9505080004E000", len(padded)/2, padded))
	r.Script = NewSecret("DF3108" + c.pinBlock)
	r.Elements = map[int]Secret{}
	for de, value := range map[int]string{48: c.pan, 54: c.track1, 60: c.pan, 61: c.pan, 62: c.pinBlock, 63: c.track2, 102: c.pan} {
		if w := p.wire[de]; w != nil && w.check(de, value, ErrInvalid) == nil {
			r.Elements[de] = NewSecret(value)
		}
	}
	return r
}

// The last four digits are shown of DE 2 and of nothing else; an expiry is never.
func TestOnlyThePANShowsItsLastFourDigits(t *testing.T) {
	for _, c := range cards() {
		last4 := c.pan[len(c.pan)-4:]
		for de := 2; de <= 128; de++ {
			m := NewMessage("0200")
			m.Set(de, c.pan)
			out := plainly(m)
			if strings.Contains(out, last4) != (de == 2) {
				t.Errorf("card ending %s in DE %d: last four digits shown %v", last4, de, de != 2)
			}
		}
	}
	r := saleRequest(t)
	r.At = r.At.AddDate(0, 0, 1)
	r.Expiry = NewSecret("2711")
	m := build(t, profile(t), r)
	for name, out := range map[string]string{"request": plainly(r), "message": plainly(m), "image": plainly(image(t, profile(t), m)), "expiry": plainly(r.Expiry)} {
		if strings.Contains(out, "2711") {
			t.Errorf("a %s shows the expiry", name)
		}
	}
}

// What is shown as it is shows nothing that does not belong there.
func TestShownElementsHoldNoSecret(t *testing.T) {
	for _, c := range cards() {
		for de := range shown {
			for _, secret := range []string{c.pan + " ", " " + c.pan, c.track2, c.pinBlock, "0200000007000000" + c.pan} {
				m := NewMessage("0200")
				m.Set(de, secret)
				unseen(t, fmt.Sprintf("DE %d", de), m, c)
			}
		}
	}
}

// The totals of a request are DE 48 of a batch upload, and that has PANs in it.
func TestTotalsAreHidden(t *testing.T) {
	p := dialect(t, "cup-0400-sale-06")
	for _, c := range cards() {
		r := fullRequest(t, p, Upload)
		r.Totals = NewSecret("0100000007" + zeros(c.pan, 20) + "000000001250")
		unseen(t, "request", r, c)
	}
}

// failures are the errors of everything that is given card data and cannot take it.
func failures(t *testing.T, p *Profile, c cardData, de int, value string) map[string]error {
	t.Helper()
	ctx := context.Background()
	errs := map[string]error{}
	r := secretRequest(t, p, c)
	m := build(t, p, r)
	good := pack(t, p, m)
	r.Elements[de] = NewSecret(value)
	_, errs["Build"] = p.Build(r)
	errs["Check"] = p.Check(r)
	wrong := secretRequest(t, p, c)
	wrong.Chip = NewSecret(value + "?")
	_, errs["Build with a wrong chip"] = p.Build(wrong)
	wrong.Chip, wrong.Expiry = Secret{}, NewSecret(value)
	_, errs["Build with a wrong expiry"] = p.Build(wrong)
	wrong.Expiry, wrong.PINBlock, wrong.Track2 = Secret{}, NewSecret(value), NewSecret(value+"?")
	_, errs["Build with a wrong PIN block"] = p.Build(wrong)
	m.Set(de, value)
	_, errs["Pack"] = p.Pack(m)
	keys := &SoftKeys{}
	_, errs["Seal"] = p.Seal(ctx, m, keys)
	errs["Verify"] = p.Verify(ctx, m, good, keys)
	if err := keys.SetMACKey(NewSecret(c.pinBlock + c.pinBlock)); err != nil {
		t.Fatal(err)
	}
	errs["Verify with a key"] = p.Verify(ctx, m, good, keys)
	errs["Match"] = p.Match(m, build(t, p, secretRequest(t, p, c)))
	errs["MatchNetwork"] = p.MatchNetwork(m, m)
	_, errs["ImageOf"] = p.ImageOf(m)
	_, errs["ParseImage"] = ParseImage([]byte(value))
	stolen, _ := json.Marshal(map[string]any{"v": 1, "mti": value, "f": map[string]string{fmt.Sprint(de): value, value: value}})
	_, errs["ParseImage of a secret"] = ParseImage(stolen)
	_, errs["ParsePAN"] = ParsePAN(value)
	_, errs["ParsePAN of a part"] = ParsePAN(c.pan[:len(c.pan)-1] + "x")
	_, errs["ParseSTAN"] = ParseSTAN(value)
	_, errs["ParseMTI"] = ParseMTI(value)
	_, errs["ParseDE4"] = ParseDE4(value)
	_, errs["ParseOriginal"] = ParseOriginal(value)
	_, errs["parseTLV"] = parseTLV(value)
	_, errs["NewSoftKeys"] = NewSoftKeys(NewSecret(value))
	errs["Download"] = keys.Download(NewSecret(value))
	errs["SetMACKey"] = keys.SetMACKey(NewSecret(value))
	_, errs["ReadFrame"] = p.ReadFrame(strings.NewReader(value))
	errs["WriteFrame"] = p.WriteFrameIn(&bytes.Buffer{}, Envelope{value, value}, []byte(value))
	_, errs["parseProfile"] = parseProfile([]byte(value))
	for at := range good {
		if at%7 == de%7 {
			_, errs[fmt.Sprintf("Unpack of %d", at)] = p.Unpack(good[:at])
			_, errs[fmt.Sprintf("Unpack, byte %d", at)] = p.Unpack(append(bytes.Clone(good[:at]), append([]byte{good[at] ^ 0x55}, good[at+1:]...)...))
		}
	}
	return errs
}

// FuzzMasking: a card's data anywhere in a message, with anything around it, is
// seen in nothing that is printed, and in no error.
func FuzzMasking(f *testing.F) {
	for i, de := range []uint8{2, 14, 34, 35, 36, 42, 45, 48, 52, 54, 55, 60, 61, 62, 63, 64, 90, 102, 125, 128} {
		f.Add(uint8(i), de%4, de%5, de, "", "")
	}
	for i := range dialectsKnown() {
		f.Add(uint8(i), uint8(i), uint8(0), uint8(48), "0100000007", "000000001250")
		f.Add(uint8(i), uint8(1), uint8(0), uint8(2), "9", "")
		f.Add(uint8(i), uint8(2), uint8(i), uint8(62), "5711", "F")
		f.Add(uint8(i), uint8(3), uint8(4), uint8(63), "\xff", "%v%!s")
	}
	f.Fuzz(func(t *testing.T, which, card, what, de uint8, before, after string) {
		p := dialectsKnown()[int(which)%len(dialectsKnown())]
		c := cards()[int(card)%len(cards())]
		secret := c.all()[int(what)%5]
		value := before + secret + after
		for _, trace := range c.traces() {
			if strings.Contains(before, trace) || strings.Contains(after, trace) {
				return // the rest of a secret that is no secret
			}
		}
		if !may(p, int(de), value) || int(de) == 0 {
			return
		}
		m := NewMessage(MTI(p.data.Version + "200"))
		m.Set(int(de), value)
		unseen(t, fmt.Sprintf("%s, DE %d", p.Name(), de), m, c)
		for _, trace := range c.traces() { // parts of DE 60 and 61 are shown to a technician one by one
			if w := p.wire[min(de, 128)]; (w == nil || w.Parts == nil) && strings.Contains(p.Describe(m, English)+p.Describe(m, Chinese), trace) {
				t.Errorf("%s, DE %d: described with %d characters of a secret", p.Name(), de, len(trace))
			}
		}
		unseen(t, "secret", NewSecret(value), c)
		unseen(t, "request", Request{PINBlock: NewSecret(value), Elements: map[int]Secret{int(de): NewSecret(value)}}, c)
		img, err := p.ImageOf(m)
		if err != nil {
			t.Fatal(err)
		}
		unseen(t, "image", img, c)
		if de < 2 || de > 128 {
			return
		}
		for name, err := range failures(t, p, c, int(de), value) {
			if err == nil {
				continue
			}
			text := err.Error() + fmt.Sprintf("%+v %#v %q", err, err, err)
			for _, trace := range append(c.traces(), secret) {
				if strings.Contains(text, trace) {
					t.Errorf("%s, DE %d: the error of %s shows %d characters of a secret", p.Name(), de, name, len(trace))
				}
			}
		}
	})
}

// The errors that name a data element are printed by verbs too.
func TestL11ErrorsPrintNoSecret(t *testing.T) {
	each(t, func(t *testing.T, p *Profile) {
		for i, c := range cards() {
			for name, err := range failures(t, p, c, []int{2, 35, 42, 55}[i], c.track2+"?") {
				if err != nil && !strings.HasPrefix(name, "Unpack") { // of those there are many, and FuzzMasking reads them
					unseen(t, name, err, c)
				}
			}
		}
	})
}

// The version of a stored image is not believed to be one.
func TestImageVersionIsNoSecret(t *testing.T) {
	_, err := ParseImage([]byte(`{"v": ` + visaTest + `, "mti": "0200", "f": {}}`))
	if err == nil || strings.Contains(err.Error(), visaTest) {
		t.Error("the error shows what stood there")
	}
}

// Keys print hidden from inside anything, as cards do.
func TestKeysAreUnseen(t *testing.T) {
	c := cards()[0]
	keys, err := NewSoftKeys(NewSecret(c.pinBlock + c.pinBlock))
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.SetMACKey(NewSecret(c.pinBlock)); err != nil {
		t.Fatal(err)
	}
	unseen(t, "keys", keys, c)
	unseen(t, "authenticator", Authenticator(keys), c)
}
