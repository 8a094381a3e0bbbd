package journal

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// ID identifies an entry for ever. It grows, is never reused, and may have gaps.
type ID uint64

// String is the decimal form.
func (id ID) String() string { return strconv.FormatUint(uint64(id), 10) }

// ParseID inverts String.
func ParseID(s string) (ID, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n == 0 || ID(n).String() != s {
		return 0, fmt.Errorf("%w: an entry id is a number from 1", ErrInvalid)
	}
	return ID(n), nil
}

// Status is where an entry stands. The set is closed. There is no "sent": after
// a crash Begun must be read as "may have been sent" anyway.
type Status uint8

const (
	Begun     Status = 1 // armed: durable, no outcome; a reversal follows unless one comes (L2)
	Completed Status = 2 // the sale stands
	Declined  Status = 3 // the host said no
	NotSent   Status = 4 // no byte left (L4)
	Owed      Status = 5 // in doubt: a reversal must reach the host
	Reversed  Status = 6 // the host confirmed the reversal
	Parked    Status = 7 // the engine stopped trying; stays until settled (L8)
	Cleared   Status = 8 // an operator settled it with a reason
)

var statusNames = map[Status]string{
	Begun: "begun", Completed: "completed", Declined: "declined", NotSent: "not-sent",
	Owed: "owed", Reversed: "reversed", Parked: "parked", Cleared: "cleared",
}

// moves are all legal moves. Reversed, Completed, Declined, NotSent and Cleared
// are final: a finished sale cannot become owed (L3), a reversed one cannot be
// reversed again.
var moves = map[Status][]Status{
	Begun:  {Completed, Declined, NotSent, Owed},
	Owed:   {Owed, Reversed, Parked},
	Parked: {Owed, Reversed, Cleared},
}

// Statuses lists the closed set.
func Statuses() []Status {
	return []Status{Begun, Completed, Declined, NotSent, Owed, Reversed, Parked, Cleared}
}

// CanMove reports whether the move is legal.
func (s Status) CanMove(to Status) bool { return slices.Contains(moves[s], to) }

// String is the name used in every output.
func (s Status) String() string {
	if name, ok := statusNames[s]; ok {
		return name
	}
	return "status-" + strconv.Itoa(int(s))
}

// MarshalText is String.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// ParseStatus inverts String.
func ParseStatus(name string) (Status, error) {
	for s, n := range statusNames {
		if n == name {
			return s, nil
		}
	}
	return 0, fmt.Errorf("%w: no status %q", ErrInvalid, name)
}

// Lane is one terminal at one merchant (DE 41 and DE 42).
type Lane struct {
	Terminal string `json:"terminal"`
	Merchant string `json:"merchant"`
}

// String is "terminal/merchant".
func (l Lane) String() string { return l.Terminal + "/" + l.Merchant }

// Money is an amount in minor units of a currency.
type Money struct {
	Minor    int64  `json:"minor"`
	Currency string `json:"currency"` // ISO 4217 letters, e.g. USD
	Exponent int    `json:"exponent"` // minor-unit digits
}

// String is the amount in major units: "12.50 USD".
func (m Money) String() string {
	s := fmt.Sprintf("%0*d", m.Exponent+1, m.Minor)
	if m.Exponent > 0 {
		s = s[:len(s)-m.Exponent] + "." + s[len(s)-m.Exponent:]
	}
	return s + " " + m.Currency
}

// Draft is what Begin records of a request.
type Draft struct {
	Lane   Lane
	STAN   uint32 // from NextSTAN
	Type   string // "sale"
	MTI    string // "0200"
	Amount Money
	Last4  string // last four digits of the card, "" when unknown
	PAN    Secret // the whole number, for a token to find the card's entries by; it is not stored
	Image  Secret // what the reversal needs, sealed at rest (L11)
	// ReversalSTAN is the trace number that the reversal will have where the host
	// wants another than the request's, from NextSTAN too; 0 for none.
	ReversalSTAN uint32
}

// Answer is what the host said of a request. Every part may be empty.
type Answer struct {
	Code          string `json:"code,omitempty"`           // DE 39
	AuthCode      string `json:"auth_code,omitempty"`      // DE 38
	RRN           string `json:"rrn,omitempty"`            // DE 37
	ApprovedMinor int64  `json:"approved_minor,omitempty"` // amount of a partial approval, 0 for the whole
}

// Entry is the record of one transaction, without its image. It holds no card
// data but the last four digits.
type Entry struct {
	ID       ID     `json:"id"`
	Journal  string `json:"journal,omitempty"` // the journal's own identity
	Lane     Lane   `json:"lane"`
	STAN     uint32 `json:"stan"`
	Type     string `json:"type"`
	MTI      string `json:"mti"`
	Amount   Money  `json:"amount"`
	Last4    string `json:"last4,omitempty"`
	Status   Status `json:"status"`
	Cause    string `json:"cause,omitempty"`    // why it is owed
	Attempts int    `json:"attempts,omitempty"` // reversals counted before they left (L6)
	Refusals int    `json:"refusals,omitempty"` // reversals the host answered with a refusal

	ReversalSTAN uint32 `json:"reversal_stan,omitempty"` // of the reversal, when it is not that of the request

	Code          string `json:"code,omitempty"`      // host's code for the request
	AuthCode      string `json:"auth_code,omitempty"` // of the approval
	RRN           string `json:"rrn,omitempty"`
	ApprovedMinor int64  `json:"approved_minor,omitempty"` // of a partial approval
	LastCode      string `json:"reversal_code,omitempty"`  // host's last code for the reversal
	Parking       string `json:"parking,omitempty"`        // why it is parked

	BegunAt   time.Time `json:"begun_at"` // wall clock: for people only, nothing is decided by it (L12)
	ChangedAt time.Time `json:"changed_at"`
	Steps     []Step    `json:"steps"`
}

