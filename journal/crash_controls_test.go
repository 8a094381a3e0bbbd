package journal

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// Every legal power cut, part 11: controls. The same life under a disk or a promise
// that is not the real one: each must be found out, or the tests above see nothing.

// control spoils a recorded life.
type control struct {
	name  string
	spoil func(*run)
}

func isFile(n *node) bool { return n.names == nil }

// someSyncs gives a verdict on the syncs of files that are picked by number, from
// the time on when the journal is open: a step must be lost, not the creation.
func someSyncs(v verdict, pick func(number int) bool) func(*run) {
	return func(r *run) {
		number, of := 0, map[*kcall]int{}
		open := r.saidAfter(0, "seen", 1)
		r.verdict = func(c *kcall, n *node) verdict {
			if !isFile(n) || c.start < open {
				return asReturned
			}
			if _, known := of[c]; !known { // the same calls come again in each round
				of[c] = number
				number++
			}
			if pick(of[c]) {
				return v
			}
			return asReturned
		}
	}
}

// onlyTheBusiest leaves out what is synced now and then: the store behind a write-ahead
// file must be on the disk before that file is used again.
func onlyTheBusiest(r *run) {
	syncs := map[int]int{}
	d := newReplay(r.root, r.base)
	d.verdict = func(_ *kcall, n *node) verdict {
		if isFile(n) {
			syncs[n.number]++
		}
		return asReturned
	}
	for _, m := range r.moments {
		_ = d.step(m) // it was done before, when the life was recorded
	}
	busiest, open := 0, r.saidAfter(0, "seen", 1)
	for n, count := range syncs {
		if count > syncs[busiest] {
			busiest = n
		}
	}
	r.verdict = func(c *kcall, n *node) verdict {
		if isFile(n) && n.number != busiest && c.start > open {
			return nothing
		}
		return asReturned
	}
}

func noDirectorySync(r *run) {
	r.verdict = func(_ *kcall, n *node) verdict {
		if isFile(n) {
			return asReturned
		}
		return nothing
	}
}

var controls = []control{
	{"no file is synced", someSyncs(nothing, func(int) bool { return true })},
	{"only every second sync of a file is made", someSyncs(nothing, func(i int) bool { return i%2 == 0 })},
	{"only the other ones are made", someSyncs(nothing, func(i int) bool { return i%2 == 1 })},
	{"every seventh sync of a file is left out", someSyncs(nothing, func(i int) bool { return i%7 == 6 })},
	{"every seventh sync of a file lies", someSyncs(forgotten, func(i int) bool { return i%7 == 6 })},
	{"only the file that is synced most often is synced", onlyTheBusiest},
	{"no directory is synced", noDirectorySync},
	{"files are made in place", inPlace},
	{"a step is acknowledged before it is taken", tooEarly},
	{"acknowledged steps are forgotten", forgetful},
}

func TestControlsOfThePowerCuts(t *testing.T) {
	t.Parallel()
	n, work := supervised(t)
	if !work {
		return
	}
	chance := rand.New(rand.NewPCG(newSeed(t), 11))
	dir := (&court{t: t, notes: n}).newRunDir()
	recordRun(t, "a life to be spoiled", "cut", dir, chance.Uint64(), nil, nil)
	for _, control := range controls {
		t.Run(control.name, func(t *testing.T) {
			r, err := readRun(dir)
			if err != nil {
				t.Fatal(err)
			}
			control.spoil(r)
			c := newCourt(t, n)
			c.enough = 3
			for round := 0; round < 10 && c.count() < 3000; round++ {
				if err := r.cuts(round, 1, c.take); err != nil {
					t.Fatal(err)
				}
			}
			c.close()
			if len(c.bad) == 0 {
				t.Fatalf("not found out")
			}
			t.Logf("found out: %s: %s", c.bad[0].cut.how, firstLine(c.bad[0].err))
		})
	}
}

