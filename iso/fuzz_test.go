package iso

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
)

// A fuzz target that found something keeps it under testdata/fuzz; repeat it with
// go test ./iso -run 'FuzzName/file'.

// dialectsKnown are all profiles there are here: those built in, and those that
// published messages need.
var dialectsKnown = sync.OnceValue(func() []*Profile {
	names := ProfileNames()
	files, err := filepath.Glob("../testdata/wire/profiles/*.json")
	if err != nil || len(files) == 0 {
		panic("no profiles beside the published messages")
	}
	var list []*Profile
	for _, name := range append(names, files...) {
		p, err := LoadProfile(name)
		if err != nil {
			panic(err)
		}
		list = append(list, p)
	}
	return list
})

func indexOf(t testing.TB, name string) uint8 {
	t.Helper()
	at := slices.IndexFunc(dialectsKnown(), func(p *Profile) bool { return p.Name() == name })
	if at < 0 {
		t.Fatalf("no profile %s", name)
	}
	return uint8(at)
}

// messages gives the profile's own messages: every transaction, sealed, and a
// reversal of each that has one.
func messages(t testing.TB, p *Profile, take func(packed []byte)) {
	t.Helper()
	pad := fixedMAC("1122334455667788")
	for _, kind := range p.TxTypes() {
		m := build(t, p, fullRequest(t, p, kind))
		sealed, err := p.Seal(context.Background(), m, pad)
		if err != nil {
			t.Fatalf("%s, %s: %v", p.Name(), kind, err)
		}
		take(sealed)
		if !p.Reversible(kind) {
			continue
		}
		r, err := p.BuildReversal(image(t, p, m), Reversal{Attempt: 1, Cause: NoAnswer, STAN: 9, AuthCode: "A1B2C3"})
		if err != nil {
			t.Fatalf("%s, %s: %v", p.Name(), kind, err)
		}
		if sealed, err = p.Seal(context.Background(), r, pad); err != nil {
			t.Fatalf("%s, %s: %v", p.Name(), kind, err)
		}
		take(sealed)
	}
}

// FuzzUnpackEveryDialect: what unpacks packs to the same bytes and holds no more
// than came; what does not says where.
func FuzzUnpackEveryDialect(f *testing.F) {
	for id, v := range vectors(f) {
		p, packed := dialect(f, id), v.bytes(f)
		if _, inside, err := p.ReadFrameIn(bytes.NewReader(packed)); err == nil && v.Framing != nil {
			packed = inside
		}
		f.Add(indexOf(f, p.Name()), packed)
	}
	for i, p := range dialectsKnown() {
		messages(f, p, func(packed []byte) { f.Add(uint8(i), packed) })
		f.Add(uint8(i), []byte{})
		f.Add(uint8(i), bytes.Repeat([]byte{0xff}, 40))
	}
	f.Fuzz(func(t *testing.T, which uint8, in []byte) {
		p := dialectsKnown()[int(which)%len(dialectsKnown())]
		m, err := p.Unpack(in)
		if err != nil {
			var at *FieldError
			if !errors.As(err, &at) || at.Kind != ErrUndecodable || at.Field < 0 || at.Field > 128 || at.Offset < 0 || at.Offset > len(in) {
				t.Fatalf("%s: %v", p.Name(), err)
			}
			return
		}
		held := 0
		for _, de := range m.Fields() {
			value, _ := m.Field(de)
			held += len(value)
		}
		if held > 3*len(in) { // two hex digits a byte; three bytes of UTF-8 for two of GBK, or for one of EBCDIC
			t.Fatalf("%s: %d bytes of message hold %d", p.Name(), len(in), held)
		}
		again, err := p.Pack(m)
		if err != nil || !bytes.Equal(again, in) {
			t.Fatalf("%s: packs otherwise (%v)\n in %x\nout %x", p.Name(), err, in, again)
		}
	})
}

