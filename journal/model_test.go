package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// The journal against a plain model: a slice of facts and the design's table of
// moves. rapid prints the seed of a failing run and how to repeat it.

type modelEntry struct {
	lane               Lane
	stan               uint32
	status             Status
	cause, lastCode    string
	parking            string
	attempts, refusals int
	answer             Answer
	kinds              []StepKind
	gone               bool // pruned
}

type model struct {
	entries []*modelEntry   // entry n is ID n+1: this journal never leaves a gap
	taken   map[Lane]uint32 // last trace number given out
	begun   map[Lane]uint32 // last trace number begun: the durable one
}

func newModel() *model { return &model{taken: map[Lane]uint32{}, begun: map[Lane]uint32{}} }

func (m *model) begin(lane Lane, stan uint32) {
	m.entries = append(m.entries, &modelEntry{lane: lane, stan: stan, status: Begun, kinds: []StepKind{StepBegin}})
	m.begun[lane] = stan
}

// reopened forgets what was not durable: numbers taken and never begun.
func (m *model) reopened() {
	m.taken = map[Lane]uint32{lane1: m.begun[lane1], lane2: m.begun[lane2]}
}

// nextSTAN counts 1 to 999999 round and passes over what open entries use.
func (m *model) nextSTAN(lane Lane) uint32 {
	n := m.taken[lane]
	for {
		if n++; n > 999999 {
			n = 1
		}
		if !slices.ContainsFunc(m.entries, func(e *modelEntry) bool {
			return e.lane == lane && e.stan == n && (e.status == Begun || e.status == Owed || e.status == Parked)
		}) {
			m.taken[lane] = n
			return n
		}
	}
}

// apply takes a step that the journal accepted.
func (e *modelEntry) apply(kind StepKind) {
	e.kinds = append(e.kinds, kind)
	switch kind {
	case StepComplete:
		e.status, e.answer = Completed, approved
	case StepDecline:
		e.status, e.answer = Declined, refused
	case StepNotSent:
		e.status = NotSent
	case StepOwe:
		e.status, e.refusals, e.parking = Owed, 0, ""
		if e.cause == "" {
			e.cause = "no answer"
		}
	case StepAttempt:
		e.attempts++
	case StepRefuse:
		e.refusals++
		e.lastCode = "96"
	case StepConfirm:
		e.status, e.lastCode = Reversed, "00"
	case StepNotFound:
		e.status, e.lastCode = Reversed, "25"
	case StepPark:
		e.status, e.parking = Parked, "refused 3 times"
	}
}

func (m *model) pick(keep func(ID, *modelEntry) bool) (out []ID) {
	for i, e := range m.entries {
		if !e.gone && keep(ID(i+1), e) {
			out = append(out, ID(i+1))
		}
	}
	return out
}

func (m *model) with(status Status) []ID {
	return m.pick(func(_ ID, e *modelEntry) bool { return e.status == status })
}

// query is Query's document, done the slow way.
func (m *model) query(q Query) []ID {
	out := m.pick(func(id ID, e *modelEntry) bool {
		return id >= q.From && (q.To == 0 || id <= q.To) && (len(q.Status) == 0 || slices.Contains(q.Status, e.status)) &&
			(q.Keep == nil || e.stan%2 == 0)
	})
	if q.Newest {
		slices.Reverse(out)
	}
	if q.Limit > 0 && len(out) > q.Limit {
		out = out[:q.Limit]
	}
	return out
}

// agree compares all that can be read with the model.
func (m *model) agree(t teller, j lists) {
	t.Helper()
	for i, want := range m.entries {
		e, err := j.Entry(ID(i + 1))
		if want.gone {
			wantErr(t, "what was pruned", err, ErrNoEntry)
			continue
		}
		if err != nil {
			t.Fatalf("entry %d: %v", i+1, err)
		}
		got := modelEntry{
			e.Lane, e.STAN, e.Status, e.Cause, e.LastCode, e.Parking, e.Attempts, e.Refusals,
			Answer{e.Code, e.AuthCode, e.RRN, e.ApprovedMinor}, kindsOf(e.Steps), false,
		}
		expect := *want
		if n := len(expect.kinds); n > 20 && len(got.kinds) > 20 { // a bounded history keeps its beginning and its end
			got.kinds = slices.Concat(got.kinds[:5], got.kinds[len(got.kinds)-5:])
			expect.kinds = slices.Concat(expect.kinds[:5], expect.kinds[n-5:])
		}
		if g, w := fmt.Sprint(got), fmt.Sprint(expect); g != w || e.Amount != price || e.Last4 != "1111" {
			t.Fatalf("entry %d:\n got %s\nwant %s", i+1, g, w)
		}
	}
	for _, index := range []struct {
		status Status
		list   func() ([]Entry, error)
	}{{Begun, j.Armed}, {Owed, j.Owed}, {Parked, j.Parked}} {
		list, err := index.list()
		if got, want := ids(list), m.with(index.status); err != nil || !slices.Equal(got, want) {
			t.Fatalf("what is %s: got %v, want %v (%v)", index.status, got, want, err)
		}
	}
}

func kindsOf(steps []Step) (out []StepKind) {
	for _, s := range steps {
		out = append(out, s.Kind)
	}
	return out
}

