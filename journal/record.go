package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"
	"time"
)

// record is the stored form of an entry: the entry and, while it is needed, its
// sealed image.
type record struct {
	Entry
	Sealed   []byte
	KeyID    string
	Card     string // keyed token of the card, "" when there was no key or no card
	LaneLast uint32 // with the step that began the entry: the lane's last trace number
	value    []byte // the stored form, once it was made or where the caller keeps it
}

// copied is a record that a step may change.
func (r *record) copied() *record {
	c := *r
	c.Steps = slices.Clone(r.Steps)
	c.LaneLast, c.value = 0, nil
	return &c
}

// recordVersion 1 and 2 had the fields in JSON (oldrecord.go).
const recordVersion = 3

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// The fields of a record. The numbers never change; a new one needs a new
// recordVersion, so that no program drops what it does not know.
const (
	fieldStatus       = 1
	fieldTerminal     = 2
	fieldMerchant     = 3
	fieldSTAN         = 4
	fieldType         = 5
	fieldMTI          = 6
	fieldAmount       = 7
	fieldCurrency     = 8
	fieldExponent     = 9
	fieldLast4        = 10
	fieldCause        = 11
	fieldAttempts     = 12
	fieldRefusals     = 13
	fieldReversalSTAN = 14
	fieldAnswer       = 15 // an answer's fields
	fieldLastCode     = 16
	fieldParking      = 17
	fieldSealed       = 18
	fieldKeyID        = 19
	fieldCard         = 20
	fieldLaneLast     = 21
	fieldStep         = 22 // a step's fields, once for each step
)

// The fields of an answer.
const (
	answerCode     = 1
	answerAuthCode = 2
	answerRRN      = 3
	answerApproved = 4
)

// The fields of a step.
const (
	stepKind      = 1
	stepSeconds   = 2 // since 1970, missing for the zero time
	stepNanos     = 3
	stepZone      = 4 // seconds east of UTC, zigzag
	stepSeq       = 5
	stepBoot      = 6
	stepSinceBoot = 7
	stepN         = 8
	stepNote      = 9
	stepLate      = 10 // an answer's fields
)

// stepNumbers stand for the kinds on disk. They never change.
var stepNumbers = map[StepKind]uint64{
	StepBegin: 1, StepComplete: 2, StepDecline: 3, StepNotSent: 4, StepOwe: 5, StepAttempt: 6,
	StepRefuse: 7, StepConfirm: 8, StepNotFound: 9, StepPark: 10, StepLate: 11, StepClear: 12,
}

var stepKinds = inverted(stepNumbers)

func inverted(numbers map[StepKind]uint64) map[uint64]StepKind {
	kinds := map[uint64]StepKind{}
	for kind, n := range numbers {
		kinds[n] = kind
	}
	return kinds
}

// encode gives version, fields, CRC-32C. The checksum covers the key too, so that
// a value under a wrong key does not pass.
func (r *record) encode() []byte {
	room := encodeRoom.Get().(*fields)
	defer encodeRoom.Put(room)
	f := append((*room)[:0], recordVersion)
	f = f.number(fieldStatus, uint64(r.Status)).text(fieldTerminal, r.Lane.Terminal).text(fieldMerchant, r.Lane.Merchant)
	f = f.number(fieldSTAN, uint64(r.STAN)).text(fieldType, r.Type).text(fieldMTI, r.MTI)
	f = f.number(fieldAmount, uint64(r.Amount.Minor)).text(fieldCurrency, r.Amount.Currency).number(fieldExponent, uint64(r.Amount.Exponent))
	f = f.text(fieldLast4, r.Last4).text(fieldCause, r.Cause)
	f = f.number(fieldAttempts, uint64(r.Attempts)).number(fieldRefusals, uint64(r.Refusals)).number(fieldReversalSTAN, uint64(r.ReversalSTAN))
	f = Answer{r.Code, r.AuthCode, r.RRN, r.ApprovedMinor}.fields(f).wrap(fieldAnswer, len(f))
	f = f.text(fieldLastCode, r.LastCode).text(fieldParking, r.Parking)
	f = append(f, r.Sealed...).wrap(fieldSealed, len(f)).text(fieldKeyID, r.KeyID).text(fieldCard, r.Card).number(fieldLaneLast, uint64(r.LaneLast))
	for _, s := range r.Steps {
		f = s.fields(f).wrap(fieldStep, len(f))
	}
	*room = binary.LittleEndian.AppendUint32(f, checksum(r.ID, f))
	return bytes.Clone(*room)
}