// framings are the three kinds of length, counting themselves or not, with and
// without TPDU and header, in small profile files as a technician writes them.
func framings(t testing.TB) []*Profile {
	t.Helper()
	var list []*Profile
	for _, length := range []string{"binary2", "bcd2", "ascii4"} {
		for _, counts := range []string{"false", "true"} {
			for _, inside := range []string{`"tpdu": "6000030000", "header": "603100000000"`, `"tpdu": "6000030000", "header": "", "hostRequestDigit": 0`, `"tpdu": "", "header": "", "hostRequestDigit": 0`} {
				p, err := basedOn(t, "unionpay", "framed", fmt.Sprintf(`"framing": {"length": %q, "countsItself": %s, "bytesMax": 300, %s}`, length, counts, inside))
				if err != nil {
					t.Fatal(err)
				}
				list = append(list, p)
			}
		}
	}
	return list
}

// greedy tells how much its reader was ever asked for at once: what is allocated
// for a frame.
type greedy struct {
	io.Reader
	most int
}

func (g *greedy) Read(b []byte) (int, error) {
	g.most = max(g.most, len(b))
	return g.Reader.Read(b)
}

// readFrame reads one frame from in and holds it against what may be.
func readFrame(t *testing.T, p *Profile, in []byte, slow func(io.Reader) io.Reader) (e Envelope, packed []byte, took int, err error) {
	t.Helper()
	source := bytes.NewReader(in)
	g := &greedy{Reader: slow(source)}
	e, packed, err = p.ReadFrameIn(g)
	took = len(in) - source.Len()
	if g.most > p.data.Framing.BytesMax || took > p.data.Framing.BytesMax+lengthBytes[p.data.Framing.Length] {
		t.Fatalf("asked for %d bytes at once and took %d; %d are accepted", g.most, took, p.data.Framing.BytesMax)
	}
	if err != nil && !errors.Is(err, ErrFrame) && (err != io.EOF || len(in) > 0) {
		t.Fatalf("of no kind: %v", err)
	}
	return e, packed, took, err
}

// FuzzFrames: a frame reads the same however it trickles in, leaves what follows
// unread, and is written back in one Write.
func FuzzFrames(f *testing.F) {
	profiles := framings(f)
	for i, p := range profiles {
		var whole bytes.Buffer
		if err := p.WriteFrame(&whole, []byte("a message")); err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), whole.Bytes())
		f.Add(uint8(i), append(whole.Bytes(), whole.Bytes()...))
		f.Add(uint8(i), whole.Bytes()[:whole.Len()-1])
	}
	for _, in := range []string{"", "\x00", "\x00\x00", "\xff\xff", "9999", "0000", "0004", "\x99\x99", "\x00\x02", "\x0a\x00"} {
		for i := range profiles {
			f.Add(uint8(i), []byte(in))
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, in []byte) {
		p := profiles[int(which)%len(profiles)]
		whole := func(r io.Reader) io.Reader { return r }
		e, packed, took, err := readFrame(t, p, in, whole)
		for _, slow := range []func(io.Reader) io.Reader{iotest.OneByteReader, iotest.HalfReader} {
			e2, packed2, took2, err2 := readFrame(t, p, in, slow)
			if e2 != e || !bytes.Equal(packed2, packed) || took2 != took || fmt.Sprint(err2) != fmt.Sprint(err) {
				t.Fatalf("in small pieces it is another frame: %v, %v", err, err2)
			}
		}
		if err != nil {
			return
		}
		var w writes
		if err := p.WriteFrameIn(&w, e, packed); err != nil || w.n != 1 || !bytes.Equal(w.Bytes(), in[:took]) {
			t.Fatalf("written back in %d writes, otherwise (%v)\n in %x\nout %x", w.n, err, in[:took], w.Bytes())
		}
		if e2, _, err := p.ReadFrameIn(bytes.NewReader(w.Bytes())); err != nil || e2.Reply().Reply() != e {
			t.Fatalf("the answer to an answer goes elsewhere: %v", err)
		}
	})
}

