package iso

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	moov "github.com/moov-io/iso8583"
)

//go:embed profiles/*.json
var profileFiles embed.FS

// Profile is all that is particular to one acquirer. It is loaded once,
// validated once and never changed; it may be used from many goroutines.
type Profile struct {
	data profileData
	spec *moov.MessageSpec
}

// profileData is the profile file. Every "why" in it explains a default to the
// reader of the file and means nothing to the program.
type profileData struct {
	Schema       int                        `json:"schema"`
	Name         string                     `json:"name"`
	About        string                     `json:"about"`
	Framing      framingData                `json:"framing"`
	Bitmap       string                     `json:"bitmap"`
	Fields       map[int]fieldData          `json:"fields"`
	Transactions map[TxType]transactionData `json:"transactions"`
	Reversal     reversalData               `json:"reversal"`
	Match        matchData                  `json:"match"`
	Codes        map[string]codeData        `json:"codes"`
	CodesWhy     string                     `json:"codesWhy"`
	Timers       timersData                 `json:"timers"`
}

type framingData struct {
	Length   string `json:"length"`
	BytesMax int    `json:"bytesMax"`
	Why      string `json:"why"`
}

type fieldData struct {
	Name   string `json:"name"`
	Type   string `json:"type"`
	Length int    `json:"length"`
	Prefix string `json:"prefix"`
}

type transactionData struct {
	MTI        MTI    `json:"mti"`
	Processing string `json:"processing"` // DE 3
	Condition  string `json:"condition"`  // DE 25
	Recovery   string `json:"recovery"`
}

type reversalData struct {
	MTI      MTI              `json:"mti"`
	Repeat   MTI              `json:"repeat"`
	Copy     []int            `json:"copy"`
	AuthCode bool             `json:"authCode"` // DE 38 when the answer had one
	Original string           `json:"original"`
	Reasons  map[Cause]string `json:"reasons"` // DE 39
	Why      string           `json:"why"`
}

type matchData struct {
	Always      []int  `json:"always"`
	WhenPresent []int  `json:"whenPresent"`
	Why         string `json:"why"`
}

type codeData struct {
	Name     string        `json:"name"`
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
	Why             string   `json:"why"`
}

// duration is a time.Duration that a profile file writes as "45s".
type duration time.Duration

