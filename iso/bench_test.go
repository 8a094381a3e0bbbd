package iso

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/moov-io/iso8583"
	"github.com/moov-io/iso8583/encoding"
	"github.com/moov-io/iso8583/field"
	"github.com/moov-io/iso8583/prefix"
)

// The benchmarks compare what this package does with a message with bare packing
// and unpacking by moov-io/iso8583, in the same run: blocks of ours and of theirs
// by turns, and the medians of the blocks. Repeat with
//
//	go test ./iso -run '^$' -bench Message -benchtime 20000x -count 3
//
// The budget is 40 µs for building, packing and a MAC, and for unpacking, checking
// the MAC and matching.

// benchBlocks is how many blocks of each there are.
const benchBlocks = 11

// versus runs ours and theirs by turns and reports the medians in ns, their ratio,
// and what each allocates.
func versus(b *testing.B, ours, theirs func()) {
	b.Helper()
	each := max(1, b.N/benchBlocks)
	block := func(do func()) float64 {
		start := time.Now()
		for range each {
			do()
		}
		return float64(time.Since(start).Nanoseconds()) / float64(each)
	}
	ours()
	theirs()
	var us, them []float64
	b.ResetTimer()
	for range benchBlocks {
		us, them = append(us, block(ours)), append(them, block(theirs))
	}
	b.StopTimer()
	slices.Sort(us)
	slices.Sort(them)
	b.ReportMetric(us[benchBlocks/2], "ours-ns")
	b.ReportMetric(them[benchBlocks/2], "moov-ns")
	b.ReportMetric(us[benchBlocks/2]/them[benchBlocks/2], "ours/moov")
	b.ReportMetric(testing.AllocsPerRun(100, ours), "ours-allocs")
	b.ReportMetric(testing.AllocsPerRun(100, theirs), "moov-allocs")
	b.ReportMetric(0, "ns/op") // both together say nothing
}

// moovSpec is the UnionPay profile's field table as moov writes it, of the data
// elements that the benchmarks use. DE 14, 23, 49 and so on are as in the profile.
func moovSpec() *iso8583.MessageSpec {
	numeric := func(n int) field.Field {
		return field.NewString(&field.Spec{Length: n, Enc: encoding.BCD, Pref: prefix.BCD.Fixed})
	}
	text := func(n int) field.Field {
		return field.NewString(&field.Spec{Length: n, Enc: encoding.ASCII, Pref: prefix.ASCII.Fixed})
	}
	bytesOf := func(n int) field.Field {
		return field.NewBinary(&field.Spec{Length: n, Enc: encoding.Binary, Pref: prefix.Binary.Fixed})
	}
	return &iso8583.MessageSpec{Fields: map[int]field.Field{
		0:  numeric(4),
		1:  field.NewBitmap(&field.Spec{Length: 8, Enc: encoding.Binary, Pref: prefix.Binary.Fixed, DisableAutoExpand: true}),
		2:  field.NewString(&field.Spec{Length: 19, Enc: encoding.LBCD, Pref: prefix.BCD.LL}),
		3:  numeric(6),
		4:  numeric(12),
		11: numeric(6),
		12: numeric(6),
		13: numeric(4),
		14: numeric(4),
		22: field.NewString(&field.Spec{Length: 3, Enc: encoding.LBCD, Pref: prefix.BCD.Fixed}),
		23: numeric(3),
		25: numeric(2),
		26: numeric(2),
		37: text(12),
		38: text(6),
		39: text(2),
		41: text(8),
		42: text(15),
		49: text(3),
		52: bytesOf(8),
		53: numeric(16),
		55: field.NewBinary(&field.Spec{Length: 255, Enc: encoding.Binary, Pref: prefix.BCD.LLL}),
		60: field.NewString(&field.Spec{Length: 30, Enc: encoding.LBCD, Pref: prefix.BCD.LLL}),
		64: bytesOf(8),
	}}
}

// moovMessage does what an application does with moov: sets every element and packs.
// Opaque ones are bytes already.
func moovMessage(b testing.TB, spec *iso8583.MessageSpec, mti string, texts map[int]string, opaque map[int][]byte) []byte {
	m := iso8583.NewMessage(spec)
	m.MTI(mti)
	var errs []error
	for de, value := range texts {
		errs = append(errs, m.Field(de, value))
	}
	for de, value := range opaque {
		errs = append(errs, m.BinaryField(de, value))
	}
	packed, err := m.Pack()
	if err = errors.Join(append(errs, err)...); err != nil {
		b.Fatal(err)
	}
	return packed
}

// forMoov splits a message into what moov takes as text and as bytes.
func forMoov(t testing.TB, p *Profile, m *Message) (texts map[int]string, opaque map[int][]byte) {
	t.Helper()
	texts, opaque = map[int]string{}, map[int][]byte{}
	for _, de := range m.Fields() {
		value, _ := m.Field(de)
		switch w := p.wire[de]; {
		case w.Type == "b":
			opaque[de] = unhex(t, value)
		case w.padded():
			for len(value) < w.units {
				value += " "
			}
			texts[de] = value
		default:
			texts[de] = value
		}
	}
	return texts, opaque
}

