package iso

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// chipAtTheTill is DE 55 as a kernel gives it: what a reversal keeps (95 9F1E 9F10
// 9F36 DF31) between what it may not keep (57 5A 5F20 9F1F, a template with the PAN
// in it) and what it does not need (9F26 82).
const (
	chipAtTheTill = "9F26081122334455667788" + "57115555555555554444D29121010000012345" + "9505080004E000" + "5A085555555555554444" +
		"9F1E083838343437303436" + "5F2009544553542F43415244" + "9F10080102030405060708" + "82027C00" + "9F36020102" +
		"700A5A085555555555554444" + "9F1F0A31323334353637383930" + "DF31050102030405"
	chipKept = "9505080004E000" + "9F1E083838343437303436" + "9F10080102030405060708" + "9F36020102" + "DF31050102030405"
)

func each(t *testing.T, do func(t *testing.T, p *Profile)) {
	t.Helper()
	for _, name := range ProfileNames() {
		t.Run(name, func(t *testing.T) {
			p, err := LoadProfile(name)
			if err != nil {
				t.Fatal(err)
			}
			do(t, p)
		})
	}
}

// fullRequest says all that firmware can say about a transaction.
func fullRequest(t testing.TB, p *Profile, kind TxType) Request {
	t.Helper()
	r := saleRequest(t)
	pan, err := ParsePAN(masterTest)
	if err != nil {
		t.Fatal(err)
	}
	r.Type, r.PAN, r.Sequence, r.EntryMode, r.Batch, r.Operator, r.Capability = kind, pan, "001", "051", "000123", "001", "601"
	if p.data.Version == "1" {
		r.EntryMode = "510101511344"
	}
	r.Acceptor.Forwarder, r.Acceptor.Category = "654321", "5411"
	r.Track2, r.Track3 = NewSecret(masterTest+"D29121010000012345"), NewSecret("99"+masterTest+"D1234")
	r.PINBlock, r.Chip, r.Script = NewSecret("1C9A7E30B24D58F6"), NewSecret(chipAtTheTill), NewSecret("DF31050102030405")
	r.Totals = NewSecret(strings.Repeat("0", 61) + "1")
	r.Original = &Reference{STAN: 6, Batch: "000122", At: r.At.Add(-time.Hour), RRN: "000000000006", AuthCode: "A1B2C3", MTI: MTI(p.data.Version + "200")}
	return r
}

// rowA1 is a row of PROTOCOL A.1: what a transaction is called at UnionPay, and
// what becomes of it when its outcome is unknown.
type rowA1 struct {
	kind                                   TxType
	mti                                    MTI
	processing, condition, kind60, network string // DE 3, DE 25, 60.1, 60.3
	class                                  Recovery
}

func tableA1() []rowA1 {
	return []rowA1{
		{Inquiry, "0200", "310000", "00", "01", "000", Nothing},
		{Sale, "0200", "000000", "00", "22", "000", Reverse},
		{Void, "0200", "200000", "00", "23", "000", Reverse},
		{PreAuth, "0100", "030000", "06", "10", "000", Reverse},
		{PreAuthVoid, "0100", "200000", "06", "11", "000", Reverse},
		{Completion, "0200", "000000", "06", "20", "000", Reverse},
		{CompletionVoid, "0200", "200000", "06", "21", "000", Reverse},
		{CompletionAdvice, "0220", "000000", "06", "24", "000", Advise},
		{Refund, "0220", "200000", "00", "25", "000", Nothing}, // see A.1, note: by decision, with a why
		{OfflineSale, "0220", "000000", "00", "30", "000", Advise},
		{Adjustment, "0220", "000000", "00", "32", "000", Advise},
		{Tip, "0220", "000000", "00", "34", "000", Advise},
		{ScriptNotice, "0620", "000000", "", "00", "951", Advise},
		{SignOn, "0800", "", "", "00", "003", Nothing},
		{SignOff, "0820", "", "", "00", "002", Nothing},
		{Echo, "0820", "", "", "00", "301", Nothing},
		{Settlement, "0500", "", "", "00", "201", Resume},
		{Upload, "0320", "", "", "00", "201", Resume},
		{UploadEnd, "0320", "", "", "00", "202", Resume},
	}
}

