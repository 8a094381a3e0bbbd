package iso

import (
	"errors"
	"testing"

	"pgregory.net/rapid"
)

func TestTextFormsInvert(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stan := STAN(rapid.Uint32Range(1, uint32(STANMax)).Draw(t, "stan"))
		if got, err := ParseSTAN(stan.String()); err != nil || got != stan {
			t.Fatalf("STAN %v: %v, %v", stan, got, err)
		}
		amount := Amount(rapid.Int64Range(0, int64(AmountMax)).Draw(t, "amount"))
		if got, err := ParseDE4(amount.String()); err != nil || got != amount {
			t.Fatalf("amount %d: %v, %v", int64(amount), got, err)
		}
		digits := rapid.StringMatching(`[1-9][0-9]{0,10}|`)
		o := Original{MTI: "0200", STAN: stan, At: rapid.SampledFrom([]string{"", "1123093015"}).Draw(t, "at"),
			Acquirer: digits.Draw(t, "acquirer"), Forwarder: digits.Draw(t, "forwarder")}
		if got, err := ParseOriginal(o.String()); err != nil || got != o || len(o.String()) != 42 {
			t.Fatalf("original %+v: %+v, %v", o, got, err)
		}
	})
}

func TestTextFormsRefuse(t *testing.T) {
	for _, s := range []string{"", "000000", "1", "1000000", "00000a", "-00001"} {
		if _, err := ParseSTAN(s); !errors.Is(err, ErrInvalid) {
			t.Errorf("STAN %q: %v", s, err)
		}
	}
	for _, s := range []string{"", "1", "00000000000a", "0000000000001", "-00000000001"} {
		if _, err := ParseDE4(s); !errors.Is(err, ErrInvalid) {
			t.Errorf("DE 4 %q: %v", s, err)
		}
	}
	for _, s := range []string{"", "02", "02000", "O200", "020 "} {
		if _, err := ParseMTI(s); !errors.Is(err, ErrInvalid) {
			t.Errorf("MTI %q: %v", s, err)
		}
	}
	if _, err := ParseOriginal("0200" + "000000" + "00000000000000000000000000000000"); !errors.Is(err, ErrInvalid) {
		t.Errorf("an original without a trace number: %v", err)
	}
}

func TestAnswersOfMTIs(t *testing.T) {
	for request, answer := range map[MTI]MTI{"0200": "0210", "0201": "0210", "0400": "0410", "0401": "0410", "0420": "0430", "0421": "0430", "0220": "0230", "1420": "1430", "0800": "0810",
		"0210": "", "0290": "", "0410": "", "": "", "02": "", "02x0": ""} {
		if got := request.Answer(); got != answer {
			t.Errorf("%s is answered by %s, got %s", request, answer, got)
		}
	}
	for mti, want := range map[MTI]bool{"0200": false, "0400": true, "0401": true, "1420": true, "0800": false} {
		if mti.Reversal() != want {
			t.Errorf("%s: reversal %v", mti, !want)
		}
	}
}

func TestAmountsAsPeopleTypeThem(t *testing.T) {
	usd, _ := LookupCurrency("usd")
	jpy, _ := LookupCurrency("392")
	kwd, _ := LookupCurrency("KWD")
	for _, c := range []struct {
		in   string
		cur  Currency
		want Amount
		text string
	}{
		{"12.50", usd, 1250, "12.50 USD"}, {"12", usd, 1200, "12.00 USD"}, {"0.01", usd, 1, "0.01 USD"},
		{"9999999999.99", usd, AmountMax, "9999999999.99 USD"}, {"500", jpy, 500, "500 JPY"},
		{"1.5", kwd, 1500, "1.500 KWD"}, {"007", usd, 700, "7.00 USD"}, {"12.5", usd, 1250, "12.50 USD"},
	} {
		got, err := ParseAmount(c.in, c.cur)
		if err != nil || got != c.want || c.cur.Format(got) != c.text {
			t.Errorf("%q %s: %d, %v, %q", c.in, c.cur.Alpha, got, err, c.cur.Format(got))
		}
	}
	for _, in := range []string{"", "0", "0.00", "-1", "+1", "1,000", "1.2.3", ".5", "5.", "1.234", "10000000000.00", "12 50", "1e3", "１２", "0x10"} {
		if got, err := ParseAmount(in, usd); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %d, %v", in, got, err)
		}
	}
	if _, err := ParseAmount("1.5", jpy); !errors.Is(err, ErrInvalid) {
		t.Errorf("yen have no decimals: %v", err)
	}
	if got := usd.Format(-5); got != "-0.05 USD" {
		t.Errorf("a negative amount: %s", got)
	}
	if _, err := LookupCurrency("XXX"); !errors.Is(err, ErrInvalid) {
		t.Errorf("an unknown currency: %v", err)
	}
}

func TestPANs(t *testing.T) {
	for _, good := range []string{visaTest, masterTest, "378282246310005", "6011111111111117", "3530111333300000"} {
		if p, err := ParsePAN(good); err != nil || p.Reveal() != good || p.Last4() != good[len(good)-4:] {
			t.Errorf("test card ending %s: %v", good[len(good)-4:], err)
		}
	}
	for _, bad := range []string{"", "4111111111111112", "41111111111", "41111111111111111111", "4111-1111-1111-1111", "411111111111111a"} {
		if _, err := ParsePAN(bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("accepted a bad PAN of %d characters", len(bad))
		}
	}
}