// benchScene is a sale by chip and PIN, under a key.
func benchScene(t testing.TB) (*Profile, *SoftKeys, Request) {
	t.Helper()
	p := dialect(t, "cup-0400-sale-06")
	keys := &SoftKeys{}
	if err := keys.SetMACKey(NewSecret("0123456789ABCDEFFEDCBA9876543210")); err != nil {
		t.Fatal(err)
	}
	r := fullRequest(t, p, Sale)
	r.Track2, r.Track3 = Secret{}, Secret{} // in a chip sale the track is in DE 55; moov has no packed track
	return p, keys, r
}

func sealed(t testing.TB, p *Profile, m *Message, keys Authenticator) []byte {
	t.Helper()
	packed, err := p.Seal(context.Background(), m, keys)
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

// sealedByMoov is the message with its MAC in it, as moov packs it; the two must be
// the same bytes, or the comparison is between two different things.
func sealedByMoov(t testing.TB, p *Profile, spec *iso8583.MessageSpec, packed []byte) (mti string, texts map[int]string, opaque map[int][]byte) {
	t.Helper()
	m, err := p.Unpack(packed)
	if err != nil {
		t.Fatal(err)
	}
	texts, opaque = forMoov(t, p, m)
	if theirs := moovMessage(t, spec, string(m.MTI()), texts, opaque); !bytes.Equal(theirs, packed) {
		t.Fatalf("moov packs otherwise\nours   %x\nmoov's %x", packed, theirs)
	}
	return string(m.MTI()), texts, opaque
}

// answered is what a host answers to a sale, with its MAC.
func answered(t testing.TB, p *Profile, sale *Message, keys Authenticator) []byte {
	t.Helper()
	a := answerTo(sale, "00")
	a.Remove(7)
	a.Set(12, "093016")
	a.Set(13, "1123")
	a.Set(38, "A1B2C3")
	data, _ := sale.Field(60)
	a.Set(60, data)
	return sealed(t, p, a, keys)
}

// moov, an implementation by others, packs a sale, an answer and a reversal of
// UnionPay to the same bytes.
func TestSameBytesAsMoov(t *testing.T) {
	p, keys, r := benchScene(t)
	sale := build(t, p, r)
	reversal, err := p.BuildReversal(image(t, p, sale), Reversal{Attempt: 1, Cause: NoAnswer, AuthCode: "A1B2C3"})
	if err != nil {
		t.Fatal(err)
	}
	spec := moovSpec()
	for _, packed := range [][]byte{sealed(t, p, sale, keys), answered(t, p, sale, keys), sealed(t, p, reversal, keys)} {
		sealedByMoov(t, p, spec, packed)
		if err := iso8583.NewMessage(spec).Unpack(packed); err != nil {
			t.Error(err)
		}
	}
}

func BenchmarkMessageBuildAndSeal(b *testing.B) {
	p, keys, r := benchScene(b)
	spec := moovSpec()
	mti, texts, opaque := sealedByMoov(b, p, spec, sealed(b, p, build(b, p, r), keys))
	versus(b, func() { sealed(b, p, build(b, p, r), keys) }, func() { moovMessage(b, spec, mti, texts, opaque) })
}

func BenchmarkMessageUnpackVerifyMatch(b *testing.B) {
	p, keys, r := benchScene(b)
	sale := build(b, p, r)
	packed := answered(b, p, sale, keys)
	spec := moovSpec()
	sealedByMoov(b, p, spec, packed)
	ctx := context.Background()
	versus(b, func() {
		m, err := p.Unpack(packed)
		if err == nil {
			err = p.Verify(ctx, m, packed, keys)
		}
		if err == nil {
			err = p.Match(sale, m)
		}
		if err != nil {
			b.Fatal(err)
		}
	}, func() {
		if err := iso8583.NewMessage(spec).Unpack(packed); err != nil {
			b.Fatal(err)
		}
	})
}

func BenchmarkMessageReversalFromImage(b *testing.B) {
	p, keys, r := benchScene(b)
	img := stored(b, image(b, p, build(b, p, r)))
	why := Reversal{Attempt: 1, Cause: NoAnswer}
	reverse := func() []byte {
		m, err := p.BuildReversal(img, why)
		if err != nil {
			b.Fatal(err)
		}
		return sealed(b, p, m, keys)
	}
	spec := moovSpec()
	mti, texts, opaque := sealedByMoov(b, p, spec, reverse())
	versus(b, func() { reverse() }, func() { moovMessage(b, spec, mti, texts, opaque) })
}

// Matching alone has no counterpart in moov; theirs is unpacking the answer.
func BenchmarkMessageMatch(b *testing.B) {
	p, keys, r := benchScene(b)
	sale := build(b, p, r)
	packed := answered(b, p, sale, keys)
	answer, err := p.Unpack(packed)
	if err != nil {
		b.Fatal(err)
	}
	spec := moovSpec()
	versus(b, func() {
		if err := p.Match(sale, answer); err != nil {
			b.Fatal(err)
		}
	}, func() {
		if err := iso8583.NewMessage(spec).Unpack(packed); err != nil {
			b.Fatal(err)
		}
	})
}