func TestUnionPayTransactionsAsInTheSpecification(t *testing.T) {
	p := dialect(t, "cup-0400-sale-06")
	known := map[TxType]bool{}
	for _, row := range tableA1() {
		known[row.kind] = true
		m := build(t, p, fullRequest(t, p, row.kind))
		data, _ := m.Field(60)
		got := rowA1{row.kind, m.MTI(), m.Text(3), m.Text(25), p.wire[60].part(data, 1), p.wire[60].part(data, 3), p.Recovery(row.kind)}
		if got != row {
			t.Errorf("%s\n got %v\nwant %v", row.kind, got, row)
		}
		if batch := p.wire[60].part(data, 2); batch != "000123" {
			t.Errorf("%s: batch %s", row.kind, batch)
		}
		if p.Reversible(row.kind) != (row.class == Reverse) {
			t.Errorf("%s: reversible %v", row.kind, p.Reversible(row.kind))
		}
	}
	for _, kind := range p.TxTypes() {
		if !known[kind] {
			t.Errorf("%s is in the profile and not in the table", kind)
		}
	}
	if p.data.Transactions[Refund].Why == "" {
		t.Error("a refund departs from the table and nothing says why")
	}
	if p.Recovery("loan") != Nothing {
		t.Error("an unknown transaction is to be recovered")
	}
}

// The same transactions in ISO 8583:1987 and 1993 (PROTOCOL A.2, A.3).
func TestTransactionsOfTheStandards(t *testing.T) {
	type row struct {
		kind                   TxType
		mti87, mti93           MTI
		processing, function93 string // DE 3 ("" for none), DE 24 of 1993
		class                  Recovery
	}
	rows := []row{
		{Inquiry, "0100", "1100", "310000", "108", Nothing},
		{Sale, "0200", "1200", "000000", "200", Reverse},
		{Void, "0200", "1200", "020000", "200", Reverse},
		{PreAuth, "0100", "1100", "000000", "100", Reverse},
		{PreAuthVoid, "0100", "1100", "020000", "100", Reverse},
		{Completion, "0200", "1200", "000000", "201", Reverse},
		{CompletionVoid, "0200", "1200", "020000", "201", Reverse},
		{CompletionAdvice, "0220", "1220", "000000", "201", Advise},
		{Refund, "0200", "1200", "200000", "200", Reverse},
		{OfflineSale, "0220", "1220", "000000", "200", Advise},
		{Adjustment, "0220", "1220", "020000", "200", Advise},
		{Tip, "0220", "1220", "000000", "200", Advise},
		{ScriptNotice, "0620", "1620", "000000", "650", Advise},
		{SignOn, "0800", "1804", "", "801", Nothing},
		{SignOff, "0800", "1804", "", "802", Nothing},
		{Echo, "0800", "1804", "", "831", Nothing},
		{Settlement, "0500", "1500", "", "500", Resume},
		{Upload, "0320", "1304", "", "301", Resume},
		{UploadEnd, "0320", "1304", "", "302", Resume},
	}
	each(t, func(t *testing.T, p *Profile) {
		if p.Name() == "unionpay" { // TestUnionPayTransactionsAsInTheSpecification is its table
			return
		}
		if len(p.TxTypes()) != len(rows) {
			t.Errorf("%d transactions, %d in the table", len(p.TxTypes()), len(rows))
		}
		for _, want := range rows {
			m := build(t, p, fullRequest(t, p, want.kind))
			mti, function := want.mti87, ""
			if p.data.Version == "1" {
				mti, function = want.mti93, want.function93
			}
			if m.MTI() != mti || m.Text(3) != want.processing || m.Text(24) != function || p.Recovery(want.kind) != want.class {
				t.Errorf("%s: %s, DE 3 %q, DE 24 %q, %s; want %s, %q, %q, %s", want.kind, m.MTI(), m.Text(3), m.Text(24), p.Recovery(want.kind), mti, want.processing, function, want.class)
			}
			repeat := p.data.Transactions[want.kind].Repeat
			if again := mti[:3] + "1"; want.class == Advise && repeat != again || want.class != Advise && repeat != "" {
				t.Errorf("%s is repeated as %q", want.kind, repeat)
			}
		}
	})
}

