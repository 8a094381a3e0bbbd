package iso

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
)

// vector is a message that others published; testdata/wire/wire.json names the
// source of each.
type vector struct {
	ID       string            `json:"id"`
	Hex      string            `json:"hex"`
	Decoded  map[int]string    `json:"-"`
	Fields   map[string]string `json:"decoded"`
	Framing  *struct{ TPDU, Header *string }
	Parts    map[string]map[string]string `json:"decoded_subfields"`
	Source   string                       `json:"source"`
	Replaced bool                         `json:"pan_substituted"`
}

func vectors(t testing.TB) map[string]vector {
	t.Helper()
	raw, err := os.ReadFile("../testdata/wire/wire.json")
	if err != nil {
		t.Fatal(err)
	}
	var list []vector
	if err := json.Unmarshal(raw, &list); err != nil {
		t.Fatal(err)
	}
	all := map[string]vector{}
	for _, v := range list {
		if v.Source == "" || v.Hex == "" {
			t.Errorf("%s names no source or has no bytes", v.ID)
		}
		all[v.ID] = v
	}
	return all
}

// dialects says which profile speaks each vector.
var dialects = map[string]string{
	"cup-0400-sale-06": "unionpay", "cup-0400-negative-track": "unionpay", "cup-jiso-0200": "unionpay", "cup-jiso-0210": "unionpay",
	"cup-0800-signon-a": "unionpay", "cup-0800-signon-b": "unionpay-no-header", "cup-0200-mac-ok": "unionpay",
	"nibss-0420": "nibss", "nibss-0200": "nibss", "traderoute-reversal0420": "traderoute", "traderoute-auth0200": "traderoute",
	"moov-iso-reversal-message": "iso87-ascii", "moov-iso-reversal-message-response": "iso87-ascii", "moov-financial-transaction-message": "iso87-ascii",
	"iso1993-reversaladvice": "ebt93", "iso1993-purchasewithcashbackpartialapprovaltoaquirer": "ebt93",
	"mc-0400": "iso87-ebcdic", "npci-upi-0420": "iso87-ascii-binmap", "so-0810-bcd-ebcdic": "so-mixed",
}

// spelled are values that wire.json describes rather than quotes.
var spelled = map[string]map[string]string{
	"so-0810-bcd-ebcdic": {"39": "00", "70": "001"},
	"cup-0200-mac-ok":    {"62": "5F01123238343431323334353637383930313233345F03063136303033365F04063230303832365C023031"},
}