func TestL8TheJournalAgreesWithAModel(t *testing.T) {
	t.Parallel()
	base, run, lives := t.TempDir(), 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		s := newSceneIn(rt, filepath.Join(base, fmt.Sprint(run)))
		defer func() {
			s.close()
			checkJournal(rt, s.opts.Dir)
		}()
		m := newModel()
		rt.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) { m.agree(t, s.j) },
			"begin": func(t *rapid.T) {
				lane := aLane(t)
				d := s.draft(lane)
				if want := m.nextSTAN(lane); d.STAN != want {
					t.Fatalf("trace number %d, want %d", d.STAN, want)
				}
				id, err := s.j.Begin(d)
				if err != nil || id != ID(len(m.entries)+1) {
					t.Fatalf("begin: %d %v", id, err)
				}
				m.begin(lane, d.STAN)
			},
			"begin at the wrap": func(t *rapid.T) { // as if many sales had gone before
				lane := aLane(t)
				d := s.draft(lane)
				m.nextSTAN(lane)
				if slices.ContainsFunc(m.entries, func(e *modelEntry) bool { return e.lane == lane && e.stan > 999_990 }) {
					return
				}
				d.STAN = 999_998
				s.must(second(s.j.Begin(d)))
				m.begin(lane, d.STAN)
				s.reopen()
				m.reopened()
			},
			"leave a gap": func(t *rapid.T) {
				lane := aLane(t)
				if got, want := s.draft(lane).STAN, m.nextSTAN(lane); got != want {
					t.Fatalf("trace number %d, want %d", got, want)
				}
			},
			"some steps": func(t *rapid.T) {
				for range rapid.IntRange(1, 5).Draw(t, "steps") {
					m.takeAny(t, s.j)
					m.agree(t, s.j)
				}
			},
			"query": func(t *rapid.T) {
				q := Query{
					From: ID(rapid.IntRange(0, 8).Draw(t, "from")), To: ID(rapid.IntRange(0, 8).Draw(t, "to")),
					Newest: rapid.Bool().Draw(t, "newest"), Limit: rapid.IntRange(0, 4).Draw(t, "limit"),
					Status: rapid.SliceOfN(rapid.SampledFrom(Statuses()), 0, 3).Draw(t, "status"),
				}
				if rapid.Bool().Draw(t, "keep even") {
					q.Keep = func(e Entry) bool { return e.STAN%2 == 0 }
				}
				if got, want := collect(t, s.j, q), m.query(q); !slices.Equal(got, want) {
					t.Fatalf("%+v: got %v, want %v", q, got, want)
				}
			},
			"reopen": func(*rapid.T) {
				s.reopen()
				m.reopened()
			},
			"kill": func(*rapid.T) { // what another process finds
				s.j.background.Wait()
				lives++
				dir := filepath.Join(base, fmt.Sprint("life ", lives))
				s.must(os.CopyFS(dir, os.DirFS(s.opts.Dir)))
				s.close()
				s.opts.Dir = dir
				s.open()
				m.reopened()
			},
			"prune": func(t *rapid.T) {
				s.j.maxBytes, s.j.keepSteps = 1, uint64(rapid.IntRange(0, 20).Draw(t, "kept"))
				m.prune(t, s)
			},
			"checkpoint": func(*rapid.T) { s.must(s.j.flush()) },
			"compact":    func(*rapid.T) { s.must(s.j.Compact()) },
			"a write fails, recover": func(t *rapid.T) {
				file := s.j.wal.file
				s.j.wal.file = failing{file, rapid.Bool().Draw(t, "written")}
				wantErr(t, "Begin", second(s.j.Begin(plainDraft())), ErrPoisoned)
				s.j.wal.file = file
				s.must(s.j.Recover())
				if all := collect(t, s.j, Query{From: ID(len(m.entries) + 1)}); len(all) > 0 {
					m.begin(lane1, plainDraft().STAN)
				}
				s.reopen()
				m.reopened()
			},
			"close, look, open": func(t *rapid.T) {
				s.close()
				wantErr(t, "closed", second(s.j.Owed()), ErrClosed)
				snap, err := Inspect(s.opts.Dir, 0)
				s.must(err)
				m.agree(t, snap)
				s.must(snap.Close())
				s.open()
				m.reopened()
			},
		})
	})
}

// takeAny takes one step, legal or not, on one entry, known or not.
func (m *model) takeAny(t *rapid.T, j *Journal) {
	st := rapid.SampledFrom(steps).Draw(t, "step")
	id := ID(rapid.IntRange(1, len(m.entries)+1).Draw(t, "id"))
	err := st.take(j, id)
	switch {
	case int(id) > len(m.entries) || m.entries[id-1].gone:
		wantErr(t, st.name, err, ErrNoEntry)
	case st.legal(m.entries[id-1].status):
		wantErr(t, st.name, err, nil)
		m.entries[id-1].apply(st.kind)
	default:
		wantErr(t, st.name, err, ErrMove)
	}
}

// prune takes over what the journal pruned: all that it named, which is all settled,
// and next to all that there was (L8).
func (m *model) prune(t *rapid.T, s *scene) {
	removed, err := s.j.Prune()
	wantErr(t, "prune", err, nil)
	s.j.maxBytes = MaxBytesDefault // by and by nothing goes
	there := collect(t, s.j, Query{})
	for _, id := range m.pick(func(id ID, _ *modelEntry) bool { return !slices.Contains(there, id) }) {
		e := m.entries[id-1]
		if e.gone = true; unsettledNow(e.status) {
			t.Fatalf("entry %d, which is %s, was pruned", id, e.status)
		}
		removed--
	}
	if removed != 0 {
		t.Fatalf("%d more were removed than are gone", removed)
	}
}

func aLane(t *rapid.T) Lane { return rapid.SampledFrom([]Lane{lane1, lane2}).Draw(t, "lane") }

// collect streams a query and gives the ids, in the order they came.
func collect(t teller, j *Journal, q Query) (out []ID) {
	t.Helper()
	for e, err := range j.Entries(q) {
		if err != nil {
			t.Fatalf("entries: %v", err)
		}
		out = append(out, e.ID)
	}
	return out
}