// encodeRoom is memory to make records in: how long one gets is known at its end.
var encodeRoom = sync.Pool{New: func() any { f := make(fields, 0, 1<<10); return &f }}

func (a Answer) fields(f fields) fields {
	return f.text(answerCode, a.Code).text(answerAuthCode, a.AuthCode).text(answerRRN, a.RRN).number(answerApproved, uint64(a.ApprovedMinor))
}

func (s Step) fields(f fields) fields {
	_, zone := s.At.Zone()
	f = f.number(stepKind, stepNumbers[s.Kind])
	f = f.number(stepSeconds, uint64(s.At.Unix()-yearOne)).number(stepNanos, uint64(s.At.Nanosecond())).number(stepZone, zigzag(zone))
	f = f.number(stepSeq, s.Seq).number(stepBoot, uint64(s.Boot)).number(stepSinceBoot, uint64(s.SinceBoot)).number(stepN, uint64(s.N)).text(stepNote, s.Note)
	if s.Late != nil {
		f = s.Late.fields(f).wrap(stepLate, len(f))
	}
	return f
}

// decode inverts encode and reads every older version too.
func decode(id ID, value []byte) (*record, error) {
	if len(value) < 6 {
		return nil, fmt.Errorf("entry %d: %w: record too short", id, ErrDamaged)
	}
	body, sum := value[:len(value)-4], binary.LittleEndian.Uint32(value[len(value)-4:])
	if checksum(id, body) != sum {
		return nil, fmt.Errorf("entry %d: %w: checksum does not fit", id, ErrDamaged)
	}
	var r *record
	var err error
	switch body[0] {
	case 1, 2:
		r, err = decodeJSON(body[1:])
	case recordVersion:
		r, err = decodeFields(id, body[1:])
	default:
		return nil, fmt.Errorf("entry %d: %w: record version %d, this program knows %d", id, ErrNewer, body[0], recordVersion)
	}
	if err != nil {
		return nil, fmt.Errorf("entry %d: %w: record cannot be read", id, ErrDamaged)
	}
	if r.ID != id || statusNames[r.Status] == "" {
		return nil, fmt.Errorf("entry %d: %w: record contradicts itself", id, ErrDamaged)
	}
	return r, nil
}

func decodeFields(id ID, body []byte) (*record, error) {
	r := &record{Entry: Entry{ID: id}}
	in := fieldReader{rest: string(body)}
	for in.next() {
		switch in.field {
		case fieldStatus:
			r.Status = Status(in.number)
		case fieldTerminal:
			r.Lane.Terminal = in.text
		case fieldMerchant:
			r.Lane.Merchant = in.text
		case fieldSTAN:
			r.STAN = uint32(in.number)
		case fieldType:
			r.Type = in.text
		case fieldMTI:
			r.MTI = in.text
		case fieldAmount:
			r.Amount.Minor = int64(in.number)
		case fieldCurrency:
			r.Amount.Currency = in.text
		case fieldExponent:
			r.Amount.Exponent = int(in.number)
		case fieldLast4:
			r.Last4 = in.text
		case fieldCause:
			r.Cause = in.text
		case fieldAttempts:
			r.Attempts = int(in.number)
		case fieldRefusals:
			r.Refusals = int(in.number)
		case fieldReversalSTAN:
			r.ReversalSTAN = uint32(in.number)
		case fieldAnswer:
			a := in.answer()
			r.Code, r.AuthCode, r.RRN, r.ApprovedMinor = a.Code, a.AuthCode, a.RRN, a.ApprovedMinor
		case fieldLastCode:
			r.LastCode = in.text
		case fieldParking:
			r.Parking = in.text
		case fieldSealed:
			r.Sealed = []byte(in.text)
		case fieldKeyID:
			r.KeyID = in.text
		case fieldCard:
			r.Card = in.text
		case fieldLaneLast:
			r.LaneLast = uint32(in.number)
		case fieldStep:
			r.Steps = append(r.Steps, in.step())
		default:
			in.err = errFields
		}
	}
	if n := len(r.Steps); n > 0 {
		r.BegunAt, r.ChangedAt = r.Steps[0].At, r.Steps[n-1].At
	}
	return r, in.err
}