// Charged is the amount that the host approved when it approved only part, the
// amount asked for otherwise.
func (e Entry) Charged() Money {
	m := e.Amount
	if e.ApprovedMinor > 0 {
		m.Minor = e.ApprovedMinor
	}
	return m
}

// NeverBooked reports whether the host's last word was that it has no such sale:
// nothing was there to be reversed.
func (e Entry) NeverBooked() bool {
	return e.Status == Reversed && slices.ContainsFunc(e.Steps, func(s Step) bool { return s.Kind == StepNotFound })
}

// Step is one durable step in the life of an entry.
type Step struct {
	Kind StepKind  `json:"step"`
	At   time.Time `json:"at"`
	Seq  uint64    `json:"seq,omitempty"`  // of the step in the whole journal
	Boot uint32    `json:"boot,omitempty"` // how often the device had been started
	// SinceBoot is the time since then, in nanoseconds, suspended time included. It
	// means something within one boot only (L12).
	SinceBoot time.Duration `json:"since_boot,omitempty"`
	N         int           `json:"n,omitempty"`    // attempt number
	Note      string        `json:"note,omitempty"` // host's code, cause or reason
	Late      *Answer       `json:"late,omitempty"` // with StepLate: the whole of it, as evidence (L7)
}

// StepKind names a step.
type StepKind string

// The steps.
const (
	StepBegin    StepKind = "begin"
	StepComplete StepKind = "complete"
	StepDecline  StepKind = "decline"
	StepNotSent  StepKind = "not-sent"
	StepOwe      StepKind = "owe"
	StepAttempt  StepKind = "attempt"
	StepRefuse   StepKind = "refuse"
	StepConfirm  StepKind = "confirm"
	StepNotFound StepKind = "not-found" // confirmed: the host has no such sale
	StepPark     StepKind = "park"
	StepLate     StepKind = "late-answer"
	StepClear    StepKind = "clear" // an operator settled it
)

// stepsMax bounds the history of one entry. When it is reached the attempts and
// refusals in the middle go first; their counts are exact all the same, and what
// is evidence stays (L7).
const stepsMax = 40

func (e *Entry) addStep(s Step) {
	e.Steps = append(e.Steps, s)
	e.ChangedAt = s.At
	if len(e.Steps) <= stepsMax {
		return
	}
	drop := stepsMax / 2
	for i := drop; i < len(e.Steps)-1; i++ {
		if k := e.Steps[i].Kind; k == StepAttempt || k == StepRefuse {
			drop = i
			break
		}
	}
	e.Steps = slices.Delete(e.Steps, drop, drop+1)
}

// Bounds of the facts, far above what ISO 8583 can carry.
const (
	textMax   = 64
	imageMax  = 4096
	amountMax = 999_999_999_999
	stanMax   = 999_999
)

func (d Draft) validate() error {
	for name, s := range map[string]string{
		"terminal": d.Lane.Terminal, "merchant": d.Lane.Merchant, "type": d.Type, "MTI": d.MTI, "currency": d.Amount.Currency,
	} {
		if err := text(name, s); err != nil {
			return err
		}
		if s == "" {
			return fmt.Errorf("%w: %s is missing", ErrInvalid, name)
		}
	}
	switch {
	case d.STAN < 1 || d.STAN > stanMax:
		return fmt.Errorf("%w: the trace number must be 1 to %d", ErrInvalid, stanMax)
	case d.ReversalSTAN > stanMax || d.ReversalSTAN == d.STAN:
		return fmt.Errorf("%w: the reversal's trace number must be 1 to %d and not the request's", ErrInvalid, stanMax)
	case d.Amount.Minor < 0 || d.Amount.Minor > amountMax || d.Amount.Exponent < 0 || d.Amount.Exponent > 4:
		return fmt.Errorf("%w: the amount is out of range", ErrInvalid)
	case len(d.Last4) > 4 || strings.Trim(d.Last4, "0123456789") != "":
		return fmt.Errorf("%w: at most the last four digits of a card may be given", ErrInvalid) // L11
	case len(d.Image) > imageMax:
		return fmt.Errorf("%w: the image is longer than %d bytes", ErrInvalid, imageMax)
	}
	return cardNumber(d.PAN)
}

func cardNumber(pan Secret) error {
	if len(pan) > 19 || strings.Trim(string(pan), "0123456789") != "" {
		return fmt.Errorf("%w: a card number has at most 19 digits", ErrInvalid)
	}
	return nil
}

func (a Answer) validate() error {
	for name, s := range map[string]string{"code": a.Code, "authorization code": a.AuthCode, "RRN": a.RRN} {
		if err := text(name, s); err != nil {
			return err
		}
	}
	if a.ApprovedMinor < 0 || a.ApprovedMinor > amountMax {
		return fmt.Errorf("%w: the approved amount is out of range", ErrInvalid)
	}
	return nil
}

// text refuses what would not print as one short line.
func text(name, s string) error {
	if len(s) > textMax {
		return fmt.Errorf("%w: %s is longer than %d bytes", ErrInvalid, name, textMax)
	}
	for _, r := range s {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return fmt.Errorf("%w: %s has a character that is not text", ErrInvalid, name)
		}
	}
	return nil
}
