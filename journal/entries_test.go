package journal

import (
	"errors"
	"slices"
	"testing"
	"time"
)

// A history of several pages (a page is entriesPage entries).
const history = 700

func numbersOf(from, to ID) (out []ID) {
	for id := from; id <= to; id++ {
		out = append(out, id)
	}
	return out
}

func TestEntriesStreamsEveryPage(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.plant(history - 2)
	owed, armed := s.entryAt(Owed), s.begin()
	all := numbersOf(1, history)
	backwards := slices.Clone(all)
	slices.Reverse(backwards)
	late := func(e Entry) bool { return e.ID > 650 }
	for name, c := range map[string]struct {
		q    Query
		want []ID
	}{
		"all":                    {Query{}, all},
		"newest first":           {Query{Newest: true}, backwards},
		"from":                   {Query{From: 255}, all[254:]},
		"from a page's edge":     {Query{From: 257}, all[256:]},
		"to":                     {Query{To: 513}, all[:513]},
		"to a page's edge":       {Query{To: 256}, all[:256]},
		"range":                  {Query{From: 100, To: 620}, all[99:620]},
		"range, newest first":    {Query{From: 100, To: 620, Newest: true}, backwards[80:601]},
		"one":                    {Query{From: 300, To: 300}, []ID{300}},
		"one, newest first":      {Query{From: 300, To: 300, Newest: true}, []ID{300}},
		"limit":                  {Query{Limit: 300}, all[:300]},
		"limit, newest first":    {Query{Limit: 300, Newest: true}, backwards[:300]},
		"limit above all":        {Query{Limit: 1000}, all},
		"limit of what is kept":  {Query{Keep: late, Limit: 3}, []ID{651, 652, 653}},
		"status":                 {Query{Status: []Status{Owed, Begun}}, []ID{owed, armed}},
		"status and keep":        {Query{Status: []Status{Completed}, Keep: late}, all[650 : history-2]},
		"status that none has":   {Query{Status: []Status{Cleared}}, nil},
		"turned round":           {Query{From: 20, To: 10}, nil},
		"turned round, newest":   {Query{From: 20, To: 10, Newest: true}, nil},
		"beyond":                 {Query{From: history + 1}, nil},
		"to beyond":              {Query{To: ^ID(0)}, all},
		"to beyond, newest":      {Query{To: ^ID(0), Newest: true, Limit: 2}, backwards[:2]},
		"from the largest":       {Query{From: ^ID(0)}, nil},
		"from, newest, and edge": {Query{From: 445, Newest: true}, backwards[:256]},
	} {
		if got := collect(t, s.j, c.q); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %d entries %v, want %d", name, len(got), edges(got), len(c.want))
		}
	}
}