func (v vector) bytes(t testing.TB) []byte {
	t.Helper()
	b, err := hex.DecodeString(v.Hex)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func dialect(t testing.TB, id string) *Profile {
	t.Helper()
	name := dialects[id]
	p, err := LoadProfile(name)
	if errors.Is(err, ErrUnknownProfile) {
		p, err = LoadProfile("../testdata/wire/profiles/" + name + ".json")
	}
	if err != nil {
		t.Fatalf("%s: %v", id, err)
	}
	return p
}

// Every published message decodes to what its source says, and packs back to the
// same bytes.
func TestPublishedMessages(t *testing.T) {
	negative := map[string]bool{"cup-0400-negative-track": true, "cup-jiso-0210": true}
	for id, v := range vectors(t) {
		if dialects[id] == "" {
			t.Errorf("%s: no profile is named for it", id)
		}
		if negative[id] {
			continue
		}
		p, whole := dialect(t, id), v.bytes(t)
		packed := whole
		if v.Framing != nil {
			e, inside, err := p.ReadFrameIn(bytes.NewReader(whole))
			if err != nil {
				t.Errorf("%s: %v", id, err)
				continue
			}
			if v.Framing.TPDU != nil && e.TPDU != *v.Framing.TPDU || v.Framing.Header != nil && e.Header != *v.Framing.Header {
				t.Errorf("%s: envelope %+v", id, e)
			}
			var again bytes.Buffer
			if err := p.WriteFrameIn(&again, e, inside); err != nil || !bytes.Equal(again.Bytes(), whole) {
				t.Errorf("%s: the frame is written otherwise (%v)", id, err)
			}
			packed = inside
		}
		decodes(t, p, v, packed)
	}
}

func decodes(t *testing.T, p *Profile, v vector, packed []byte) {
	t.Helper()
	m, err := p.Unpack(packed)
	if err != nil {
		t.Errorf("%s: %v", v.ID, err)
		return
	}
	if string(m.MTI()) != v.Fields["0"] {
		t.Errorf("%s: MTI %s", v.ID, m.MTI())
	}
	n := 0
	for de, want := range v.Fields {
		if de == "0" || de == "bitmap" {
			continue
		}
		n++
		if other, ok := spelled[v.ID][de]; ok {
			want = other
		}
		number := 0
		if err := json.Unmarshal([]byte(de), &number); err != nil {
			t.Fatal(err)
		}
		got, ok := m.Field(number)
		if strings.HasPrefix(want, "private, rest of message") {
			ok, got, want = ok && len(got) > 0, "", ""
		}
		if !ok || got != want {
			t.Errorf("%s: DE %s decodes to another value (%d characters, %d stated)", v.ID, de, len(got), len(want))
		}
	}
	if n != len(m.Fields()) {
		t.Errorf("%s: %d data elements decode, %d are stated", v.ID, len(m.Fields()), n)
	}
	again, err := p.Pack(m)
	if err != nil || !bytes.Equal(again, packed) {
		t.Errorf("%s: packs to other bytes (%v)", v.ID, err)
	}
}

// A reversal that carries track data, with its MAC still missing: refused as it
// is; and completed it is still nothing that our builder could have made.
func TestPublishedReversalWithATrack(t *testing.T) {
	v, p := vectors(t)["cup-0400-negative-track"], dialect(t, "cup-0400-negative-track")
	_, err := p.Unpack(v.bytes(t))
	var at *FieldError
	if !errors.As(err, &at) || at.Field != 64 || at.Offset != len(v.bytes(t)) {
		t.Errorf("without its MAC: %v", err)
	}
	m, err := p.Unpack(append(v.bytes(t), "00000000"...))
	if err != nil {
		t.Fatal(err)
	}
	request := m.Clone()
	request.SetMTI("0200")
	img, err := p.ImageOf(request)
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.BuildReversal(img, Reversal{Attempt: 1, Cause: NoAnswer})
	if err != nil {
		t.Fatal(err)
	}
	for _, de := range []int{26, 35, 36, 45, 52, 53} {
		if _, ok := r.Field(de); ok {
			t.Errorf("our reversal carries DE %d", de)
		}
	}
}

// A length that announces more than follows is a truncated frame; the message in
// it decodes all the same.
func TestPublishedFrameWithAStaleLength(t *testing.T) {
	v, p := vectors(t)["cup-jiso-0210"], dialect(t, "cup-jiso-0210")
	whole := v.bytes(t)
	if _, err := p.ReadFrame(bytes.NewReader(whole)); !errors.Is(err, ErrFrame) || !strings.Contains(err.Error(), "announces 170 bytes and ended after 142") {
		t.Errorf("read as a frame: %v", err)
	}
	decodes(t, p, v, whole[2+5+6:])
}

// The reversal of a published sale is shaped as published ones are.
func TestReversalOfAPublishedSale(t *testing.T) {
	v, p := vectors(t)["cup-0400-sale-06"], dialect(t, "cup-0400-sale-06")
	published, err := p.Unpack(v.bytes(t)[13:])
	if err != nil {
		t.Fatal(err)
	}
	sale := published.Clone()
	sale.SetMTI("0200")
	sale.Remove(39)
	sale.Remove(64)
	chip := published.Text(55)
	sale.Set(55, "9F2608000000000000000057134761739001010119D22122011758928889000F"+chip+"5A0847617390010101195F200454455354")
	sale.Set(35, "4761739001010119D22122011758928889000")
	sale.Set(52, "0123456789ABCDEF")
	img, err := p.ImageOf(sale)
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.BuildReversal(img, Reversal{Attempt: 2, Cause: UnknownCode})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := p.Seal(context.Background(), r, fixedMAC("ECEB49A900000000"))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.ToUpper(hex.EncodeToString(sealed)); got != v.Hex[26:] {
		t.Errorf("the reversal differs from the published one:\n got %s\nwant %s", r, published)
	}
}

// fixedMAC is a PIN pad that always makes the same MAC.
type fixedMAC string

func (f fixedMAC) MAC(context.Context, MACAlgorithm, []byte) ([]byte, error) {
	return hex.DecodeString(string(f))
}

// The one published frame whose key is published too.
func TestPublishedMAC(t *testing.T) {
	v, p := vectors(t)["cup-0200-mac-ok"], dialect(t, "cup-0200-mac-ok")
	packed, err := p.ReadFrame(bytes.NewReader(v.bytes(t)))
	if err != nil {
		t.Fatal(err)
	}
	m, err := p.Unpack(packed)
	if err != nil {
		t.Fatal(err)
	}
	keys := &SoftKeys{}
	if err := keys.SetMACKey(NewSecret("0723C80DB5F4CD3D0723C80DB5F4CD3D")); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if err := p.Verify(ctx, m, packed, keys); err != nil {
		t.Errorf("the published MAC: %v", err)
	}
	again, err := p.Seal(ctx, m, keys)
	if err != nil || !bytes.Equal(again, packed) {
		t.Errorf("sealed anew it differs (%v)", err)
	}
	for at := range packed {
		bad := bytes.Clone(packed)
		bad[at] ^= 1
		if got, err := p.Unpack(bad); err == nil && p.Verify(ctx, got, bad, keys) == nil {
			t.Errorf("byte %d can be changed and the MAC fits", at)
		}
	}
	m.Remove(64)
	if err := p.Verify(ctx, m, packed, keys); !errors.Is(err, ErrNoMAC) || errors.Is(err, ErrWrongMAC) {
		t.Errorf("without a MAC: %v", err)
	}
}