// Every transaction of every profile can be made from a plain request, and comes
// back from its bytes as it was.
func TestEveryTransactionBuildsAndComesBack(t *testing.T) {
	each(t, func(t *testing.T, p *Profile) {
		for _, kind := range p.TxTypes() {
			r := fullRequest(t, p, kind)
			m := build(t, p, r)
			tx := p.data.Transactions[kind]
			for _, de := range slices.Concat(tx.Must, tx.OneOf, tx.May) {
				if _, ok := m.Field(de); !ok {
					t.Errorf("%s: DE %d is not made of a request that says all", kind, de)
				}
			}
			packed := pack(t, p, m)
			back, err := p.Unpack(packed)
			if err != nil {
				t.Errorf("%s: %v", kind, err)
				continue
			}
			if !slices.Equal(back.Fields(), m.Fields()) || back.MTI() != m.MTI() || string(pack(t, p, back)) != string(packed) {
				t.Errorf("%s: %v comes back as %v", kind, m, back)
			}
			for _, de := range m.Fields() {
				want, _ := m.Field(de)
				if got, _ := back.Field(de); p.unfilled(de, got) != want {
					t.Errorf("%s: DE %d comes back with %d characters, %d went", kind, de, len(got), len(want))
				}
			}
			if err := p.Check(r); err != nil {
				t.Errorf("%s: checked: %v", kind, err)
			}
		}
	})
}

// omissions take the one thing away that a data element is made of. DE 7, 12 and 13
// are all made of the time, and it is DE 7 that is named.
func omissions() map[int]func(*Request) {
	noTime := func(r *Request) { r.At = time.Time{} }
	return map[int]func(*Request){
		4:  func(r *Request) { r.Amount = 0 },
		7:  noTime,
		11: func(r *Request) { r.STAN = 0 },
		12: noTime,
		13: noTime,
		37: func(r *Request) { r.Original.RRN = "" },
		38: func(r *Request) { r.Original.AuthCode = "" },
		41: func(r *Request) { r.Acceptor.Terminal = "" },
		42: func(r *Request) { r.Acceptor.Merchant = "" },
		48: func(r *Request) { r.Totals = Secret{} },
		49: func(r *Request) { r.Currency = Currency{} },
		55: func(r *Request) { r.Script = Secret{} },
		56: func(r *Request) { r.Original.STAN = 0 },
		61: func(r *Request) { r.Original.STAN = 0 },
		90: func(r *Request) { r.Original.STAN = 0 },
	}
}

func named(t *testing.T, p *Profile, r Request, de int) {
	t.Helper()
	_, err := p.Build(r)
	var at *FieldError
	if !errors.As(err, &at) || at.Field != de || !errors.Is(err, ErrInvalid) {
		t.Errorf("%s without what DE %d is made of: %v", r.Type, de, err)
	}
}

// What is mandatory and missing is named.
func TestMandatoryPartsAreNamed(t *testing.T) {
	profilesOwn := []int{3, 22, 24, 25} // the profile says these, a request need not
	omit := omissions()
	each(t, func(t *testing.T, p *Profile) {
		for _, kind := range p.TxTypes() {
			tx := p.data.Transactions[kind]
			for _, de := range tx.Must {
				if slices.Contains(profilesOwn, de) {
					continue
				}
				if omit[de] == nil {
					t.Errorf("%s: nobody tries it without DE %d", kind, de)
					continue
				}
				if de == 61 && p.Name() == "unionpay" {
					continue // TestAnOriginalIsMandatory
				}
				r, want := fullRequest(t, p, kind), de
				omit[de](&r)
				if de == 12 || de == 13 {
					want = 7
				}
				named(t, p, r, want)
			}
			if len(tx.OneOf) > 0 {
				r := fullRequest(t, p, kind)
				r.PAN, r.Track2, r.Track3, r.Chip = PAN{}, Secret{}, Secret{}, Secret{}
				named(t, p, r, tx.OneOf[0])
			}
		}
	})
}

// What is about another transaction says about which.
func TestAnOriginalIsMandatory(t *testing.T) {
	p := dialect(t, "cup-0400-sale-06")
	for _, kind := range p.TxTypes() {
		if !slices.Contains(p.data.Transactions[kind].Must, 61) {
			continue
		}
		r := fullRequest(t, p, kind)
		r.Original.STAN = 0
		named(t, p, r, 61)
	}
	for _, kind := range []TxType{Adjustment, Tip, ScriptNotice} {
		r := fullRequest(t, p, kind)
		r.Original = nil
		named(t, p, r, 61)
	}
}

