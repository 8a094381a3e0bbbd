package journal

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// Every step on every status: the legal ones move the entry, the others are a
// *MoveError that names both states and change nothing. All again after opening
// the journal again.
func TestL2L3EveryStepOnEveryStatus(t *testing.T) {
	t.Parallel()
	for _, from := range Statuses() {
		t.Run(from.String(), func(t *testing.T) {
			s := newScene(t)
			for _, st := range steps {
				id := s.entryAt(from)
				s.reopen()
				before := s.entry(id)

				err := st.take(s.j, id)

				if st.legal(from) {
					wantMoved(t, s, st, before, err)
				} else {
					wantUnmoved(t, s, st, before, err)
				}
				after := s.entry(id)
				s.reopen()
				same(t, st.name+" after reopening", s.entry(id), after)
			}
		})
	}
}

func wantMoved(t *testing.T, s *scene, st step, before Entry, err error) {
	t.Helper()
	after := s.entry(before.ID)
	if err != nil {
		t.Fatalf("%s on %s: %v", st.name, before.Status, err)
	}
	want := st.to
	if want == 0 {
		want = before.Status
	}
	if after.Status != want {
		t.Errorf("%s on %s: now %s, want %s", st.name, before.Status, after.Status, want)
	}
	if n := len(after.Steps); n != len(before.Steps)+1 || after.Steps[n-1].Kind != st.kind || !after.Steps[n-1].At.Equal(after.ChangedAt) {
		t.Errorf("%s on %s: the step is not in the history: %+v", st.name, before.Status, after.Steps)
	}
	if !slices.Equal(after.Steps[:len(before.Steps)], before.Steps) || !after.ChangedAt.After(before.ChangedAt) {
		t.Errorf("%s on %s rewrote the history: %+v", st.name, before.Status, after.Steps)
	}
	fixed := func(e Entry) Entry { // what no step may change
		return Entry{ID: e.ID, Lane: e.Lane, STAN: e.STAN, Type: e.Type, MTI: e.MTI, Amount: e.Amount, Last4: e.Last4, BegunAt: e.BegunAt}
	}
	same(t, st.name+": what was begun", fixed(after), fixed(before))
}

func wantUnmoved(t *testing.T, s *scene, st step, before Entry, err error) {
	t.Helper()
	wantErr(t, st.name+" on "+before.Status.String(), err, ErrMove)
	if err != nil && !strings.Contains(err.Error(), before.Status.String()) {
		t.Errorf("%s on %s: the error does not name the status: %v", st.name, before.Status, err)
	}
	same(t, st.name+" on "+before.Status.String()+" was refused", s.entry(before.ID), before)
	if st.to == 0 {
		return // Late is no move
	}
	var move *MoveError
	if !errors.As(err, &move) {
		t.Fatalf("%s on %s: %v is no *MoveError", st.name, before.Status, err)
	}
	if *move != (MoveError{before.ID, before.Status, st.to}) {
		t.Errorf("%s on %s: wrong move in %+v", st.name, before.Status, *move)
	}
	if !strings.Contains(err.Error(), "from "+before.Status.String()+" to "+st.to.String()) {
		t.Errorf("%s on %s: the error does not name both states: %v", st.name, before.Status, err)
	}
}

// ErrMove's document: "A *MoveError names both states." Late is a step too.
func TestLateIsRefusedWithAMoveError(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	id := s.entryAt(Completed)
	err := s.j.Late(id, approved)
	var move *MoveError
	if !errors.As(err, &move) || move.From != Completed {
		t.Errorf("%v is no *MoveError from completed", err)
	}
}

func TestEveryStepOnAnUnknownEntry(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	known := s.begin()
	for _, st := range steps {
		for _, id := range []ID{0, known + 1, ^ID(0)} {
			wantErr(t, st.name, st.take(s.j, id), ErrNoEntry)
		}
	}
	_, err := s.j.Entry(known + 1)
	wantErr(t, "Entry", err, ErrNoEntry)
	_, err = s.j.Image(known + 1)
	wantErr(t, "Image", err, ErrNoEntry)
	if e := s.entry(known); e.Status != Begun || len(e.Steps) != 1 {
		t.Errorf("the known entry changed: %+v", e)
	}
}

// CanMove against the status machine of DESIGN.md, written out whole.
func TestStatusMachine(t *testing.T) {
	t.Parallel()
	legal := map[[2]Status]bool{
		{Begun, Completed}: true, {Begun, Declined}: true, {Begun, NotSent}: true, {Begun, Owed}: true,
		{Owed, Owed}: true, {Owed, Reversed}: true, {Owed, Parked}: true,
		{Parked, Owed}: true, {Parked, Reversed}: true, {Parked, Cleared}: true,
	}
	for from := Status(0); from < 12; from++ {
		for to := Status(0); to < 12; to++ {
			if from.CanMove(to) != legal[[2]Status{from, to}] {
				t.Errorf("%s to %s: CanMove says %v", from, to, from.CanMove(to))
			}
		}
	}
	for _, s := range Statuses() {
		if back, err := ParseStatus(s.String()); err != nil || back != s {
			t.Errorf("%s does not parse back: %v %v", s, back, err)
		}
	}
	if len(Statuses()) != 8 {
		t.Errorf("the set has %d statuses, want 8", len(Statuses()))
	}
	for _, name := range []string{"", "Begun", "status-9", "sent"} {
		if s, err := ParseStatus(name); err == nil {
			t.Errorf("ParseStatus(%q) = %s", name, s)
		}
	}
}