// Every length that can be announced is accepted or refused before anything is
// allocated for it, and what is accepted is what is written.
func TestEveryLengthOfAFrame(t *testing.T) {
	for _, p := range framings(t) {
		f := p.data.Framing
		inside := (len(f.TPDU) + len(f.Header)) / 2
		for n := range 65536 {
			head := []byte{byte(n >> 8), byte(n)}
			if f.Length == "ascii4" {
				head = fmt.Appendf(nil, "%04d", n%10000)
			}
			g := &greedy{Reader: bytes.NewReader(head)}
			_, _, err := p.ReadFrameIn(g)
			if g.most > f.BytesMax {
				t.Fatalf("%s: %x makes room for %d bytes", f.Length, head, g.most)
			}
			if !errors.Is(err, ErrFrame) {
				t.Fatalf("%s: %x alone is a frame: %v", f.Length, head, err)
			}
		}
		for n := range f.BytesMax + 2 {
			var w writes
			err := p.WriteFrame(&w, make([]byte, n))
			if fits := n > 0 && n+inside <= f.BytesMax; (err == nil) != fits || (err == nil) != (w.n == 1) {
				t.Fatalf("%s, counts itself %v: %d bytes: %v, %d writes", f.Length, f.CountsItself, n, err, w.n)
			}
			if err != nil {
				continue
			}
			if _, packed, err := p.ReadFrameIn(&w); err != nil || len(packed) != n || w.Len() != 0 {
				t.Fatalf("%s, counts itself %v: %d bytes come back as %d: %v", f.Length, f.CountsItself, n, len(packed), err)
			}
		}
	}
}

// What takes the rest of the message is read as far as it was written.
func TestRestOfTheMessage(t *testing.T) {
	for _, kind := range []string{"ans", "b", "n", "z"} {
		p, err := basedOn(t, "iso87-binary", "open-ended", fmt.Sprintf(`"fields": {"63": {"name": "rest", "type": %q, "length": 20, "prefix": "rest"}}`, kind))
		if err != nil {
			t.Fatal(err)
		}
		for n := 0; n <= 20; n += 2 {
			m := NewMessage("0200")
			m.Set(63, strings.Repeat("12", n/2))
			back, err := p.Unpack(pack(t, p, m))
			if err != nil {
				t.Errorf("%s, %d characters: %v", kind, n, err)
				continue
			}
			if got, _ := back.Field(63); got != strings.Repeat("12", n/2) {
				t.Errorf("%s, %d characters come back as %d", kind, n, len(got))
			}
		}
	}
}

// FuzzTLV: what is kept of DE 55 are whole tags of it, in their order, those that
// were asked for and none that may not be.
func FuzzTLV(f *testing.F) {
	f.Add(chipAtTheTill, "95")
	f.Add(chipKept, "9F1E")
	f.Add("5A08"+visaTest, "5A")
	f.Add("9F1081801122", "9F10")
	f.Add("9581000000", "95")
	f.Add("1F8102020101", "1F8102")
	f.Add("95820005080004e000", "95")
	f.Add("1F", "00")
	f.Fuzz(func(t *testing.T, s, tag string) {
		upper := strings.ToUpper(s)
		list, err := parseTLV(upper)
		var whole strings.Builder
		for _, one := range list {
			if !strings.HasPrefix(one.whole, one.tag) || len(one.tag) < 2 || len(one.tag) > 2*tlvTagMax {
				t.Fatalf("tag %q of %q", one.tag, one.whole)
			}
			whole.WriteString(one.whole)
		}
		if err == nil && whole.String() != upper {
			t.Fatal("the tags are not the whole")
		}
		asked := append([]string{tag, "95", "9F1E", "9F10", "9F36", "DF31"}, neverTags...)
		kept := keepTags(s, asked)
		if err != nil {
			if kept != "" || !errors.Is(err, ErrUndecodable) || list != nil {
				t.Fatalf("what is no TLV is kept: %v", err)
			}
			return
		}
		got, err := parseTLV(kept)
		if err != nil {
			t.Fatalf("what is kept is no TLV: %v", err)
		}
		before := tagged(list, "95")
		for _, one := range got {
			if slices.Contains(neverTags, one.tag) || !slices.Contains(asked, one.tag) {
				t.Fatalf("tag %s is kept", one.tag)
			}
			at := slices.Index(list, one)
			if at < 0 {
				t.Fatalf("tag %s is kept otherwise than it stood, or out of order", one.tag)
			}
			list = list[at+1:]
		}
		if n := tagged(got, "95"); n != before {
			t.Fatalf("tag 95 stood there %d times, and is kept %d times", before, n)
		}
		if checkTags([]string{tag}) == nil && slices.Contains(neverTags, tag) {
			t.Fatalf("a profile may ask for tag %s", tag)
		}
	})
}

