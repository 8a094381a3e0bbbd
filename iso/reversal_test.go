package iso

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func image(t testing.TB, p *Profile, m *Message) Image {
	t.Helper()
	img, err := p.ImageOf(m)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// stored takes an image through the form in which the journal keeps it.
func stored(t testing.TB, img Image) Image {
	t.Helper()
	b, err := img.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseImage(b)
	if err != nil {
		t.Fatal(err)
	}
	return back
}

// DE 90 as NIBSS prints it in a published reversal (POS interface v1.16 samples):
// 0200, trace 000007, sent 1220 12:32:31, acquirer 539983, forwarder 557694.
func TestOriginalAsPublished(t *testing.T) {
	const published = "020000000712201232310000053998300000557694"
	want := Original{MTI: "0200", STAN: 7, At: "1220123231", Acquirer: "539983", Forwarder: "557694"}
	if got := want.String(); got != published {
		t.Errorf("built %s", got)
	}
	if got, err := ParseOriginal(published); err != nil || got != want {
		t.Errorf("parsed %+v, %v", got, err)
	}
}

func TestReversalFromWhatWasKept(t *testing.T) {
	p := profile(t)
	sale := build(t, p, saleRequest(t))
	r, err := p.BuildReversal(stored(t, image(t, p, sale)), Reversal{Attempt: 1, Cause: NoAnswer, AuthCode: "A1B2C3"})
	if err != nil {
		t.Fatal(err)
	}
	if r.MTI() != "0400" {
		t.Errorf("MTI %s", r.MTI())
	}
	want := map[int]string{38: "A1B2C3", 39: "68", 90: "0200" + "000007" + "1123013015" + "00000123456" + "00000000000"}
	for _, de := range []int{2, 3, 4, 7, 11, 12, 13, 14, 22, 25, 32, 41, 42, 49} {
		want[de], _ = sale.Field(de)
	}
	for _, de := range r.Fields() {
		got, _ := r.Field(de)
		if got != want[de] {
			t.Errorf("DE %d differs from what it must be", de)
		}
		delete(want, de)
	}
	for de := range want {
		t.Errorf("DE %d is missing", de)
	}
	pack(t, p, r)
}

// L6: every attempt is the same message but for its MTI.
func TestL6RepeatsDifferInMTIOnly(t *testing.T) {
	p := profile(t)
	img := stored(t, image(t, p, build(t, p, saleRequest(t))))
	var first string
	for attempt := 1; attempt <= 4; attempt++ {
		r, err := p.BuildReversal(img, Reversal{Attempt: attempt, Cause: Restart})
		if err != nil {
			t.Fatal(err)
		}
		packed := string(pack(t, p, r))
		want := "0401"
		if attempt == 1 {
			want, first = "0400", packed[4:]
		}
		if packed[:4] != want || packed[4:] != first {
			t.Errorf("attempt %d: MTI %s, or its fields differ from the first", attempt, packed[:4])
		}
	}
}

func TestReversalOfAPartialApproval(t *testing.T) {
	p := profile(t)
	r, err := p.BuildReversal(image(t, p, build(t, p, saleRequest(t))), Reversal{Attempt: 1, Cause: Cancelled, Approved: 500})
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := r.Field(4); got != "000000000500" {
		t.Errorf("amount %s", got)
	}
	if got, _ := r.Field(39); got != "17" {
		t.Errorf("reason %s", got)
	}
}

// L11: tracks, PIN block and chip data cannot enter the image.
func TestL11ImageKeepsNoSecrets(t *testing.T) {
	p := profile(t)
	req := saleRequest(t)
	req.Track2, req.PINBlock, req.Chip = NewSecret(track2), NewSecret(pinBlock), NewSecret(chip)
	sale := build(t, p, req)
	sale.Set(36, "99"+track2)
	sale.Set(45, "B4111111111111111^TEST^2912")
	sale.Set(26, "12")
	sale.Set(53, "2600000000000000")
	img := image(t, p, sale)
	kept, err := img.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{track2, "=2912", pinBlock, chip, "TEST", "2600000000000000"} {
		if strings.Contains(string(kept), secret) {
			t.Errorf("the image keeps a secret of %d characters", len(secret))
		}
	}
	for _, de := range []int{26, 35, 36, 45, 52, 53} {
		if _, ok := img.Request().Field(de); ok {
			t.Errorf("the image keeps DE %d", de)
		}
	}
	// Nor can a stored image smuggle one in.
	for _, de := range []string{"35", "36", "45", "52", "26", "53"} {
		if _, err := ParseImage([]byte(`{"v":1,"mti":"0200","f":{"` + de + `":"1"}}`)); !errors.Is(err, ErrUndecodable) {
			t.Errorf("a stored image with DE %s was accepted", de)
		}
	}
}

// L16: a reversal is never reversed.
func TestL16NoReversalOfAReversal(t *testing.T) {
	p := profile(t)
	r, err := p.BuildReversal(image(t, p, build(t, p, saleRequest(t))), Reversal{Attempt: 1, Cause: NoAnswer})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.ImageOf(r); !errors.Is(err, ErrInvalid) {
		t.Errorf("an image of a reversal: %v", err)
	}
	smuggled, err := ParseImage([]byte(`{"v":1,"mti":"0400","f":{"11":"000007"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.BuildReversal(smuggled, Reversal{Attempt: 1, Cause: NoAnswer}); !errors.Is(err, ErrInvalid) {
		t.Errorf("a reversal of a reversal: %v", err)
	}
	if p.Reversible("inquiry") || !p.Reversible(Sale) {
		t.Error("what is reversible is not what the profile says")
	}
}

func TestReversalRefusesNonsense(t *testing.T) {
	p := profile(t)
	img := image(t, p, build(t, p, saleRequest(t)))
	for name, c := range map[string]struct {
		img Image
		r   Reversal
	}{
		"no image":      {Image{}, Reversal{Attempt: 1, Cause: NoAnswer}},
		"attempt zero":  {img, Reversal{Attempt: 0, Cause: NoAnswer}},
		"unknown cause": {img, Reversal{Attempt: 1, Cause: "boredom"}},
		"no cause":      {img, Reversal{Attempt: 1}},
	} {
		if _, err := p.BuildReversal(c.img, c.r); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, b := range []string{"", "{}", "null", `{"v":2,"mti":"0200","f":{}}`, `{"v":1,"mti":"02","f":{}}`, `{"v":1,"mti":"0200","f":{"x":"1"}}`} {
		if _, err := ParseImage([]byte(b)); !errors.Is(err, ErrUndecodable) {
			t.Errorf("image %q: %v", b, err)
		}
	}
}

func TestEveryCauseHasAReason(t *testing.T) {
	for _, name := range ProfileNames() {
		p, err := LoadProfile(name)
		if err != nil {
			t.Fatal(err)
		}
		img := image(t, p, build(t, p, saleRequest(t)))
		for _, c := range Causes() {
			r, err := p.BuildReversal(img, Reversal{Attempt: 1, Cause: c, STAN: 8})
			if err != nil {
				t.Fatal(err)
			}
			if reason, ok := r.Field(p.data.Reversal.Reason); !ok || len(reason) < 2 {
				t.Errorf("%s, cause %s: reason %q", name, c, reason)
			}
		}
		if !slices.Contains(p.TxTypes(), Sale) {
			t.Errorf("%s knows no sale", name)
		}
	}
}