// Ids may have gaps: a range may begin and end in one.
func TestEntriesWithGaps(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for _, last := range []ID{0, 9, 19, 299} { // entries 1, 10, 20 and 300
		s.j.lastID = last
		s.begin()
	}
	for name, c := range map[string]struct {
		q    Query
		want []ID
	}{
		"from a gap":               {Query{From: 5}, []ID{10, 20, 300}},
		"to a gap":                 {Query{To: 15}, []ID{1, 10}},
		"to a gap, newest":         {Query{To: 15, Newest: true}, []ID{10, 1}},
		"gap to gap, newest":       {Query{From: 5, To: 100, Newest: true}, []ID{20, 10}},
		"inside a gap":             {Query{From: 2, To: 9}, nil},
		"inside a gap, newest":     {Query{From: 2, To: 9, Newest: true}, nil},
		"above all, newest":        {Query{To: 301, Newest: true}, []ID{300, 20, 10, 1}},
		"below the gap, newest":    {Query{To: 9, Newest: true}, []ID{1}},
		"from above all, newest":   {Query{From: 301, Newest: true}, nil},
		"from and to in a far gap": {Query{From: 21, To: 299}, nil},
	} {
		if got := collect(t, s.j, c.q); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

func edges(list []ID) []ID {
	if len(list) < 6 {
		return list
	}
	return slices.Concat(list[:3], list[len(list)-3:])
}

func TestEntriesOfAnEmptyJournal(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	if got := slices.Concat(collect(t, s.j, Query{}), collect(t, s.j, Query{Newest: true})); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

// What is yielded is the caller's: changing it changes nothing stored or shared.
func TestEntriesAreCopies(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	id := s.entryAt(Owed)
	before := asJSON(s.entry(id))
	for e := range s.j.Entries(Query{}) {
		e.Steps[0].Note, e.Status = "scribble", Completed
	}
	if after := asJSON(s.entry(id)); after != before {
		t.Errorf("got %s, want %s", after, before)
	}
}

// Breaking out early leaves nothing open: steps, Close and Open go on.
func TestEntriesBreakingOutEarly(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.plant(history)
	for _, stop := range []int{1, 256, 257, 600} {
		seen := 0
		for range s.j.Entries(Query{}) {
			if seen++; seen == stop {
				break
			}
		}
		if seen != stop {
			t.Errorf("saw %d, want %d", seen, stop)
		}
		if !within(t, 5*time.Second, "steps and reopening", func() { s.entryAt(Owed); s.reopen() }) {
			return
		}
	}
}

// One sequence may be walked twice.
func TestEntriesCanBeWalkedAgain(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.plant(300)
	seq := s.j.Entries(Query{})
	for range 2 {
		n := 0
		for range seq {
			n++
		}
		if n != 300 {
			t.Errorf("%d entries, want 300", n)
		}
	}
}

// Writing from inside the loop neither waits for the loop nor breaks it.
func TestWritingWhileStreaming(t *testing.T) {
	t.Parallel()
	for _, newest := range []bool{false, true} {
		s := newScene(t)
		s.plant(history)
		within(t, 20*time.Second, "the loop", func() {
			var old []ID
			for e, err := range s.j.Entries(Query{Newest: newest}) {
				if err != nil {
					t.Errorf("entries: %v", err)
					return
				}
				if e.ID <= history {
					old = append(old, e.ID)
				}
				if e.ID%100 == 0 && e.ID <= history {
					s.begin()
				}
			}
			if newest {
				slices.Reverse(old)
			}
			if !slices.Equal(old, numbersOf(1, history)) {
				t.Errorf("of %d old entries the loop saw %d: %v", history, len(old), edges(old))
			}
		})
		if armed, err := s.j.Armed(); len(armed) != 7 || err != nil {
			t.Errorf("%d armed, want 7 (%v)", len(armed), err)
		}
	}
}

// A loop that begins one entry for each that it sees comes to an end: the stream
// does not run after what its own reader writes.
func TestStreamingComesToAnEnd(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.plant(300)
	s.j.store.db.NoSync = true
	seen := 0
	for range s.j.Entries(Query{}) {
		s.plant(1)
		if seen++; seen > 3000 {
			t.Fatal("3,000 entries seen of 300, and no end")
		}
	}
}

// Closing from inside the loop ends it with an error, not with silence.
func TestClosingWhileStreaming(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.plant(history)
	seen, last := 0, error(nil)
	for _, err := range s.j.Entries(Query{}) {
		if seen++; seen == 10 {
			s.close()
		}
		last = err
	}
	if !errors.Is(last, ErrClosed) {
		t.Errorf("after %d of %d entries the stream ended with %v", seen, history, last)
	}
	s.open()
}

// BenchmarkOwed: five owed among a thousand and among twenty thousand entries.
// The last line's x1000 is the ratio: near 1 when cost follows what is owed.
func BenchmarkOwed(b *testing.B) {
	base := 0.0
	for _, n := range []int{1_000, 20_000} {
		s := newScene(b)
		for range 5 {
			s.entryAt(Owed)
			s.plant(n / 5)
		}
		b.Run(ID(n).String(), func(b *testing.B) {
			for b.Loop() {
				if owed, err := s.j.Owed(); len(owed) != 5 || err != nil {
					b.Fatalf("%d owed, %v", len(owed), err)
				}
			}
			each := float64(b.Elapsed()) / float64(b.N)
			if base == 0 {
				base = each
			}
			b.ReportMetric(each/base, "x1000")
		})
	}
}
