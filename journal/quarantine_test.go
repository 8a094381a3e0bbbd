package journal

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// wounds are ways in which a journal's files come to harm. Each changes a copy.
var wounds = map[string]func(t *testing.T, dir string, chance *rand.Rand){
	"both meta pages gone": func(t *testing.T, dir string, _ *rand.Rand) { overwrite(t, dir, storeName, 0, 8192) },
	"one meta page hurt":   func(t *testing.T, dir string, _ *rand.Rand) { overwrite(t, dir, storeName, 4096+40, 8) },
	"the store is gone": func(t *testing.T, dir string, _ *rand.Rand) {
		if err := os.Remove(filepath.Join(dir, storeName)); err != nil {
			t.Fatal(err)
		}
	},
	"the write-ahead file is gone": func(t *testing.T, dir string, _ *rand.Rand) {
		if err := os.Remove(filepath.Join(dir, walName(1))); err != nil {
			t.Fatal(err)
		}
	},
	"a region's header hurt": func(t *testing.T, dir string, _ *rand.Rand) { overwrite(t, dir, walName(1), 20, 4) },
	"frames hurt in the middle": func(t *testing.T, dir string, chance *rand.Rand) {
		overwrite(t, dir, walName(1), RegionBytesMin+4096+int64(chance.IntN(3000)), 200)
	},
	"a page of the store hurt": func(t *testing.T, dir string, chance *rand.Rand) {
		overwrite(t, dir, storeName, 4096*int64(2+chance.IntN(14)), 4096)
	},
	"half of the store": func(t *testing.T, dir string, _ *rand.Rand) {
		if err := os.Truncate(filepath.Join(dir, storeName), 40_000); err != nil {
			t.Fatal(err)
		}
	},
}

func overwrite(t *testing.T, dir, name string, at int64, n int) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt(slices.Repeat([]byte{0xa7}, n), at)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// L13, L8, L3: a damaged journal is kept, and a new one takes its place in which
// every entry that can be read is what it was, or parked where it may have been
// finished since; nothing settled is open again, no id is given out again, and what
// is lost is said.
func TestL13L8QuarantineCarriesWhatCanBeRead(t *testing.T) {
	t.Parallel()
	s := newSceneIn(t, t.TempDir())
	for round := range 5 {
		for _, status := range Statuses() {
			s.entryAt(status)
		}
		if round == 2 {
			s.must(s.j.flush())
		}
	}
	before := map[ID]Entry{}
	for e, err := range s.j.Entries(Query{}) {
		s.must(err)
		before[e.ID] = e
	}
	s.close()
	chance := rand.New(rand.NewPCG(newSeed(t), 5))
	for name, wound := range wounds {
		for range 4 {
			t.Run(name, func(t *testing.T) {
				dir := copyJournal(t, s.opts.Dir, nil)
				wound(t, dir, chance)
				o := s.opts
				o.Dir = dir
				salvaged, err := Quarantine(o)
				if err != nil {
					if _, again := Open(o); again == nil {
						return // the wound hit nothing that is in use
					}
					t.Fatalf("quarantine: %v", err)
				}
				wantQuarantined(t, o, salvaged, before)
			})
		}
	}
}

func wantQuarantined(t *testing.T, o Options, salvaged *Salvaged, before map[ID]Entry) {
	t.Helper()
	if list, err := os.ReadDir(salvaged.Kept); err != nil || len(list) == 0 {
		t.Errorf("kept: %v %v", list, err)
	}
	c := newSceneIn(t, o.Dir)
	defer c.close()
	seen := map[ID]bool{}
	for e, err := range c.j.Entries(Query{}) {
		c.must(err)
		seen[e.ID] = true
		was := before[e.ID]
		switch {
		case e.STAN != was.STAN || e.Lane != was.Lane || e.Amount != was.Amount:
			t.Errorf("entry %d is another sale now", e.ID)
		case e.Status == was.Status:
		case !unsettledNow(was.Status) && e.Status != Parked: // L3: finished, and must not be undone
			t.Errorf("entry %d was %s and is %s", e.ID, was.Status, e.Status)
		case unsettledNow(was.Status) && !unsettledNow(e.Status):
			t.Errorf("entry %d was %s and is %s: dropped (L8)", e.ID, was.Status, e.Status)
		}
		if image, err := c.j.Image(e.ID); unsettledNow(e.Status) && salvaged.Journal != "" && (err != nil || len(image) == 0) {
			t.Errorf("entry %d: image: %v", e.ID, err)
		}
	}
	for id := range before {
		if !seen[id] && !slices.Contains(salvaged.Lost, id) && !salvaged.EndUnknown {
			t.Errorf("entry %d is gone, and nothing says so", id)
		}
	}
	report, err := c.j.Verify(t.Context(), nil)
	c.must(err)
	if err := report.Err(); err != nil {
		t.Errorf("verify: %v", err)
	}
	id := c.begin()
	if _, again := before[id]; again {
		t.Errorf("id %d was given out again", id)
	}
	c.must(c.j.Owe(id, "no answer", silence))
	c.reopen()
	if e := c.entry(id); e.Status != Owed {
		t.Errorf("the new journal does not work: %s", e.Status)
	}
}

// A journal that is whole is left alone, and so is what is no journal.
func TestQuarantineOfNothingDamaged(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.entryAt(Owed)
	s.close()
	facts := fileFacts(t, s.opts.Dir)
	_, err := Quarantine(s.opts)
	wantErr(t, "a whole journal", err, ErrWhole)
	if list, err := os.ReadDir(s.opts.Dir); err != nil || len(list) > 4 {
		t.Errorf("%v %v, was %s", list, err, facts)
	}
	dir := writeStore(t, []byte("dear diary"))
	_, err = Quarantine(Options{Dir: dir, DeviceKey: deviceKey})
	wantErr(t, "somebody's letter", err, ErrForeign)
	s.open()
}

// L12: what a salvage parks under a clock that says nonsense can still be printed.
func TestL12QuarantineUnderAClockGoneMad(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	id := s.begin()
	rec, err := s.j.record(id)
	s.must(err)
	salvaged := &Salvaged{ledger: map[ID]*found{id: {rec: rec, value: rec.value}}, Parked: []ID{id}}
	mad := Options{Now: func() time.Time { return time.Date(20_000, 1, 1, 0, 0, 0, 0, time.UTC) }}
	carried, err := decode(id, salvaged.carried(id, mad))
	s.must(err)
	if _, err := json.Marshal(carried.Entry); err != nil || carried.Status != Parked || !carried.ChangedAt.IsZero() || !carried.BegunAt.Equal(rec.BegunAt) {
		t.Errorf("%+v: %v", carried.Entry, err)
	}
}