// The rules of PROTOCOL B.1 for every transaction that UnionPay reverses.
func TestUnionPayReversals(t *testing.T) {
	p := dialect(t, "cup-0400-sale-06")
	reasons := map[Cause]string{
		NoAnswer: "98", LineLost: "98", Restart: "98", WrongMAC: "A0", NotCompleted: "96", NotRecorded: "96", Undecodable: "96",
		UnknownCode: "06", Cancelled: "06", CardDeclined: "06",
	}
	reversible := 0
	for _, kind := range p.TxTypes() {
		if !p.Reversible(kind) {
			continue
		}
		reversible++
		request := build(t, p, fullRequest(t, p, kind))
		img := stored(t, image(t, p, request))
		for _, cause := range Causes() {
			for _, code := range []string{"", "K1L2M3"} {
				r, err := p.BuildReversal(img, Reversal{Attempt: 1, Cause: cause, AuthCode: code})
				if err != nil {
					t.Errorf("%s, %s: %v", kind, cause, err)
					continue
				}
				want := map[int]string{39: reasons[cause], 55: chipKept}
				if asked, ok := request.Field(38); ok { // of a void or a completion
					want[38] = asked
				}
				if code != "" {
					want[38] = code
				}
				for _, de := range []int{2, 3, 4, 11, 14, 22, 23, 25, 41, 42, 49, 60} {
					want[de], _ = request.Field(de)
				}
				if original, ok := request.Field(61); ok { // a void or a completion points at another one
					want[61] = original
				}
				holds(t, fmt.Sprintf("%s, %s", kind, cause), r, "0400", want)
				again, err := p.BuildReversal(img, Reversal{Attempt: 7, Cause: cause, AuthCode: code})
				if err != nil || string(pack(t, p, again)) != string(pack(t, p, r)) {
					t.Errorf("%s, %s: the repeat differs (%v)", kind, cause, err)
				}
			}
		}
	}
	if reversible != 6 {
		t.Errorf("%d transactions are reversed; PROTOCOL A.1 has 6 of those that the profile knows", reversible)
	}
}

// holds compares a message with all that it should have, and nothing else.
func holds(t *testing.T, at string, m *Message, mti MTI, want map[int]string) {
	t.Helper()
	if m.MTI() != mti {
		t.Errorf("%s: MTI %s, want %s", at, m.MTI(), mti)
	}
	for de, value := range want {
		if got, ok := m.Field(de); !ok || got != value {
			t.Errorf("%s: DE %d is not what it must be (%d characters, %d expected)", at, de, len(got), len(value))
		}
	}
	for _, de := range m.Fields() {
		if _, ok := want[de]; !ok {
			t.Errorf("%s: DE %d does not belong there", at, de)
		}
	}
}

// A sale without a chip and without a known PAN is reversed without DE 2 and 55.
func TestUnionPayReversalOfASwipe(t *testing.T) {
	p := dialect(t, "cup-0400-sale-06")
	r := fullRequest(t, p, Sale)
	r.PAN, r.Chip, r.Expiry, r.Sequence = PAN{}, Secret{}, Secret{}, ""
	request := build(t, p, r)
	m, err := p.BuildReversal(stored(t, image(t, p, request)), Reversal{Attempt: 1, Cause: NoAnswer})
	if err != nil {
		t.Fatal(err)
	}
	want := map[int]string{39: "98"}
	for _, de := range []int{3, 4, 11, 22, 25, 41, 42, 49, 60} {
		want[de], _ = request.Field(de)
	}
	holds(t, "swiped", m, "0400", want)
}

// The reversal of ISO 8583:1993 (PROTOCOL B.3), with DE 56 as it was published:
// 1200 030402 950123154952 11 10076401251.
func TestISO93Reversals(t *testing.T) {
	p, err := LoadProfile("iso93")
	if err != nil {
		t.Fatal(err)
	}
	reasons := map[Cause]string{
		NoAnswer: "4021", LineLost: "4021", Restart: "4021", WrongMAC: "4020", Undecodable: "4020", UnknownCode: "4020",
		Cancelled: "4000", CardDeclined: "4013", NotCompleted: "4002", NotRecorded: "4007",
	}
	if !p.NewSTAN() {
		t.Fatal("a reversal has no trace number of its own")
	}
	r := fullRequest(t, p, Sale)
	r.STAN, r.At, r.Acceptor.Acquirer = 30402, time.Date(1995, 1, 23, 15, 49, 52, 0, time.UTC), "10076401251"
	request := build(t, p, r)
	img := stored(t, image(t, p, request))
	for _, cause := range Causes() {
		for attempt, mti := range []MTI{"1420", "1421", "1421"} {
			m, err := p.BuildReversal(img, Reversal{Attempt: attempt + 1, Cause: cause, STAN: 75809})
			if err != nil {
				t.Fatal(err)
			}
			want := map[int]string{11: "075809", 24: "400", 25: reasons[cause], 55: chipKept, 56: "1200" + "030402" + "950123154952" + "11" + "10076401251"}
			for _, de := range []int{2, 3, 4, 7, 12, 14, 22, 23, 32, 33, 41, 42, 49} {
				want[de], _ = request.Field(de)
			}
			holds(t, fmt.Sprintf("%s, attempt %d", cause, attempt+1), m, mti, want)
		}
	}
	if _, err := p.BuildReversal(img, Reversal{Attempt: 1, Cause: NoAnswer}); !errors.Is(err, ErrInvalid) {
		t.Errorf("without a trace number of its own: %v", err)
	}
}

