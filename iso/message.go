package iso

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
)

// Message is one ISO 8583 message: an MTI and data elements as text, binary
// ones in upper-case hex. It prints masked under every verb. Not safe for
// concurrent use while it is being changed.
type Message struct{ hidden **body } // behind two pointers: see mask.go

type body struct {
	mti    MTI
	fields map[int]string
	wide   bool // came with a second bitmap that is empty, and goes so again
}

// NewMessage makes a message without fields.
func NewMessage(mti MTI) *Message {
	b := &body{mti: mti, fields: make(map[int]string, 24)}
	return &Message{&b}
}

func (m *Message) body() *body { return *m.hidden }

// MTI returns the message type indicator.
func (m *Message) MTI() MTI { return m.body().mti }

// SetMTI replaces the message type indicator.
func (m *Message) SetMTI(mti MTI) { m.body().mti = mti }

// Field returns the clear value of a data element, and whether it is there.
// Whoever calls it for card data answers for where it goes.
func (m *Message) Field(de int) (string, bool) {
	v, ok := m.body().fields[de]
	return v, ok
}

// Batch is the batch that a message of the profile belongs to, where its DE 60 has
// one as second part (UnionPay 60.2); "" otherwise.
func (p *Profile) Batch(m *Message) string {
	w := p.wire[60]
	if w == nil || len(w.Parts) < 2 || w.Parts[1].Name != "batch" {
		return ""
	}
	return w.part(m.Text(60), 2)
}

// Text is Field without the spaces that fill up fixed text; "" when it is not
// there.
func (m *Message) Text(de int) string {
	return strings.TrimRight(m.body().fields[de], " ")
}

// Set gives a data element its value. Whether the profile can carry it is
// checked by Pack.
func (m *Message) Set(de int, value string) { m.body().fields[de] = value }

// Remove takes a data element out.
func (m *Message) Remove(de int) { delete(m.body().fields, de) }

// Fields lists the data elements that are there, in ascending order.
func (m *Message) Fields() []int {
	list := make([]int, 0, len(m.body().fields))
	for de := range m.body().fields {
		list = append(list, de)
	}
	slices.Sort(list)
	return list
}

// Clone returns an independent copy.
func (m *Message) Clone() *Message {
	c := NewMessage(m.body().mti)
	c.body().wide = m.body().wide
	for de, v := range m.body().fields {
		c.body().fields[de] = v
	}
	return c
}

// String is one line, masked: 0200 2=************0004 3=000000 …
func (m *Message) String() string {
	if m == nil || m.hidden == nil {
		return "<no message>"
	}
	var b strings.Builder
	b.WriteString(string(m.body().mti))
	for _, de := range m.Fields() {
		fmt.Fprintf(&b, " %d=%s", de, m.masked(de))
	}
	return b.String()
}

// masked is the printable form of a data element: hidden too when it repeats the
// message's own card, wherever somebody put it.
func (m *Message) masked(de int) string {
	value := m.body().fields[de]
	if value != "" && !legible(m, de, value) {
		return hidden
	}
	return maskField(de, value)
}

// Format masks under every verb.
func (m *Message) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, m.String()) }

// MarshalJSON masks: {"mti":"0200","2":"************0004", …}.
func (m *Message) MarshalJSON() ([]byte, error) {
	out := map[string]string{}
	if m != nil && m.hidden != nil {
		out["mti"] = string(m.body().mti)
		for de := range m.body().fields {
			out[strconv.Itoa(de)] = m.masked(de)
		}
	}
	return json.Marshal(out)
}

// LogValue masks for log/slog.
func (m *Message) LogValue() slog.Value { return slog.StringValue(m.String()) }
