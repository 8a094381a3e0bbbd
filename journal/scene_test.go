package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// The scene most tests play in: one journal, one device key, two lanes, a clock
// that ticks one second a reading.

var (
	deviceKey = bytes.Repeat([]byte{0x5a}, KeyBytes)
	otherKey  = bytes.Repeat([]byte{0xa5}, KeyBytes)
	lane1     = Lane{"TERM0001", "MERCHANT0000001"}
	lane2     = Lane{"TERM0002", "MERCHANT0000001"}
	price     = Money{Minor: 1250, Currency: "USD", Exponent: 2}
	approved  = Answer{Code: "00", AuthCode: "A1B2C3", RRN: "602001000017"}
	refused   = Answer{Code: "05", RRN: "602001000018"}
	silence   = Answer{}
)

// teller is what *testing.T, *testing.B and *rapid.T have in common.
type teller interface {
	Helper()
	Fatalf(string, ...any)
	Errorf(string, ...any)
	Logf(string, ...any)
}

type scene struct {
	t     teller
	opts  Options
	ticks atomic.Int64
	j     *Journal
}

// newScene opens an empty journal in a directory of its own. When the test ends
// the journal is checked (checkJournal).
func newScene(t testing.TB) *scene {
	t.Helper()
	s := newSceneIn(t, filepath.Join(t.TempDir(), "journal"))
	t.Cleanup(func() {
		s.close()
		checkJournal(t, s.opts.Dir)
	})
	return s
}

// newSceneIn leaves closing and checking to the caller.
func newSceneIn(t teller, dir string) *scene {
	t.Helper()
	s := &scene{t: t}
	s.opts = Options{Dir: dir, DeviceKey: deviceKey, FirstSTAN: 1, LockWait: 2 * time.Second, Now: s.tick, RegionBytes: RegionBytesMin}
	s.open()
	return s
}

func (s *scene) tick() time.Time {
	return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(time.Duration(s.ticks.Add(1)) * time.Second)
}

func (s *scene) open() {
	s.t.Helper()
	j, err := Open(s.opts)
	if err != nil {
		s.t.Fatalf("open: %v", err)
	}
	s.j = j
}

func (s *scene) close() {
	s.t.Helper()
	if err := s.j.Close(); err != nil {
		s.t.Errorf("close: %v", err)
	}
}

func (s *scene) reopen() {
	s.t.Helper()
	s.close()
	s.open()
}

func (s *scene) path(name string) string { return filepath.Join(s.opts.Dir, name) }

// draft is a sale of 12.50 on a lane with the lane's next trace number.
func (s *scene) draft(lane Lane) Draft {
	s.t.Helper()
	stan, err := s.j.NextSTAN(lane)
	if err != nil {
		s.t.Fatalf("next trace number: %v", err)
	}
	return Draft{
		Lane: lane, STAN: stan, Type: "sale", MTI: "0200", Amount: price, Last4: "1111",
		Image: fmt.Appendf(nil, "image of %s %06d", lane, stan),
	}
}

func (s *scene) begin() ID {
	s.t.Helper()
	id, err := s.j.Begin(s.draft(lane1))
	if err != nil {
		s.t.Fatalf("begin: %v", err)
	}
	return id
}

// entryAt begins an entry and takes it to a status by legal steps.
func (s *scene) entryAt(status Status) ID {
	s.t.Helper()
	id := s.begin()
	s.takeTo(id, status)
	return id
}

func (s *scene) takeTo(id ID, status Status) {
	s.t.Helper()
	switch status {
	case Begun:
	case Completed:
		s.must(s.j.Complete(id, approved))
	case Declined:
		s.must(s.j.Decline(id, refused))
	case NotSent:
		s.must(s.j.NotSent(id))
	case Owed:
		s.must(s.j.Owe(id, "no answer", silence))
	case Reversed:
		s.takeTo(id, Owed)
		s.must(s.j.Confirm(id, "00"))
	case Parked:
		s.takeTo(id, Owed)
		s.must(s.j.Park(id, "refused 3 times"))
	case Cleared: // no step leads there yet: written into the store
		s.takeTo(id, Parked)
		s.must(s.j.stepNoted(id, Cleared, func(*record) (Step, error) { return Step{Kind: StepClear}, nil }))
	}
	if e := s.entry(id); e.Status != status {
		s.t.Fatalf("scene: entry %d is %s, wanted %s", id, e.Status, status)
	}
}

func (s *scene) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatalf("step: %v", err)
	}
}

func (s *scene) entry(id ID) Entry {
	s.t.Helper()
	e, err := s.j.Entry(id)
	if err != nil {
		s.t.Fatalf("entry %d: %v", id, err)
	}
	return e
}

// plant takes n sales to their end without waiting for the disk: history, made
// quickly. It is in the store when it returns.
func (s *scene) plant(n int) {
	s.t.Helper()
	file := s.j.wal.file
	s.j.wal.file = hasty{file}
	s.j.store.db.NoSync = true
	for range n {
		id, err := s.j.Begin(Draft{Lane: lane1, STAN: 1, Type: "sale", MTI: "0200", Amount: price})
		s.must(err)
		s.must(s.j.Complete(id, approved))
	}
	s.must(s.j.flush())
	s.must(s.j.store.db.Sync())
	s.j.wal.file, s.j.store.db.NoSync = file, false
}