// inPlace gives each file that is renamed its later name from the start.
func inPlace(r *run) {
	later := map[string]string{}
	for _, m := range r.moments {
		if c := m.call; c.name == "renameat" && !c.failed {
			later[c.args[1]] = c.args[3]
		}
	}
	calls := map[*kcall]*kcall{}
	r.moments = slices.DeleteFunc(slices.Clone(r.moments), func(m moment) bool { return m.call.name == "renameat" })
	for i, m := range r.moments {
		c := calls[m.call]
		if c == nil {
			other := *m.call
			c, calls[m.call] = &other, &other
			c.args = slices.Clone(c.args)
			if to, renamed := later[c.args[min(1, len(c.args)-1)]]; renamed {
				c.args[1] = to
			}
		}
		r.moments[i].call = c
	}
}

// tooEarly promises each step on an entry when it is tried.
func tooEarly(r *run) {
	for i, p := range r.promises {
		p = p.clone()
		for worker, a := range maps.Clone(p.inFlight) {
			if before, known := p.entries[a.id]; known {
				p.entries[a.id] = before.after(a.kind)
				delete(p.inFlight, worker)
			}
		}
		r.promises[i] = p
	}
}

// forgetful promises what had been promised a while ago: so more is there.
func forgetful(r *run) {
	for i := len(r.promises) - 1; i >= 0; i-- {
		r.promises[i] = r.promises[max(i-4, 0)]
	}
}

// What the promise must find out by itself, entry by entry.
func TestControlsOfThePromise(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	p := newPromise()
	hear := func(format string, args ...any) {
		t.Helper()
		if err := p.hear(fmt.Sprintf(format, args...)); err != nil {
			t.Fatal(err)
		}
	}
	begin := func(stan uint32) ID {
		id, err := s.j.Begin(draftOf(lane1, stan))
		s.must(err)
		return id
	}
	for stan := range uint32(3) {
		hear("try 0 begin 0 %d 0", stan+1)
		id := begin(stan + 1)
		hear("did 0 begin %d %s", id, asJSON(s.entry(id)))
	}
	s.must(s.j.Owe(2, "no answer", silence))
	whole := func() (list []shown) {
		for e, err := range s.j.Entries(Query{}) {
			s.must(err)
			list = append(list, show(e))
		}
		return list
	}
	other := func(i int, change func(*Entry)) []shown {
		list := whole()
		change(&list[i].Entry)
		list[i] = show(list[i].Entry)
		return list
	}
	wantKept := func(what string, list []shown, kept bool) {
		t.Helper()
		if err := p.keptBy(list); (err == nil) != kept {
			t.Errorf("%s: %v", what, err)
		}
	}

	wantKept("a step that nobody tried", whole(), false)
	hear("try 0 owe 2")
	wantKept("a step in flight", whole(), true)
	wantKept("half a step", other(1, func(e *Entry) { e.Steps = e.Steps[:1] }), false)
	wantKept("the other half", other(1, func(e *Entry) { e.Status = Begun }), false)
	wantKept("another cause", other(1, func(e *Entry) { e.Cause = "late" }), false)
	hear("did 0 owe 2 %s", asJSON(s.entry(2)))
	wantKept("all", whole(), true)
	wantKept("one is missing", whole()[:2], false)
	wantKept("one twice", append(whole(), whole()[2]), false)
	wantKept("another amount", other(0, func(e *Entry) { e.Amount.Minor++ }), false)
	wantKept("another time", other(0, func(e *Entry) { e.BegunAt = e.BegunAt.Add(1) }), false)
	begin(4)
	wantKept("one that nobody tried", whole(), false)
	hear("try 1 begin 0 5 0")
	wantKept("not the one in flight", whole(), false)
	hear("try 2 begin 0 4 0")
	wantKept("the one in flight", whole(), true)
	hear("undone 2")
	wantKept("one that was undone", whole(), false)
	hear("try 2 begin 0 4 0")
	hear("poisoned 2")
	hear(processEnded)
	wantKept("one whose outcome is not known", whole(), true)
	if err := p.hear("seen"); err == nil {
		t.Error("an empty journal was seen, and nobody minds")
	}
}
