package simulator

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"uncharge/iso"
)

// What differs between the dialects that the host speaks is here: whose message
// it is, which transaction it means, how a code is written, which key makes the
// MAC.

// serviceOf is what a message asks for.
type service int

const (
	serviceNone service = iota
	serviceSale
	serviceReversal
	serviceSignOn
	serviceSignOff
	serviceEcho
)

// serviceOf reads the class and the function of the MTI (0 request, 2 advice),
// and of network management the code that says which: DE 70 (1987), DE 24 (1993)
// or the third part of DE 60 (UnionPay).
func serviceOf(p *iso.Profile, m *iso.Message) service {
	mti := m.MTI()
	switch {
	case mti[1] == '2' && mti[2] == '0' && strings.HasPrefix(field(m, 3), purchase):
		return serviceSale
	case mti[1] == '4' && (mti[2] == '0' || mti[2] == '2'):
		return serviceReversal
	case mti[1] != '8' || !answerable(mti):
		return serviceNone
	}
	code := field(m, 70)
	if mti[0] == '1' {
		code = field(m, 24)
	} else if p.Batch(m) != "" && len(field(m, 60)) >= 11 {
		code = field(m, 60)[8:11]
	}
	switch code {
	case "001", "003", "004", "801":
		return serviceSignOn
	case "002", "802":
		return serviceSignOff
	case "301", "831":
		return serviceEcho
	}
	return serviceNone
}

// moment is what tells a trace number from the same number another time: the
// transmission time, the local time of 1993, or UnionPay's batch.
func moment(p *iso.Profile, m *iso.Message) string {
	if local := field(m, 12); m.MTI()[0] == '1' {
		return local
	}
	if at := field(m, 7); at != "" {
		return at
	}
	return p.Batch(m)
}

// originalOf is which sale a reversal means: DE 90, DE 56 of 1993, or at UnionPay
// the trace number and the batch, which are those of the sale.
func originalOf(p *iso.Profile, m *iso.Message) (iso.Original, error) {
	if text := field(m, 90); text != "" {
		return iso.ParseOriginal(text)
	}
	if m.MTI()[0] == '1' {
		return iso.ParseDE56(field(m, 56))
	}
	stan, err := iso.ParseSTAN(field(m, 11))
	batch := p.Batch(m)
	if batch == "" {
		err = errors.New("neither DE 90 nor a batch")
	}
	return iso.Original{MTI: saleMTI, STAN: stan, Batch: batch}, err
}

// class is an MTI without its version and repeat: 0201, 1200 and 1201 are all
// 0200.
func class(mti iso.MTI) iso.MTI {
	if len(mti) != 4 {
		return mti
	}
	return "0" + mti[1:3] + "0"
}

// codes1993 are the action codes of ISO 8583:1993 for the codes that the ledger
// and the faults use.
var codes1993 = map[string]string{
	codeApproved: "000", codeInvalid: "902", codeInvalidAmount: "110", codeInvalidCard: "111", codeNotFound: "481",
	codeFormat: "904", codeDuplicate: "913", codeMalfunction: "909", codeMAC: "916",
	"05": "100", "51": "116", "54": "101", "55": "117", "91": "907", "99": "916",
}

// codeMAC is UnionPay's for a MAC that does not fit.
const codeMAC = "A0"

// code is how a code of the ledger is written to the terminal.
func code(p *iso.Profile, service service, c string) string {
	if p.CodeLength() != 3 {
		return c
	}
	if service == serviceReversal && c == codeApproved {
		return "400"
	}
	if service >= serviceSignOn && c == codeApproved {
		return "800"
	}
	if other, ok := codes1993[c]; ok {
		return other
	}
	return c
}

// keyRing holds the keys of the terminals that signed on.
type keyRing struct {
	master iso.Secret

	mu        sync.Mutex
	terminals map[string]*iso.SoftKeys
}

// of returns a terminal's keys, nil before it signed on.
func (k *keyRing) of(terminal string) iso.Authenticator {
	k.mu.Lock()
	defer k.mu.Unlock()
	if keys := k.terminals[terminal]; keys != nil {
		return keys
	}
	return nil
}

// keysMax bounds the terminals that may sign on.
const keysMax = 1 << 16

// renew gives a terminal new keys and returns them as DE 62 carries them.
func (k *keyRing) renew(terminal string, size int) (iso.Secret, error) {
	pin, mac := make([]byte, size), make([]byte, size)
	_, _ = rand.Read(pin) // crypto/rand never fails
	_, _ = rand.Read(mac)
	text := func(b []byte) iso.Secret { return iso.NewSecret(strings.ToUpper(hex.EncodeToString(b))) }
	wrapped, err := iso.WrapKeys(k.master, text(pin), text(mac))
	if err != nil {
		return iso.Secret{}, err
	}
	keys, err := iso.NewSoftKeys(k.master)
	if err == nil {
		err = keys.SetMACKey(text(mac))
	}
	if err != nil {
		return iso.Secret{}, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.terminals[terminal] == nil && len(k.terminals) >= keysMax {
		return iso.Secret{}, errors.New("too many terminals signed on")
	}
	if k.terminals == nil {
		k.terminals = map[string]*iso.SoftKeys{}
	}
	k.terminals[terminal] = keys
	return wrapped, nil
}

// decideNetwork answers sign-on, sign-off and echo.
func (h *Host) decideNetwork(e Event, m *iso.Message, s service) verdict {
	e.Kind, e.Code = KindNetwork, codeApproved
	own := map[int]string{}
	switch s {
	case serviceSignOn:
		e.Detail = "sign-on"
		if h.profile.HasMAC() {
			size := 16
			if data := field(m, 60); h.profile.Batch(m) != "" && len(data) >= 11 && data[8:11] == "001" {
				size = 8
			}
			keys, err := h.keys.renew(e.Terminal, size)
			if err != nil {
				e.Code, e.Detail = codeMalfunction, "sign-on: "+err.Error()
				break
			}
			own[62] = keys.Reveal()
		}
	case serviceSignOff:
		e.Detail = "sign-off"
	case serviceEcho:
		e.Detail = "echo"
	}
	e.Code = code(h.profile, s, e.Code)
	own[39] = e.Code
	h.emit(e, noCard)
	return h.reply(m, echoOfOther, own, verdict{event: e})
}

// unproven answers a message whose MAC is missing or wrong: nothing is booked
// and nothing is undone, and the terminal is told to sign on again.
func (h *Host) unproven(e Event, m *iso.Message, why error) verdict {
	e.Kind, e.Code, e.Detail = KindUnproven, code(h.profile, serviceNone, codeMAC), why.Error()
	h.emit(e, noCard)
	echo := echoOfSale
	if m.MTI().Reversal() {
		echo = echoOfReversal
	}
	return h.reply(m, echo, map[int]string{39: e.Code}, verdict{event: e, askSignOn: true})
}

// stamped adds the host's time where the request has none and the dialect a place
// for it (UnionPay: 12, 13).
func (h *Host) stamped(m *iso.Message, own map[int]string) map[int]string {
	if h.profile.Batch(m) != "" && field(m, 12) == "" {
		now := time.Now()
		own[12], own[13] = now.Format("150405"), now.Format("0102")
	}
	return own
}

// verify holds a message against its MAC.
func (h *Host) verify(ctx context.Context, terminal string, m *iso.Message, packed []byte) error {
	if !h.profile.HasMAC() {
		return nil
	}
	if err := h.profile.Verify(ctx, m, packed, h.keys.of(terminal)); err != nil {
		return fmt.Errorf("not believed: %w", err)
	}
	return nil
}
