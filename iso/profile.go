package iso

import (
	"time"
)

// Profile is all that is particular to one acquirer. It is loaded once,
// validated once and never changed; it may be used from many goroutines.
type Profile struct {
	data  profileData
	file  []byte // the whole file, base merged in, as JSON
	wire  [129]*wireField
	mti   wireText
	maps  bitmapCoding
	makes map[int]template            // how a data element is made from a request
	sets  map[TxType]map[int]template // of a transaction
	turns map[int]template            // how a data element of a reversal is made
	heard map[MTI]MTI                 // the answer's MTI, where it is not the usual one
	image []int                       // what a reversal needs of its request
}

// profileData is the profile file. Every "why" in it explains a default to the
// reader of the file and means nothing to the program.
type profileData struct {
	Schema       int                        `json:"schema"`
	Name         string                     `json:"name"`
	Base         string                     `json:"base,omitempty"`
	About        string                     `json:"about"`
	Version      string                     `json:"version"` // first digit of every MTI
	Framing      framingData                `json:"framing"`
	MTI          string                     `json:"mti"`     // encoding of the MTI
	Bitmap       string                     `json:"bitmap"`  // encoding of the bitmap
	Bitmaps      int                        `json:"bitmaps"` // how many there may be, 1 or 2
	Encodings    map[string]string          `json:"encodings"`
	EncodingsWhy string                     `json:"encodingsWhy,omitempty"`
	Fields       map[int]fieldData          `json:"fields"`
	FieldsWhy    string                     `json:"fieldsWhy,omitempty"`
	Compose      map[int]string             `json:"compose"`
	ComposeWhy   string                     `json:"composeWhy,omitempty"`
	Transactions map[TxType]transactionData `json:"transactions"`
	Reversal     reversalData               `json:"reversal"`
	Match        matchData                  `json:"match"`
	MAC          *macData                   `json:"mac,omitempty"`
	Codes        map[string]codeData        `json:"codes"`
	CodesWhy     string                     `json:"codesWhy,omitempty"`
	Timers       timersData                 `json:"timers"`
}

type framingData struct {
	Length       string            `json:"length"`
	CountsItself bool              `json:"countsItself,omitempty"`
	BytesMax     int               `json:"bytesMax"`
	TPDU         string            `json:"tpdu,omitempty"`   // of a request, ten hex digits
	Header       string            `json:"header,omitempty"` // of a request, hex digits
	RequestDigit int               `json:"hostRequestDigit,omitempty"`
	Requests     map[string]string `json:"hostRequests,omitempty"`
	Why          string            `json:"why,omitempty"`
}

type fieldData struct {
	Name     string     `json:"name"`
	ZH       string     `json:"zh,omitempty"`
	Type     string     `json:"type"`
	Length   int        `json:"length"`
	Prefix   string     `json:"prefix,omitempty"`
	Encoding string     `json:"encoding,omitempty"` // instead of the type's own
	Counts   string     `json:"counts,omitempty"`   // what a length in front of hex counts: "" bytes, "characters"
	Parts    []partData `json:"parts,omitempty"`
	Why      string     `json:"why,omitempty"`
}

type partData struct {
	Name   string `json:"name"`
	ZH     string `json:"zh,omitempty"`
	Length int    `json:"length"`
}

type transactionData struct {
	About      string         `json:"about,omitempty"`
	ZH         string         `json:"zh,omitempty"`
	MTI        MTI            `json:"mti"`
	Repeat     MTI            `json:"repeat,omitempty"`     // of an advice that is sent again
	Answer     MTI            `json:"answer,omitempty"`     // of the answer, where it is not the usual one
	Processing string         `json:"processing,omitempty"` // DE 3
	Condition  string         `json:"condition,omitempty"`  // DE 25
	Recovery   Recovery       `json:"recovery"`
	Must       []int          `json:"must"`
	OneOf      []int          `json:"oneOf,omitempty"`
	May        []int          `json:"may,omitempty"`
	Set        map[int]string `json:"set,omitempty"`
	Why        string         `json:"why,omitempty"`
}

// Recovery is what becomes of a transaction whose outcome is unknown.
type Recovery string