// hasty is a file that is never synced.
type hasty struct{ dataFile }

func (hasty) Datasync() error { return nil }

// same fails unless two entries hold the same facts.
func same(t teller, what string, got, want Entry) {
	t.Helper()
	if g, w := asJSON(got), asJSON(want); g != w {
		t.Errorf("%s:\n got %s\nwant %s", what, g, w)
	}
}

func asJSON(e Entry) string {
	b, err := json.Marshal(e)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// lists is what both Journal and Snapshot offer.
type lists interface {
	Entry(ID) (Entry, error)
	Armed() ([]Entry, error)
	Owed() ([]Entry, error)
	Parked() ([]Entry, error)
}

// checkJournal opens a closed journal for looking and checks what must hold in
// every journal: each record decodes, ids strictly increase, an entry's history
// fits its facts, and the indexes hold the open entries, all of them, in order.
func checkJournal(t teller, dir string) {
	t.Helper()
	snap, err := Inspect(dir, time.Second)
	if err != nil {
		t.Errorf("check: %v", err)
		return
	}
	defer func() { _ = snap.Close() }()
	byStatus := map[Status][]string{}
	var last ID
	for e, err := range snap.Entries(Query{}) {
		if err != nil {
			t.Errorf("check: %v", err)
			return
		}
		if e.ID <= last {
			t.Errorf("check: entry %d comes after entry %d", e.ID, last)
		}
		last = e.ID
		byStatus[e.Status] = append(byStatus[e.Status], asJSON(e))
		if len(e.Steps) == 0 || e.Steps[0].Kind != StepBegin || !e.ChangedAt.Equal(e.Steps[len(e.Steps)-1].At) {
			t.Errorf("check: the history of entry %d does not fit it: %+v", e.ID, e)
		}
		if e.Status == Owed && e.Cause == "" {
			t.Logf("check: entry %d is owed without a cause", e.ID)
		}
	}
	checkIndexes(t, snap, byStatus)
}

func checkIndexes(t teller, from lists, byStatus map[Status][]string) {
	t.Helper()
	for _, index := range []struct {
		status Status
		list   func() ([]Entry, error)
	}{{Begun, from.Armed}, {Owed, from.Owed}, {Parked, from.Parked}} {
		list, err := index.list()
		if err != nil {
			t.Errorf("check: the list of what is %s: %v", index.status, err)
		}
		var got []string
		for _, e := range list {
			got = append(got, asJSON(e))
		}
		if !slices.Equal(got, byStatus[index.status]) {
			t.Errorf("check: the list of what is %s disagrees with the entries:\n got %v\nwant %v", index.status, got, byStatus[index.status])
		}
	}
}

// step is one of the steps that the journal offers, as the design tells it.
type step struct {
	name string
	kind StepKind
	from []Status // where it is legal
	to   Status   // 0: it is no move
	take func(*Journal, ID) error
}

// steps is written from DESIGN.md's status machine and the methods' documents.
var steps = []step{
	{"Complete", StepComplete, []Status{Begun}, Completed, func(j *Journal, id ID) error { return j.Complete(id, approved) }},
	{"Decline", StepDecline, []Status{Begun}, Declined, func(j *Journal, id ID) error { return j.Decline(id, refused) }},
	{"NotSent", StepNotSent, []Status{Begun}, NotSent, func(j *Journal, id ID) error { return j.NotSent(id) }},
	{"Owe", StepOwe, []Status{Begun, Parked}, Owed, func(j *Journal, id ID) error { return j.Owe(id, "no answer", silence) }},
	{"Attempt", StepAttempt, []Status{Owed}, Owed, func(j *Journal, id ID) error { _, err := j.Attempt(id); return err }},
	{"Refuse", StepRefuse, []Status{Owed}, Owed, func(j *Journal, id ID) error { return j.Refuse(id, "96") }},
	{"Confirm", StepConfirm, []Status{Owed, Parked}, Reversed, func(j *Journal, id ID) error { return j.Confirm(id, "00") }},
	{"ConfirmNotFound", StepNotFound, []Status{Owed, Parked}, Reversed, func(j *Journal, id ID) error { return j.ConfirmNotFound(id, "25") }},
	{"Park", StepPark, []Status{Owed}, Parked, func(j *Journal, id ID) error { return j.Park(id, "refused 3 times") }},
	{"Late", StepLate, []Status{Owed, Parked, Reversed}, 0, func(j *Journal, id ID) error { return j.Late(id, approved) }},
}

func (st step) legal(from Status) bool { return slices.Contains(st.from, from) }

// wantErr fails unless err wraps want.
func wantErr(t teller, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

func fileBytes(t teller, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return b
}

// within runs what must not hang.
func within(t teller, limit time.Duration, what string, do func()) bool {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	select {
	case <-done:
		return true
	case <-time.After(limit):
		t.Errorf("%s did not return within %v", what, limit)
		return false
	}
}
