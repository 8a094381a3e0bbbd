package iso

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

// Test cards come from published test ranges only.
const (
	visaTest   = "4111111111111111"
	masterTest = "5555555555554444"
)

func profile(t testing.TB) *Profile {
	t.Helper()
	p, err := LoadProfile("iso87-ascii")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func saleRequest(t testing.TB) Request {
	t.Helper()
	pan, err := ParsePAN(visaTest)
	if err != nil {
		t.Fatal(err)
	}
	usd, err := LookupCurrency("USD")
	if err != nil {
		t.Fatal(err)
	}
	return Request{
		Type: Sale, STAN: 7, PAN: pan, Expiry: NewSecret("2912"), Amount: 1250, Currency: usd,
		At:       time.Date(2026, 11, 23, 9, 30, 15, 0, time.FixedZone("", 8*3600)),
		Acceptor: Acceptor{Terminal: "TERM01", Merchant: "MERCHANT0000001", Acquirer: "123456"},
	}
}

func build(t testing.TB, p *Profile, r Request) *Message {
	t.Helper()
	m, err := p.Build(r)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func pack(t testing.TB, p *Profile, m *Message) []byte {
	t.Helper()
	b, err := p.Pack(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The bytes of a sale, written out by hand from the standard's field table.
func TestSaleOnTheWire(t *testing.T) {
	p := profile(t)
	got := string(pack(t, p, build(t, p, saleRequest(t))))
	want := "0200" + "723C048100C08000" +
		"16" + visaTest + // 2
		"000000" + // 3
		"000000001250" + // 4
		"1123013015" + // 7, UTC
		"000007" + // 11
		"093015" + "1123" + "2912" + // 12 13 14, local
		"012" + // 22
		"00" + // 25
		"06123456" + // 32
		"TERM01  " + // 41
		"MERCHANT0000001" + // 42
		"840" // 49
	if got != want {
		t.Fatalf("sale on the wire\n got %s\nwant %s", got, want)
	}
}

func TestUnpackInvertsPack(t *testing.T) {
	p := profile(t)
	r := saleRequest(t)
	r.Track2, r.PINBlock, r.Chip = NewSecret(visaTest+"=29121010000000000"), NewSecret("0123456789ABCDEF"), NewSecret("9505")
	sent := build(t, p, r)
	packed := pack(t, p, sent)
	got, err := p.Unpack(packed)
	if err != nil {
		t.Fatal(err)
	}
	for _, de := range sent.Fields() {
		want, _ := sent.Field(de)
		if have, _ := got.Field(de); p.unfilled(de, have) != want {
			t.Errorf("DE %d differs after a round trip", de)
		}
	}
	if !bytes.Equal(pack(t, p, got), packed) {
		t.Error("packing again gives other bytes")
	}
}

func TestUnpackRefuses(t *testing.T) {
	p := profile(t)
	good := string(pack(t, p, build(t, p, saleRequest(t))))
	for name, bad := range map[string]string{
		"empty":              "",
		"half":               good[:len(good)/2],
		"trailing byte":      good + "0",
		"letter in amount":   strings.Replace(good, "000000001250", "00000000125A", 1),
		"letter in MTI":      "02O0" + good[4:],
		"signed length":      strings.Replace(good, "06123456", "+6123456", 1),
		"length past max":    strings.Replace(good, "16"+visaTest, "99"+visaTest, 1),
		"second bitmap flag": good[:4] + "F" + good[5:],
		"lower-case bitmap":  good[:4] + strings.ToLower(good[4:20]) + good[20:],
		"binary rubbish":     "\x00\xff\x10\x80" + good,
		"unknown field":      good[:4] + "7A" + good[6:],
	} {
		m, err := p.Unpack([]byte(bad))
		if err == nil {
			t.Errorf("%s: accepted as %v", name, m)
			continue
		}
		if !errors.Is(err, ErrUndecodable) {
			t.Errorf("%s: %v is not ErrUndecodable", name, err)
		}
		if strings.Contains(err.Error(), visaTest) {
			t.Errorf("%s: the error shows the card", name)
		}
	}
}

func TestBuildNamesWhatIsWrong(t *testing.T) {
	p := profile(t)
	for name, c := range map[string]struct {
		change func(*Request)
		field  int
	}{
		"no card":         {func(r *Request) { r.PAN = PAN{} }, 2},
		"amount zero":     {func(r *Request) { r.Amount = 0 }, 4},
		"amount too big":  {func(r *Request) { r.Amount = AmountMax + 1 }, 4},
		"no trace number": {func(r *Request) { r.STAN = 0 }, 11},
		"no time":         {func(r *Request) { r.At = time.Time{} }, 7},
		"month 13":        {func(r *Request) { r.Expiry = NewSecret("2913") }, 14},
		"no currency":     {func(r *Request) { r.Currency = Currency{} }, 49},
		"no terminal":     {func(r *Request) { r.Acceptor.Terminal = "" }, 41},
		"long terminal":   {func(r *Request) { r.Acceptor.Terminal = "TERMINAL9" }, 41},
		"no merchant":     {func(r *Request) { r.Acceptor.Merchant = "" }, 42},
		"bad PIN block":   {func(r *Request) { r.PINBlock = NewSecret("12") }, 52},
	} {
		r := saleRequest(t)
		c.change(&r)
		_, err := p.Build(r)
		var fe *FieldError
		if !errors.As(err, &fe) || fe.Field != c.field || !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %v, want an ErrInvalid of DE %d", name, err, c.field)
		}
	}
	r := saleRequest(t)
	r.Type = "loan"
	if _, err := p.Build(r); !errors.Is(err, ErrInvalid) {
		t.Errorf("unknown transaction: %v", err)
	}
}

func TestLargestAmount(t *testing.T) {
	p := profile(t)
	r := saleRequest(t)
	r.Amount = AmountMax
	m, err := p.Unpack(pack(t, p, build(t, p, r)))
	if err != nil {
		t.Fatal(err)
	}
	v, _ := m.Field(4)
	if a, err := ParseDE4(v); err != nil || a != AmountMax {
		t.Fatalf("got %v, %v", a, err)
	}
}