// The recovery classes (PROTOCOL A).
const (
	Reverse Recovery = "reverse" // undo it
	Advise  Recovery = "advise"  // repeat it until it is acknowledged
	Resume  Recovery = "resume"  // a step of many: go on at that step
	Nothing Recovery = "nothing" // ask again, or let it lapse
)

type reversalData struct {
	MTI         MTI              `json:"mti"`
	Repeat      MTI              `json:"repeat"`           // "" means that a repeat goes with the same MTI
	Answer      MTI              `json:"answer,omitempty"` // of the answer, where it is not the usual one
	STAN        string           `json:"stan"`             // "same" as the original's, or "new"
	Copy        []int            `json:"copy"`
	Set         map[int]string   `json:"set"`
	AuthCode    int              `json:"authCode,omitempty"` // where the approval's code goes, 0 for nowhere
	Reason      int              `json:"reason"`             // where the cause goes
	Reasons     map[Cause]string `json:"reasons"`
	ChipTags    []string         `json:"chipTags,omitempty"`
	CardOfTrack bool             `json:"cardOfTrack,omitempty"` // DE 2 and 14 of a swiped sale come from its track 2
	Why         string           `json:"why,omitempty"`
}

type matchData struct {
	Always      []int  `json:"always"`
	WhenPresent []int  `json:"whenPresent"`
	Why         string `json:"why,omitempty"`
}

type macData struct {
	Elements  []int             `json:"elements"` // [64], or [64,128] where a second bitmap moves it
	Algorithm MACAlgorithm      `json:"algorithm"`
	Form      string            `json:"form"`
	Without   []TxType          `json:"without"`
	Needed    map[string]string `json:"needed"`
	Why       string            `json:"why,omitempty"`
}

type codeData struct {
	Name     string        `json:"name"`
	ZH       string        `json:"zh,omitempty"`
	Request  RequestClass  `json:"request"`
	Reversal ReversalClass `json:"reversal"`
}

type timersData struct {
	AnswerWithin    duration `json:"answerWithin"`
	SettleWithin    duration `json:"settleWithin"`
	CompleteWithin  duration `json:"completeWithin"`
	OvertakenWindow duration `json:"overtakenWindow"`
	Burst           int      `json:"burst"`
	BackoffFirst    duration `json:"backoffFirst"`
	BackoffMax      duration `json:"backoffMax"`
	RefusalsMax     int      `json:"refusalsMax"`
	Why             string   `json:"why,omitempty"`
}

// Timers are the waits and bounds that an acquirer asks for. All waits are
// monotonic.
type Timers struct {
	AnswerWithin    time.Duration // from the last byte written to the answer
	SettleWithin    time.Duration // how long a new sale may wait for what is owed
	CompleteWithin  time.Duration // an approved sale nobody completed is reversed after this
	OvertakenWindow time.Duration // "original not found" this soon after the original may mean that the reversal overtook it (L10)
	Burst           int           // attempts back to back after a trigger
	BackoffFirst    time.Duration // first wait after the burst; doubles
	BackoffMax      time.Duration // longest wait
	RefusalsMax     int           // refusals after which a reversal is parked
}

// Name returns the profile's name, e.g. "iso87-ascii".
func (p *Profile) Name() string { return p.data.Name }

// About is one line for a person.
func (p *Profile) About() string { return p.data.About }

// JSON is the whole profile file, with the profile it is based on merged in.
func (p *Profile) JSON() []byte { return append([]byte(nil), p.file...) }

// Timers returns the acquirer's waits and bounds.
func (p *Profile) Timers() Timers { return p.data.Timers.timers() }

func (t timersData) timers() Timers {
	return Timers{
		AnswerWithin:    time.Duration(t.AnswerWithin),
		SettleWithin:    time.Duration(t.SettleWithin),
		CompleteWithin:  time.Duration(t.CompleteWithin),
		OvertakenWindow: time.Duration(t.OvertakenWindow),
		Burst:           t.Burst,
		BackoffFirst:    time.Duration(t.BackoffFirst),
		BackoffMax:      time.Duration(t.BackoffMax),
		RefusalsMax:     t.RefusalsMax,
	}
}