func tagged(list []tlv, tag string) (n int) {
	for _, one := range list {
		if one.tag == tag {
			n++
		}
	}
	return n
}

// FuzzTrack: a track, or any other element, that is read from bytes is written as
// the same bytes, takes no more than there is, and is what the next one begins after.
func FuzzTrack(f *testing.F) {
	for i := range dialectsKnown() {
		for _, de := range []uint8{2, 35, 36, 43, 45, 55, 60, 63} {
			f.Add(uint8(i), de, []byte("37"+visaTest+"=29121010000012345678"))
			f.Add(uint8(i), de, []byte("+2"+visaTest)) // two digits of length, written otherwise
			f.Add(uint8(i), de, unhexed("374111111111111111D291210100000123456780"))
			f.Add(uint8(i), de, unhexed("0037"+visaTest+"D291210100000123456780"))
			f.Add(uint8(i), de, unhexed("F3F7F4F1F1F1F1F1F1F1F1F1F1F1F1F1F1F1F17EF2F9F1F2F1F0F1F0F0F0F0F0F1F2F3F4F5F6F7F8"))
			f.Add(uint8(i), de, unhexed("0004D6D0B9FA"))
		}
	}
	f.Fuzz(func(t *testing.T, which, de uint8, in []byte) {
		p := dialectsKnown()[int(which)%len(dialectsKnown())]
		if de > 128 || p.wire[de] == nil {
			return
		}
		w := p.wire[de]
		value, took, err := w.read(int(de), in)
		if err != nil {
			if !errors.Is(err, ErrUndecodable) || value != "" || took != 0 {
				t.Fatalf("%v, and %d bytes taken", err, took)
			}
			return
		}
		if took > len(in) {
			t.Fatalf("%d of %d bytes taken", took, len(in))
		}
		if err := w.check(int(de), value, ErrInvalid); err != nil {
			t.Fatalf("%s: what was read cannot be sent: %v", p.Name(), err)
		}
		again, err := w.append(nil, int(de), value)
		if err != nil || !bytes.Equal(again, in[:took]) {
			t.Fatalf("%s, DE %d: written otherwise (%v)\n in %x\nout %x", p.Name(), de, err, in[:took], again)
		}
		for n := 1; n <= len(w.Parts)+1; n++ { // the parts of DE 53, 60, 61 are pieces of the whole
			if part := w.part(value, n); !strings.Contains(value, part) {
				t.Fatalf("part %d of DE %d is not of it", n, de)
			}
		}
	})
}

// Bytes that code page 1047 reads as letters outside ASCII: refused, or the same
// bytes again.
func TestEBCDICLetters(t *testing.T) {
	p := dialect(t, "mc-0400")
	for c := range 256 {
		in := append(unhexed("F0F0F1"), byte(c)) // DE 48: 001 and one letter
		value, took, err := p.wire[48].read(48, in)
		if err != nil {
			continue
		}
		if again, err := p.wire[48].append(nil, 48, value); err != nil || !bytes.Equal(again, in[:took]) {
			t.Errorf("%x is written as %x (%v)", in, again, err)
		}
	}
}

