package journal

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// L13, every byte: each byte of a small journal is changed, and each of its files is
// cut at each length, in a process of its own. Whoever looks or opens it then hears of
// damage, or gets the right answer: never a wrong one, never a crash, never a hang.

// bytesVar says how many of the harms are tried: "all", or every so many-th; the
// default is one of a few thousand.
const bytesVar = "UNCHARGE_BYTES"

const bytesEvery = 149

// harm is one change of one file.
type harm struct {
	file string
	at   int
	cut  bool
}

func (h harm) String() string {
	if h.cut {
		return fmt.Sprintf("%s cut at %d", h.file, h.at)
	}
	return fmt.Sprintf("%s, byte %d", h.file, h.at)
}

func (h harm) done(b []byte) []byte {
	if h.cut {
		return b[:h.at]
	}
	b = slices.Clone(b)
	b[h.at] ^= 1 << (h.at % 8)
	return b
}

// smallJournal is one with entries in every status, in the store and in front of it, and
// some that were pruned. It gives what is right: all of it, or all but the last step,
// which cannot be told from one that a power cut tore.
func smallJournal(t *testing.T) (files map[string][]byte, right [2]map[ID]string) {
	t.Helper()
	s := newSceneIn(t, filepath.Join(t.TempDir(), "journal"))
	s.tight()
	for range 2 {
		s.entryAt(Declined)
		s.must(s.j.flush())
	}
	s.must(second(s.j.Prune()))
	s.j.maxBytes = MaxBytesDefault
	for _, status := range Statuses() {
		s.entryAt(status)
	}
	s.must(s.j.flush())
	for _, status := range []Status{Begun, Completed, Owed, Parked} {
		s.entryAt(status)
	}
	right[0] = texts(t, s.j)
	s.entryAt(Begun)
	right[1] = texts(t, s.j)
	used, err := s.j.store.space()
	s.must(err)
	s.close()
	files = map[string][]byte{}
	for _, path := range []string{storeName, walName(1)} {
		if files[path], err = os.ReadFile(s.path(path)); err != nil {
			t.Fatal(err)
		}
	}
	files[storeName] = files[storeName][:used.tree] // the rest is set aside, and empty
	return files, right
}

// texts are the entries letter by letter.
func texts(t teller, j everything) map[ID]string {
	t.Helper()
	all := map[ID]string{}
	for e, err := range j.Entries(Query{}) {
		if err != nil {
			t.Fatalf("entries: %v", err)
		}
		all[e.ID] = asJSON(e)
	}
	return all
}