// answer reads the field as an answer's fields.
func (r *fieldReader) answer() (a Answer) {
	in := fieldReader{rest: r.text}
	for in.next() {
		switch in.field {
		case answerCode:
			a.Code = in.text
		case answerAuthCode:
			a.AuthCode = in.text
		case answerRRN:
			a.RRN = in.text
		case answerApproved:
			a.ApprovedMinor = int64(in.number)
		default:
			in.err = errFields
		}
	}
	r.err = in.err
	return a
}

// step reads the field as a step's fields.
func (r *fieldReader) step() (s Step) {
	var seconds, nanos int64
	var zone int
	in := fieldReader{rest: r.text}
	for in.next() {
		switch in.field {
		case stepKind:
			s.Kind = stepKinds[in.number]
		case stepSeconds:
			seconds = int64(in.number)
		case stepNanos:
			nanos = int64(in.number)
		case stepZone:
			zone = unzigzag(in.number)
		case stepSeq:
			s.Seq = in.number
		case stepBoot:
			s.Boot = uint32(in.number)
		case stepSinceBoot:
			s.SinceBoot = time.Duration(in.number)
		case stepN:
			s.N = int(in.number)
		case stepNote:
			s.Note = in.text
		case stepLate:
			late := in.answer()
			s.Late = &late
		default:
			in.err = errFields
		}
	}
	if s.Kind == "" && in.err == nil {
		in.err = errFields
	}
	if s.Kind == StepLate && s.Late == nil {
		s.Late = &Answer{} // an answer without anything is left out like all that is empty
	}
	s.At = wallTime(seconds, nanos, zone)
	r.err = in.err
	return s
}

// yearOne is the zero time in seconds since 1970. Counted from there no clock of a
// terminal gives the 0 that stands for no time at all, not even one that starts in
// 1970.
const yearOne = -62135596800

// wallTime is a time as the clock that gave it showed it.
func wallTime(seconds, nanos int64, zone int) time.Time {
	t := time.Unix(seconds+yearOne, nanos)
	if _, here := t.Zone(); zone != 0 && zone != here {
		return t.In(time.FixedZone("", zone))
	} else if zone == 0 {
		return t.UTC()
	}
	return t
}

func zigzag(n int) uint64   { return uint64(n)<<1 ^ uint64(int64(n)>>63) }
func unzigzag(v uint64) int { return int(v>>1) ^ -int(v&1) }

func checksum(id ID, body []byte) uint32 {
	return crc32.Update(crc32.Checksum(key(id), castagnoli), castagnoli, body)
}

// laneKey is where a lane's last trace number stands. The length in front keeps
// A/B + C and A + B/C apart.
func laneKey(l Lane) []byte {
	return append([]byte{byte(len(l.Terminal))}, l.Terminal+l.Merchant...)
}

// encodeSTAN gives the trace number and a CRC-32C over it and its key.
func encodeSTAN(l Lane, stan uint32) []byte {
	value := binary.BigEndian.AppendUint32(nil, stan)
	sum := crc32.Update(crc32.Checksum(laneKey(l), castagnoli), castagnoli, value)
	return binary.LittleEndian.AppendUint32(value, sum)
}

func decodeSTAN(l Lane, value []byte) (uint32, error) {
	if len(value) == 8 {
		if stan := binary.BigEndian.Uint32(value); bytes.Equal(value, encodeSTAN(l, stan)) {
			return stan, nil
		}
	}
	return 0, fmt.Errorf("lane %s: %w: its last trace number cannot be read", l, ErrDamaged)
}

// key is the id as the store sorts it: eight bytes, big-endian.
func key(id ID) []byte { return binary.BigEndian.AppendUint64(nil, uint64(id)) }