// unhexed is for seeds: an odd or wrong one is a mistake in this file.
func unhexed(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// spoil makes them. Where each data element begins is found by packing the message
// without it and what follows.
func spoil(t *testing.T, p *Profile, m *Message) []spoiled {
	t.Helper()
	good := pack(t, p, m)
	head := len(pack(t, p, NewMessage(m.MTI())))
	mti := head - p.maps.size
	begins := func(de int) int {
		before := m.Clone()
		for _, other := range m.Fields() {
			if other >= de {
				before.Remove(other)
			}
		}
		return len(pack(t, p, before))
	}
	with := func(at int, b ...byte) []byte {
		return append(append(bytes.Clone(good[:at]), b...), good[at+len(b):]...)
	}
	numeral := func(s string) []byte { // a length, or an MTI, as the profile writes it
		b, err := p.mti.encode(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	list := []spoiled{
		{"empty", nil, 0, 0},
		{"half an MTI", good[:mti-1], 0, 0},
		{"MTI of class 9", with(0, numeral(p.data.Version+"900")...), 0, 0},
		{"MTI of class 0", with(0, numeral(p.data.Version+"000")...), 0, 0},
		{"MTI of another version", with(0, numeral("2200")...), 0, 0},
		{"no digit in the MTI", with(0, 0xAB), 0, 0},
		{"no bitmap", good[:mti], 1, mti},
		{"half a bitmap", good[:head-1], 1, mti},
		{"second bitmap announced", with(mti, oneMore(t, p, good[mti:head], 1)...), 1, mti},
		{"length of the PAN", with(begins(2), numeral("99")...), 2, begins(2)},
		{"no digit in the amount", with(begins(4), 0xFF), 4, begins(4)},
		{"no digit in the trace number", with(begins(11), 0xFF), 11, begins(11)},
		{"cut in the merchant", good[:begins(42)+3], 42, begins(42)},
		{"cut before the currency", good[:begins(49)], 49, begins(49)},
		{"a byte too much", append(bytes.Clone(good), 0), 1, len(good)},
		{"DE 5, which is not in the profile", with(mti, oneMore(t, p, good[mti:head], 5)...), 5, begins(5)},
	}
	if p.data.Bitmap == "hex" {
		list = append(list, spoiled{"no hex in the bitmap", with(mti+3, 'G'), 1, mti}, spoiled{"lower-case bitmap", with(mti, bytes.ToLower(good[mti:head])...), 1, mti})
	}
	if p.data.Bitmaps == 2 { // announced and cut off is not the same as not had
		list[8].bytes = with(mti, oneMore(t, p, good[mti:head], 1)...)[:head]
	}
	return list
}

// oneMore is a bitmap with one more bit, as the profile writes it.
func oneMore(t *testing.T, p *Profile, bitmap []byte, de int) []byte {
	t.Helper()
	var half uint64
	text, err := p.maps.text.decode(bitmap, p.maps.size)
	if err == nil {
		_, err = fmt.Sscanf(text, "%X", &half)
	}
	if err != nil || bits.OnesCount64(half) == 0 {
		t.Fatalf("the bitmap cannot be read: %v", err)
	}
	b, err := p.appendBitmap(nil, half|1<<(64-de))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Each kind of damage names the data element and the byte where it begins, and
// never a value.
func TestUnpackNamesTheElementAndTheOffset(t *testing.T) {
	each(t, func(t *testing.T, built *Profile) {
		p, err := basedOn(t, built.Name(), "without-five", `"fields": {"5": null}`)
		if err != nil {
			t.Fatal(err)
		}
		r := fullRequest(t, p, Sale)
		r.Chip, r.Track2, r.Track3 = Secret{}, Secret{}, Secret{}
		m := build(t, p, r)
		for _, bad := range spoil(t, p, m) {
			_, err := p.Unpack(bad.bytes)
			var at *FieldError
			if !errors.As(err, &at) || !errors.Is(err, ErrUndecodable) {
				t.Errorf("%s: %v", bad.name, err)
				continue
			}
			if at.Field != bad.field || at.Offset != bad.offset {
				t.Errorf("%s: names DE %d at byte %d, want DE %d at byte %d (%v)", bad.name, at.Field, at.Offset, bad.field, bad.offset, err)
			}
			if !strings.Contains(err.Error(), fmt.Sprintf("at byte %d", bad.offset)) || !strings.Contains(err.Error(), fieldLabel(bad.field)) {
				t.Errorf("%s: does not say so: %v", bad.name, err)
			}
			for _, de := range []int{2, 4, 42} {
				if value := m.Text(de); strings.Contains(err.Error(), value) || strings.Contains(err.Error(), value[:6]) {
					t.Errorf("%s: the error shows DE %d", bad.name, de)
				}
			}
		}
	})
}