func TestL13EachByteOfTheDirectory(t *testing.T) {
	files, right := smallJournal(t)
	if len(right[1]) != len(right[0])+1 || len(right[0]) != 12 {
		t.Fatalf("scene: %d and %d entries", len(right[0]), len(right[1]))
	}
	dir := t.TempDir()
	if memory, err := os.MkdirTemp("/dev/shm", "uncharge"); err == nil { // no disk is asked to sync it
		dir = memory
		t.Cleanup(func() { _ = os.RemoveAll(memory) })
	}
	template := filepath.Join(dir, "template")
	if err := os.Mkdir(template, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(template, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	every := bytesEvery
	if n, err := strconv.Atoi(os.Getenv(bytesVar)); err == nil {
		every = n
	} else if os.Getenv(bytesVar) == "all" {
		every = 1
	}
	seed := newSeed(t)
	t.Setenv(bytesVar, strconv.Itoa(every))
	var all sync.WaitGroup
	start, total := time.Now(), 0
	var mu sync.Mutex
	for n := range uint64(2) {
		c := startChild(t, "bytes", template, seed<<1|n)
		all.Go(func() {
			tried, last := 0, ""
			for line := c.line(); line != ""; line = c.line() {
				var count int
				if _, err := fmt.Sscanf(line, "tried %d", &count); err == nil {
					tried = count
				} else if at, bad := strings.CutPrefix(line, "bad "); bad {
					t.Error(at)
				} else {
					last = line
				}
			}
			if tried == 0 {
				t.Errorf("the process ended at: %s\n%s", last, c.errs.String())
			}
			mu.Lock()
			defer mu.Unlock()
			total += tried
		})
	}
	all.Wait()
	t.Logf("%d harms, every %d of them, %s", total, every, time.Since(start).Round(time.Millisecond))
}

// roleBytes does every so many-th harm to a copy of the journal in a directory, and
// says what is wrong with what is then read.
func roleBytes(o Options, seed uint64) error {
	template := o.Dir
	work := fmt.Sprint(template, seed&1)
	files, right, err := readTemplate(template)
	if err != nil {
		return err
	}
	every, err := strconv.Atoi(os.Getenv(bytesVar))
	if err != nil {
		return err
	}
	var harms []harm
	for _, name := range slices.Sorted(maps.Keys(files)) {
		for at := range files[name] {
			harms = append(harms, harm{name, at, false}, harm{name, at, true})
		}
	}
	chance := rand.New(rand.NewPCG(seed>>1, 40))
	tried := 0
	for i := chance.IntN(every); i < len(harms); i += every {
		if tried++; uint64(tried)&1 != seed&1 { // the other process does it
			continue
		}
		h := harms[i]
		say("at %s", h)
		limit := time.AfterFunc(judgeLimit, func() {
			say("bad %s: no answer within %s", h, judgeLimit)
			os.Exit(1)
		})
		if err := tryHarm(o, work, files, right, h); err != nil {
			say("bad %s: %s", h, firstLine(err))
		}
		limit.Stop()
	}
	say("tried %d", tried/2)
	return nil
}

func readTemplate(dir string) (files map[string][]byte, right [2]map[ID]string, err error) {
	files = map[string][]byte{}
	for _, name := range []string{storeName, walName(1)} {
		if files[name], err = os.ReadFile(filepath.Join(dir, name)); err != nil {
			return nil, right, err
		}
	}
	snap, err := Inspect(dir, time.Second)
	if err != nil {
		return nil, right, err
	}
	right[1] = map[ID]string{}
	var last Entry
	for e, err := range snap.Entries(Query{}) {
		if err != nil {
			return nil, right, err
		}
		right[1][e.ID], last = asJSON(e), e
	}
	right[0] = maps.Clone(right[1])
	delete(right[0], last.ID) // it has one step, the newest
	return files, right, snap.Close()
}

// tryHarm looks at a harmed copy, opens it, and reads all that there is.
func tryHarm(o Options, work string, files map[string][]byte, right [2]map[ID]string, h harm) error {
	if err := errors.Join(os.RemoveAll(work), os.Mkdir(work, 0o700)); err != nil {
		return err
	}
	for name, b := range files {
		if name == h.file {
			b = h.done(b)
		}
		if err := os.WriteFile(filepath.Join(work, name), b, 0o600); err != nil {
			return err
		}
	}
	snap, err := Inspect(work, 0)
	if err != nil && !told(err) {
		return fmt.Errorf("looked at: %w", err)
	}
	if err == nil {
		if err := errors.Join(rightOrTold(snap, right, snap.Damage() != nil), snap.Close()); err != nil {
			return fmt.Errorf("looked at: %w", err)
		}
	}
	o.Dir = work
	j, err := Open(o)
	if err != nil {
		if !told(err) {
			return fmt.Errorf("opened: %w", err)
		}
		return nil
	}
	if err := errors.Join(rightOrTold(j, right, false), j.Close()); err != nil {
		return fmt.Errorf("opened: %w", err)
	}
	return nil
}

// told reports whether an error says what is wrong.
func told(err error) bool {
	return errors.Is(err, ErrDamaged) || errors.Is(err, ErrNewer) || errors.Is(err, ErrForeign) || errors.Is(err, ErrPartial)
}

// rightOrTold reads all there is. What comes without an error must be right; what is
// missing must have been told.
func rightOrTold(j everything, right [2]map[ID]string, damaged bool) error {
	all, anyTold := map[ID]string{}, damaged
	for e, err := range j.Entries(Query{}) {
		if err == nil {
			all[e.ID] = asJSON(e)
		} else if anyTold = true; !told(err) {
			return err
		}
	}
	if !anyTold && !maps.Equal(all, right[0]) && !maps.Equal(all, right[1]) {
		return fmt.Errorf("nothing was told, and there are %d entries of %d, or others", len(all), len(right[1]))
	}
	for id, text := range all {
		if want, known := right[1][id]; !known || text != want && !damaged {
			return fmt.Errorf("entry %d is shown as %.300s", id, text)
		}
	}
	for _, list := range []struct {
		status Status
		read   func() ([]Entry, error)
	}{{Begun, j.Armed}, {Owed, j.Owed}, {Parked, j.Parked}} {
		entries, err := list.read()
		if err != nil && !told(err) {
			return err
		}
		var got, want []string
		for _, e := range entries {
			got = append(got, asJSON(e))
		}
		for _, e := range slices.Sorted(maps.Keys(all)) {
			if parsed, err := parseEntry(all[e]); err == nil && parsed.Status == list.status {
				want = append(want, all[e])
			}
		}
		if err == nil && !anyTold && !slices.Equal(got, want) {
			return fmt.Errorf("%d are %s, and %d are listed", len(want), list.status, len(got))
		}
	}
	for _, q := range []Query{{RRN: approved.RRN}, {AmountMinor: price.Minor}} {
		for e, err := range j.Entries(q) {
			if err == nil && all[e.ID] == "" && !anyTold || err != nil && !told(err) {
				return fmt.Errorf("a query has entry %d: %w", e.ID, err)
			}
		}
	}
	if v, ok := j.(interface {
		Verify(context.Context, *Head) (*Report, error)
	}); ok {
		if _, err := v.Verify(context.Background(), nil); err != nil && !told(err) {
			return fmt.Errorf("verify: %w", err)
		}
	}
	return nil
}