func TestTextForms(t *testing.T) {
	t.Parallel()
	for want, m := range map[string]Money{
		"12.50 USD": price, "0.05 EUR": {5, "EUR", 2}, "1250 JPY": {1250, "JPY", 0}, "1.250 KWD": {1250, "KWD", 3}, "0.00 USD": {0, "USD", 2},
	} {
		if m.String() != want {
			t.Errorf("%+v prints %q, want %q", [3]any{m.Minor, m.Currency, m.Exponent}, m, want)
		}
	}
	if lane1.String() != "TERM0001/MERCHANT0000001" {
		t.Errorf("lane prints %q", lane1)
	}
	for _, id := range []ID{1, 42, ^ID(0)} {
		if back, err := ParseID(id.String()); err != nil || back != id {
			t.Errorf("id %d does not parse back: %v %v", id, back, err)
		}
	}
	for _, bad := range []string{"", "0", "-1", "+1", "01", "1 ", "0x1", "18446744073709551616"} {
		if id, err := ParseID(bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("ParseID(%q) = %d, %v", bad, id, err)
		}
	}
}

// A fact out of bounds is refused and nothing is recorded.
func TestBeginRefusesInvalidFacts(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for name, spoil := range map[string]func(*Draft){
		"no terminal":      func(d *Draft) { d.Lane.Terminal = "" },
		"no merchant":      func(d *Draft) { d.Lane.Merchant = "" },
		"no type":          func(d *Draft) { d.Type = "" },
		"no MTI":           func(d *Draft) { d.MTI = "" },
		"no currency":      func(d *Draft) { d.Amount.Currency = "" },
		"STAN 0":           func(d *Draft) { d.STAN = 0 },
		"STAN 1000000":     func(d *Draft) { d.STAN = 1_000_000 },
		"negative amount":  func(d *Draft) { d.Amount.Minor = -1 },
		"13 digit amount":  func(d *Draft) { d.Amount.Minor = 1_000_000_000_000 },
		"exponent 5":       func(d *Draft) { d.Amount.Exponent = 5 },
		"five digits":      func(d *Draft) { d.Last4 = "11111" },
		"a whole PAN":      func(d *Draft) { d.Last4 = "4111111111111111" },
		"no digits":        func(d *Draft) { d.Last4 = "11x1" },
		"foreign digits":   func(d *Draft) { d.Last4 = "١" },
		"long image":       func(d *Draft) { d.Image = make([]byte, 4097) },
		"long merchant":    func(d *Draft) { d.Lane.Merchant = strings.Repeat("M", 65) },
		"newline in type":  func(d *Draft) { d.Type = "sa\nle" },
		"escape in MTI":    func(d *Draft) { d.MTI = "\x1b[2J" },
		"no text terminal": func(d *Draft) { d.Lane.Terminal = "\xff\xfe" },
	} {
		d := s.draft(lane1)
		spoil(&d)
		id, err := s.j.Begin(d)
		wantErr(t, name, err, ErrInvalid)
		if id != 0 {
			t.Errorf("%s: refused, yet it has id %d", name, id)
		}
		if err != nil && strings.Contains(err.Error(), "4111111111111111") {
			t.Errorf("%s: the error shows the PAN: %v", name, err) // L11
		}
	}
	for e := range s.j.Entries(Query{}) {
		t.Errorf("recorded: %+v", e)
	}
}

// An answer, cause or reason out of bounds is refused and changes nothing.
func TestStepsRefuseInvalidFacts(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 65)
	for name, c := range map[string]struct {
		from Status
		take func(*Journal, ID) error
	}{
		"long code":       {Begun, func(j *Journal, id ID) error { return j.Complete(id, Answer{Code: long}) }},
		"negative amount": {Begun, func(j *Journal, id ID) error { return j.Complete(id, Answer{ApprovedMinor: -1}) }},
		"bad RRN":         {Begun, func(j *Journal, id ID) error { return j.Decline(id, Answer{RRN: "\x00"}) }},
		"long cause":      {Begun, func(j *Journal, id ID) error { return j.Owe(id, long, silence) }},
		"bad auth code":   {Begun, func(j *Journal, id ID) error { return j.Owe(id, "no answer", Answer{AuthCode: "a\nb"}) }},
		"long refusal":    {Owed, func(j *Journal, id ID) error { return j.Refuse(id, long) }},
		"long confirm":    {Owed, func(j *Journal, id ID) error { return j.Confirm(id, long) }},
		"long reason":     {Owed, func(j *Journal, id ID) error { return j.Park(id, long) }},
		"bad late answer": {Owed, func(j *Journal, id ID) error { return j.Late(id, Answer{Code: long}) }},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			id := s.entryAt(c.from)
			before := s.entry(id)
			wantErr(t, name, c.take(s.j, id), ErrInvalid)
			s.reopen()
			same(t, name, s.entry(id), before)
		})
	}
}
