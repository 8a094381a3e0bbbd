package journal

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The examples of protobuf.dev, "Encoding".
func TestFieldsAreAsProtocolBuffersHasThem(t *testing.T) {
	t.Parallel()
	for want, f := range map[string]fields{
		"089601":             fields{}.number(1, 150),
		"120774657374696e67": fields{}.text(2, "testing"),
		"1a03089601":         fields{}.number(1, 150).wrap(3, 0),
		"":                   fields{}.number(1, 0).text(2, "").wrap(3, 0),
	} {
		if got := hex.EncodeToString(f); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestFieldsThatBreakOffAreAnError(t *testing.T) {
	t.Parallel()
	whole := fields{}.number(1, 150).text(2, "testing")
	for n := range whole {
		in := fieldReader{rest: string(whole[:n])}
		fields := 0
		for in.next() {
			fields++
		}
		if between := n == 0 || n == 3; (in.err == nil) != between || fields > 1 {
			t.Errorf("%x: %d fields, %v", whole[:n], fields, in.err)
		}
	}
	for name, bad := range map[string]string{
		"a varint of 65 bits":  "\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02",
		"a varint of 11 bytes": "\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
		"another wire type":    "\x0d\x01\x02\x03\x04",
		"a length too large":   "\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01ab",
	} {
		if in := (fieldReader{rest: bad}); in.next() || in.err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// anyRecord draws a record with everything in it that a record can have.
func anyRecord(t *rapid.T) *record {
	text := rapid.StringN(0, 20, textMax)
	number := rapid.Uint32Range(0, stanMax)
	answer := func(label string) Answer {
		return Answer{text.Draw(t, label), text.Draw(t, "auth"), text.Draw(t, "rrn"), rapid.Int64Range(0, amountMax).Draw(t, "approved")}
	}
	r := &record{
		Entry: Entry{
			ID: ID(rapid.Uint64().Draw(t, "id")), Lane: Lane{text.Draw(t, "terminal"), text.Draw(t, "merchant")}, STAN: number.Draw(t, "stan"),
			Type: text.Draw(t, "type"), MTI: text.Draw(t, "mti"), Last4: text.Draw(t, "last4"),
			Amount: Money{rapid.Int64Range(0, amountMax).Draw(t, "amount"), text.Draw(t, "currency"), rapid.IntRange(0, 4).Draw(t, "exponent")},
			Status: rapid.SampledFrom(Statuses()).Draw(t, "status"), Cause: text.Draw(t, "cause"), Parking: text.Draw(t, "parking"),
			Attempts: int(number.Draw(t, "attempts")), Refusals: int(number.Draw(t, "refusals")), ReversalSTAN: number.Draw(t, "reversal stan"),
			LastCode: text.Draw(t, "last code"),
		},
		KeyID: text.Draw(t, "key"), Card: text.Draw(t, "card"), LaneLast: number.Draw(t, "lane last"),
	}
	if b := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "sealed"); len(b) > 0 {
		r.Sealed = b
	}
	a := answer("code")
	r.Code, r.AuthCode, r.RRN, r.ApprovedMinor = a.Code, a.AuthCode, a.RRN, a.ApprovedMinor
	for range rapid.IntRange(1, 4).Draw(t, "steps") {
		seconds := rapid.Int64Range(yearOne, 253402300799).Draw(t, "seconds") // to the end of year 9999
		s := Step{
			Kind: rapid.SampledFrom(stepNames()).Draw(t, "kind"),
			At:   wallTime(seconds-yearOne, rapid.Int64Range(0, 999_999_999).Draw(t, "nanos"), rapid.IntRange(-14*3600, 14*3600).Draw(t, "zone")),
			Seq:  rapid.Uint64().Draw(t, "seq"), Boot: rapid.Uint32().Draw(t, "boot"), N: int(number.Draw(t, "n")), Note: text.Draw(t, "note"),
			SinceBoot: time.Duration(rapid.Int64Range(0, 1<<62).Draw(t, "since boot")),
		}
		if s.Kind == StepLate || rapid.Bool().Draw(t, "late") {
			a := answer("late code")
			s.Late = &a
		}
		r.addStep(s)
	}
	r.BegunAt = r.Steps[0].At
	return r
}

func stepNames() []StepKind {
	return []StepKind{
		StepBegin, StepComplete, StepDecline, StepNotSent, StepOwe, StepAttempt, StepRefuse, StepConfirm, StepNotFound, StepPark, StepLate, StepClear,
	}
}

func TestARecordComesBackAsItWent(t *testing.T) {
	t.Parallel()
	if len(stepNumbers) != len(stepNames()) || len(stepKinds) != len(stepNames()) {
		t.Fatalf("numbers of steps: %v", stepNumbers)
	}
	rapid.Check(t, func(t *rapid.T) {
		r := anyRecord(t)
		back, err := decode(r.ID, r.encode())
		if err != nil {
			t.Fatal(err)
		}
		for i := range r.Steps { // one moment, shown by one clock
			a, b := &r.Steps[i], &back.Steps[i]
			if a.At.Format(time.RFC3339Nano) != b.At.Format(time.RFC3339Nano) {
				t.Fatalf("step at %v came back as %v", a.At, b.At)
			}
			a.At = b.At
		}
		r.BegunAt, r.ChangedAt = back.BegunAt, back.ChangedAt
		if back.BegunAt != back.Steps[0].At || back.ChangedAt != back.Steps[len(back.Steps)-1].At {
			t.Fatalf("begun at %v, changed at %v: %v", back.BegunAt, back.ChangedAt, back.Steps)
		}
		if !reflect.DeepEqual(r, back) {
			t.Fatalf("%+v\ncame back as\n%+v", r, back)
		}
	})
}

// A clock that begins in 1970, as a terminal's without a battery does, is not taken
// for no clock.
func TestTheFirstSecondOf1970IsATime(t *testing.T) {
	t.Parallel()
	for _, at := range []time.Time{time.Unix(0, 0).UTC(), {}} {
		r := &record{Entry: Entry{ID: 1, Status: Begun}}
		r.addStep(Step{Kind: StepBegin, At: at})
		back, err := decode(1, r.encode())
		if err != nil || !back.BegunAt.Equal(at) || back.BegunAt.IsZero() != at.IsZero() {
			t.Errorf("%v came back as %v: %v", at, back.BegunAt, err)
		}
	}
}

// Records as they were written before there were fields.
func TestARecordInJSONIsRead(t *testing.T) {
	t.Parallel()
	e := Entry{ID: 7, STAN: 12, Status: Owed, Steps: []Step{{Kind: StepBegin, Seq: 3}}}
	body, err := json.Marshal(recordFile{entryFile{e, uint8(e.Status)}, []byte("sealed"), "key", []byte("\x01card"), 11})
	if err != nil {
		t.Fatal(err)
	}
	for version := byte(1); version < recordVersion; version++ {
		value := append([]byte{version}, body...)
		value = binary.LittleEndian.AppendUint32(value, checksum(7, value))
		r, err := decode(7, value)
		if err != nil || !reflect.DeepEqual(r.Entry, e) || string(r.Sealed) != "sealed" || r.KeyID != "key" || r.Card != "\x01card" || r.LaneLast != 11 {
			t.Errorf("version %d: %+v %v", version, r, err)
		}
	}
	newer := []byte{recordVersion + 1, 0, 0, 0, 0, 0}
	newer = binary.LittleEndian.AppendUint32(newer, checksum(7, newer))
	if _, err := decode(7, newer); !errors.Is(err, ErrNewer) {
		t.Errorf("a newer record: %v", err)
	}
}

// Whatever a record's body holds, it is read or refused.
func FuzzRecordFields(f *testing.F) {
	r := &record{Entry: Entry{ID: 1, Status: Owed, Lane: lane1, STAN: 3}, Sealed: []byte("sealed"), KeyID: "key"}
	r.addStep(Step{Kind: StepBegin, At: time.Unix(1, 2), Seq: 4})
	r.addStep(Step{Kind: StepLate, Late: &Answer{Code: "00"}})
	v := r.encode()
	f.Add(v[1 : len(v)-4])
	f.Add([]byte("\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01ab"))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := decodeFields(1, body)
		if err != nil || len(body) > payloadMax {
			return
		}
		again := r.encode()
		back, err := decodeFields(1, again[1:len(again)-4])
		if err != nil {
			t.Fatalf("%x was read, was written as %x and cannot be read: %v", body, again, err)
		}
		if !bytes.Equal(back.encode(), again) {
			t.Fatalf("%x is written in two ways", body)
		}
	})
}