// basedOn loads a small profile file as a technician writes it.
func basedOn(t testing.TB, base, name, rest string) (*Profile, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), name+".json")
	text := fmt.Sprintf(`{"schema": 1, "name": %q, "base": %q, %s}`, name, base, rest)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return LoadProfile(file)
}

func refused(t *testing.T, base, rest, place string) {
	t.Helper()
	_, err := basedOn(t, base, "greedy", rest)
	if !errors.Is(err, ErrProfile) || !strings.Contains(err.Error(), place) {
		t.Errorf("%s, %s: %v; expected it to name %q", base, rest, err, place)
	}
}

// L11: no profile can make a reversal keep or send card secrets, whatever it is
// based on.
func TestL11NoProfileKeepsSecrets(t *testing.T) {
	secret := []int{26, 35, 36, 45, 52, 53}
	for _, base := range ProfileNames() {
		if p, err := basedOn(t, base, "modest", `"about": "asks for nothing"`); err != nil || p.Name() != "modest" {
			t.Fatalf("%s: a good file is refused: %v", base, err)
		}
		const keep = `"reversal": {"copy": [2, 3, 4, 11, %d, 41, 42]}`
		for _, de := range []int{48, 63} {
			refused(t, base, fmt.Sprintf(keep, de), fmt.Sprintf("reversal.copy: DE %d (", de))
		}
		for _, de := range secret {
			refused(t, base, fmt.Sprintf(keep, de), fmt.Sprintf("reversal.copy: DE %d may never be kept", de))
			refused(t, base, fmt.Sprintf(`"reversal": {"set": {"%d": "{stan}"}}`, de), fmt.Sprintf("reversal.set.%d", de))
			for _, template := range []string{"{%d}", "{ll:%d}", "x{stan}{%d.1}"} {
				refused(t, base, fmt.Sprintf(`"reversal": {"set": {"37": "`+template+`"}}`, de), "reversal.set.37")
			}
			refused(t, base, fmt.Sprintf(`"reversal": {"reason": %d}`, de), "reversal.reason")
			refused(t, base, fmt.Sprintf(`"reversal": {"authCode": %d}`, de), "reversal.authCode")
		}
		for _, de := range []int{48, 63} { // the way round: through a template
			refused(t, base, fmt.Sprintf(`"reversal": {"set": {"37": "{%d}"}}`, de), fmt.Sprintf("reversal: DE %d", de))
		}
		for _, tag := range []string{"57", "5A", "5F20", "9F1F", "56", "9F6B", "9F20", "70", "77", "61", "5a", "", "9F", "9F1", "5A08", "XY"} {
			refused(t, base, fmt.Sprintf(`"reversal": {"chipTags": ["95", %q]}`, tag), "reversal.chipTags: ")
		}
	}
}

// L5: what goes without a MAC is told by its MTI, so a profile that lets one
// transaction go without must not let go another that moves money.
func TestL5NoMACIsGivenUpByTheWay(t *testing.T) {
	for _, kind := range []TxType{Inquiry, Refund} {
		refused(t, "unionpay", fmt.Sprintf(`"mac": {"without": ["sign-on", %q]}`, kind), "mac.without")
	}
}

// A MAC that is always DE 64 cannot be last in a message with a second bitmap.
func TestMACBeforeASecondBitmapsElements(t *testing.T) {
	const mac = `"mac": {"elements": %s, "algorithm": "x9.19", "form": "binary8", "without": [], "needed": {"approve": "yes", "decline": "no", "confirm": "yes", "not-found": "yes", "other": "no"}}`
	for _, elements := range []string{"[64]", "[128, 64]", "[64, 64]"} {
		refused(t, "iso87-ascii", fmt.Sprintf(mac, elements), "mac.elements")
	}
}

// Parts of a fixed width are that wide, or what stands behind them is read as
// something else.
func TestPartsOfAFixedWidth(t *testing.T) {
	p := dialect(t, "cup-0400-sale-06")
	r := fullRequest(t, p, Void)
	r.Original.Batch = "1234567"
	named(t, p, r, 61)
	r = fullRequest(t, p, Sale)
	r.Batch = "1234567"
	named(t, p, r, 60)
}