func (d *duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	v, err := time.ParseDuration(s)
	*d = duration(v)
	return err
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

// ProfileNames lists the profiles that are built in, sorted.
func ProfileNames() []string {
	files, err := profileFiles.ReadDir("profiles")
	if err != nil {
		panic(err) // an embedded directory that is not there: the build is wrong
	}
	var names []string
	for _, f := range files {
		names = append(names, strings.TrimSuffix(f.Name(), ".json"))
	}
	slices.Sort(names)
	return names
}

// LoadProfile loads and validates a built-in profile. Errors: one wrapping
// ErrUnknownProfile that lists the names there are.
func LoadProfile(name string) (*Profile, error) {
	if !slices.Contains(ProfileNames(), name) {
		return nil, fmt.Errorf("%w %q; known: %s", ErrUnknownProfile, name, strings.Join(ProfileNames(), ", "))
	}
	raw, err := profileFiles.ReadFile(path.Join("profiles", name+".json"))
	if err != nil {
		return nil, fmt.Errorf("profile %s: %w", name, err)
	}
	return parseProfile(raw)
}

func parseProfile(raw []byte) (*Profile, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	p := &Profile{}
	if err := dec.Decode(&p.data); err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	if err := p.data.validate(); err != nil {
		return nil, fmt.Errorf("profile %q: %w", p.data.Name, err)
	}
	spec, err := buildSpec(&p.data)
	if err != nil {
		return nil, fmt.Errorf("profile %q: %w", p.data.Name, err)
	}
	p.spec = spec
	return p, nil
}

// Name returns the profile's name, e.g. "iso87-ascii".
func (p *Profile) Name() string { return p.data.Name }

// About is one line for a person.
func (p *Profile) About() string { return p.data.About }

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

// neverKept are the data elements that may not be part of a reversal, whatever
// a profile asks for: PIN capture, tracks 2, 3 and 1, the PIN block and its
// security control (L11; PCI DSS 4.0.1, 3.3.1).
var neverKept = []int{26, 35, 36, 45, 52, 53}

func (d *profileData) validate() error {
	if d.Schema != 1 {
		return fmt.Errorf("schema: %d is not known here (1 is)", d.Schema)
	}
	if d.Framing.Length != "binary2" {
		return fmt.Errorf("framing.length: %q is not known", d.Framing.Length)
	}
	if d.Framing.BytesMax < 64 || d.Framing.BytesMax > 65535 {
		return fmt.Errorf("framing.bytesMax: must be 64 to 65535")
	}
	if d.Bitmap != "hex" {
		return fmt.Errorf("bitmap: %q is not known", d.Bitmap)
	}
	for de := range d.Fields {
		if de < 2 || de > 128 || de == 65 {
			return fmt.Errorf("fields.%d: no such data element", de)
		}
	}
	for name, tx := range d.Transactions {
		if _, err := ParseMTI(string(tx.MTI)); err != nil {
			return fmt.Errorf("transactions.%s.mti: %w", name, err)
		}
		if tx.Recovery != "reverse" && tx.Recovery != "nothing" {
			return fmt.Errorf("transactions.%s.recovery: %q is not known", name, tx.Recovery)
		}
	}
	if err := d.validateReversal(); err != nil {
		return err
	}
	for _, de := range slices.Concat(d.Match.Always, d.Match.WhenPresent) {
		if _, ok := d.Fields[de]; !ok {
			return fmt.Errorf("match: DE %d is not in fields", de)
		}
	}
	for _, must := range []int{11, 41} { // an answer held against less could be anybody's
		if !slices.Contains(d.Match.Always, must) {
			return fmt.Errorf("match.always: DE %d must be there", must)
		}
	}
	for code, c := range d.Codes {
		if code == "" || !c.Request.valid() || !c.Reversal.valid() {
			return fmt.Errorf("codes.%s: request is one of approve, partial, decline, doubt; reversal is one of confirm, not-found, retry, refuse", code)
		}
	}
	if err := d.Timers.timers().Validate(); err != nil {
		return fmt.Errorf("timers.%w", err)
	}
	return nil
}

func (d *profileData) validateReversal() error {
	for at, mti := range map[string]MTI{"mti": d.Reversal.MTI, "repeat": d.Reversal.Repeat} {
		if _, err := ParseMTI(string(mti)); err != nil || !mti.Reversal() {
			return fmt.Errorf("reversal.%s: must be an MTI of class 4", at)
		}
	}
	if d.Reversal.Original != "de90" {
		return fmt.Errorf("reversal.original: %q is not known", d.Reversal.Original)
	}
	for _, de := range d.Reversal.Copy {
		if slices.Contains(neverKept, de) {
			return fmt.Errorf("reversal.copy: DE %d may never be kept", de)
		}
		if _, ok := d.Fields[de]; !ok {
			return fmt.Errorf("reversal.copy: DE %d is not in fields", de)
		}
	}
	for _, must := range []int{3, 4, 11, 41, 42} {
		if !slices.Contains(d.Reversal.Copy, must) {
			return fmt.Errorf("reversal.copy: DE %d must be there, or the host cannot find the original", must)
		}
	}
	for _, c := range Causes() {
		if d.Reversal.Reasons[c] == "" {
			return fmt.Errorf("reversal.reasons.%s: missing", c)
		}
	}
	for c := range d.Reversal.Reasons {
		if !slices.Contains(Causes(), c) {
			return fmt.Errorf("reversal.reasons.%s: no such cause", c)
		}
	}
	return nil
}

// Validate refuses waits and bounds of zero or less: they would park what was
// never refused, or try again without a pause. The error begins with the name of
// the timer.
func (t Timers) Validate() error {
	for _, wait := range []struct {
		name string
		d    time.Duration
	}{
		{"answerWithin", t.AnswerWithin}, {"settleWithin", t.SettleWithin}, {"completeWithin", t.CompleteWithin},
		{"overtakenWindow", t.OvertakenWindow}, {"backoffFirst", t.BackoffFirst}, {"backoffMax", t.BackoffMax},
	} {
		if wait.d <= 0 {
			return fmt.Errorf("%s: must be a time above zero, such as \"45s\"", wait.name)
		}
	}
	if t.Burst < 1 {
		return errors.New("burst: must be 1 or more")
	}
	if t.RefusalsMax < 1 {
		return errors.New("refusalsMax: must be 1 or more")
	}
	return nil
}
