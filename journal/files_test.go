package journal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// refusesBoth opens and inspects what is in a directory, twice each: the error
// must be the same kind each time, and the files that were there untouched.
func refusesBoth(t *testing.T, dir string, want error) {
	t.Helper()
	before := map[string]string{}
	for _, name := range []string{storeName, newName} {
		before[name] = facts1(t, dir, name)
	}
	for range 2 {
		start := time.Now()
		j, err := Open(Options{Dir: dir, DeviceKey: deviceKey, FirstSTAN: 1, LockWait: shortWait})
		wantErr(t, "Open", err, want)
		if err == nil {
			_ = j.Close()
		}
		snap, err := Inspect(dir, shortWait)
		wantErr(t, "Inspect", err, want)
		if err == nil {
			_ = snap.Close()
		}
		if waited := time.Since(start); waited > 5*time.Second {
			t.Errorf("it took %v to say so", waited)
		}
	}
	for name, facts := range before {
		if now := facts1(t, dir, name); now != facts {
			t.Errorf("%s was touched:\n was %s\n now %s", name, facts, now)
		}
	}
}

func facts1(t *testing.T, dir, name string) string {
	t.Helper()
	for line := range strings.Lines(fileFacts(t, dir)) {
		if strings.HasPrefix(line, name+" ") {
			return line
		}
	}
	return "absent"
}

func writeStore(t *testing.T, content []byte) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, storeName), content, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// copyJournal copies a journal's files, its store changed on the way.
func copyJournal(t testing.TB, from string, change func(store []byte) []byte) (dir string) {
	t.Helper()
	dir = t.TempDir()
	paths, err := filepath.Glob(filepath.Join(from, "journal.*"))
	if err != nil || len(paths) < 2 {
		t.Fatalf("%v: %v", paths, err)
	}
	for _, path := range paths {
		b := fileBytes(t, path)
		if filepath.Base(path) == storeName && change != nil {
			b = change(b)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// L13: what is not ours, or is newer, or is damaged, is refused by name and left.
func TestL13AnEmptyStoreIsDamaged(t *testing.T) {
	t.Parallel()
	refusesBoth(t, writeStore(t, nil), ErrDamaged)
}

func TestL13AForeignFile(t *testing.T) {
	t.Parallel()
	for name, content := range map[string][]byte{
		"text":      []byte("dear diary\n"),
		"long text": bytes.Repeat([]byte("dear diary\n"), 10_000),
		"one byte":  {0},
		"zeros":     make([]byte, 40_000),
		"sqlite":    append([]byte("SQLite format 3\x00"), make([]byte, 8000)...),
	} {
		t.Run(name, func(t *testing.T) { refusesBoth(t, writeStore(t, content), ErrForeign) })
	}
}

// otherStore makes a bbolt file the way another program would.
func otherStore(t *testing.T, o *bolt.Options, fill func(*bolt.Tx) error) (dir string) {
	t.Helper()
	dir = t.TempDir()
	db, err := bolt.Open(filepath.Join(dir, storeName), 0o600, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(fill); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func putIn(bucket, key, value string) func(*bolt.Tx) error {
	return func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte(bucket))
		if err != nil {
			return err
		}
		return b.Put([]byte(key), []byte(value))
	}
}

// Stores of other programs, some with names like ours.
var otherStores = map[string]func(*bolt.Tx) error{
	"no bucket of ours": putIn("recipes", "soup", "onions"),
	"our bucket names":  putIn("meta", "version", "7"),
	"another mark":      putIn("meta", "format", "uncharged journal \x01"),
	"a longer mark":     putIn("meta", "format", "uncharge journal \x01\x01"),
	"nothing in it":     func(*bolt.Tx) error { return nil },
}

func TestL13AStoreOfAnotherProgram(t *testing.T) {
	t.Parallel()
	for name, fill := range otherStores {
		t.Run(name, func(t *testing.T) { refusesBoth(t, otherStore(t, nil, fill), ErrForeign) })
		t.Run(name+", small pages", func(t *testing.T) {
			refusesBoth(t, otherStore(t, &bolt.Options{PageSize: 1024}, fill), ErrForeign)
		})
	}
}

// etcd and others keep no free list on disk: bbolt writes one when it opens such
// a file for writing, before anybody has looked whose file it is.
func TestL13AStoreWithoutAFreeListOfAnotherProgram(t *testing.T) {
	t.Parallel()
	for name, fill := range otherStores {
		t.Run(name, func(t *testing.T) {
			refusesBoth(t, otherStore(t, &bolt.Options{NoFreelistSync: true}, fill), ErrForeign)
		})
	}
}

func TestL13ANewerFormat(t *testing.T) {
	t.Parallel()
	s := newSceneIn(t, t.TempDir())
	s.begin()
	s.must(s.j.store.db.Update(putIn("meta", "format", "uncharge journal \x03")))
	s.close()
	refusesBoth(t, s.opts.Dir, ErrNewer)
}

func TestL13AMissingBucket(t *testing.T) {
	t.Parallel()
	for _, bucket := range [][]byte{bucketEntries, bucketOpen, bucketParked, bucketLanes} {
		s := newSceneIn(t, t.TempDir())
		s.begin()
		s.must(s.j.store.db.Update(func(tx *bolt.Tx) error { return tx.DeleteBucket(bucket) }))
		s.close()
		refusesBoth(t, s.opts.Dir, ErrDamaged)
	}
}

// A leftover of a creation that was cut holds nothing and hurts nothing.
func TestL13ALeftoverOfACutCreation(t *testing.T) {
	t.Parallel()
	whole := newSceneIn(t, t.TempDir())
	whole.close()
	real := fileBytes(t, whole.path(storeName))
	for name, left := range map[string][]byte{
		"empty": {}, "garbage": []byte("garbage"), "zeros": make([]byte, 16384), "half a store": real[:len(real)/2], "one page": real[:4096], "whole": real,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, newName), left, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Inspect(dir, shortWait)
			wantErr(t, "Inspect", err, ErrNone)
			s := newSceneIn(t, dir)
			id := s.begin()
			s.reopen()
			if e := s.entry(id); e.Status != Begun || id != 1 {
				t.Errorf("%+v", e)
			}
			s.close()
			checkJournal(t, dir)
		})
	}
}

// A leftover beside a journal does not touch the journal.
func TestL13ALeftoverBesideAJournal(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	id := s.begin()
	s.must(os.WriteFile(s.path(newName), []byte("garbage"), 0o600))
	s.reopen()
	if e := s.entry(id); e.Status != Begun {
		t.Errorf("%+v", e)
	}
}

func TestOpenMakesTheDirectory(t *testing.T) {
	t.Parallel()
	s := newSceneIn(t, filepath.Join(t.TempDir(), "a", "b", "c"))
	s.close()
	for dir := s.opts.Dir; filepath.Base(dir) != "001"; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v %v", dir, info.Mode(), err)
		}
	}
	for _, name := range []string{storeName, lockName} {
		info, err := os.Stat(s.path(name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
}

func TestOpenWhereNoDirectoryCanBe(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("dear diary"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "a file", second(Open(Options{Dir: file})), ErrForeign)
	wantErr(t, "Inspect a file", second(Inspect(file, shortWait)), ErrForeign)
	for _, dir := range []string{filepath.Join(file, "below"), ""} {
		if j, err := Open(Options{Dir: dir}); err == nil {
			_ = j.Close()
			t.Errorf("%q opened", dir)
		}
	}
	if string(fileBytes(t, file)) != "dear diary" {
		t.Error("the file was touched")
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, storeName), 0o700); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "a directory as store", second(Open(Options{Dir: dir})), ErrForeign)
}

// nobodyOpens opens a directory as a user who may not write there. The error
// must say permission, and not that the journal is damaged or foreign: a
// technician would throw a good journal away.
func nobodyOpens(t *testing.T, dir string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: needs root, to make files of another user")
	}
	for d := dir; len(d) > len(os.TempDir()); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c := startChild(t, "nobody", dir, 0)
	said := c.rest()
	if len(said) != 1 || !strings.HasPrefix(said[0], "refused damaged=false foreign=false permission=true") {
		t.Errorf("as another user: %q %s", said, c.errs.String())
	}
}

func TestL13ADirectoryThatMayNotBeWritten(t *testing.T) {
	t.Parallel()
	nobodyOpens(t, t.TempDir())
}

func TestL13AJournalThatMayNotBeWritten(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.begin()
	s.close()
	for name, mode := range map[string]os.FileMode{lockName: 0o666, storeName: 0o444} {
		if err := os.Chmod(s.path(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	nobodyOpens(t, s.opts.Dir)
	s.open()
}

// L13: a store cut at any length is an error, or holds every entry as it was:
// never a panic, never fewer entries unsaid, never an empty one made over it.
func TestL13ATruncatedStore(t *testing.T) {
	t.Parallel()
	s := newSceneIn(t, t.TempDir())
	var want []string
	for i := range 40 {
		want = append(want, asJSON(s.entry(s.entryAt(Statuses()[i%8]))))
	}
	s.must(s.j.flush())
	s.close()
	whole := fileBytes(t, s.path(storeName))
	look, err := openPages(bytes.NewReader(whole), int64(len(whole)))
	s.must(err)
	whole = whole[:look.meta.high*4096] // behind that is the reserve
	chance := rand.New(rand.NewPCG(newSeed(t), 4))
	lengths := []int{1, 15, 19, 20, 80, 4095, 4096, 4097, 8191, 8192, 8193}
	for page := 8192; page < len(whole); page += 4096 {
		lengths = append(lengths, page, page+1+chance.IntN(4095))
	}
	for _, n := range lengths {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			for what, look := range map[string]func(*testing.T, string, []string){"Open": openTruncated, "Inspect": inspectTruncated} {
				dir := copyJournal(t, s.opts.Dir, func(b []byte) []byte { return b[:n] })
				if !within(t, 5*time.Second, what, func() { look(t, dir, want) }) {
					return
				}
				if !bytes.Equal(fileBytes(t, filepath.Join(dir, storeName)), whole[:n]) {
					t.Errorf("%s changed the file", what)
				}
			}
		})
	}
}

func openTruncated(t *testing.T, dir string, want []string) {
	j, err := Open(Options{Dir: dir, DeviceKey: deviceKey, FirstSTAN: 1, LockWait: shortWait})
	if err == nil {
		wantAllOrError(t, "Open", j.Entries(Query{}), want)
		err = j.Close()
	}
	wantNotBusy(t, err)
}

func inspectTruncated(t *testing.T, dir string, want []string) {
	snap, err := Inspect(dir, shortWait)
	if err == nil {
		wantAllOrError(t, "Inspect", snap.Entries(Query{}), want)
		err = snap.Close()
	}
	wantNotBusy(t, err)
}

func wantNotBusy(t *testing.T, err error) {
	t.Helper()
	if errors.Is(err, ErrBusy) {
		t.Errorf("nobody has it open, yet: %v", err)
	}
}

// A damaged store that was refused is let go of: the next look says damaged
// again, and not that somebody has it open.
func TestL13ADamagedStoreIsLetGo(t *testing.T) {
	t.Parallel()
	s := newSceneIn(t, t.TempDir())
	for range 40 {
		s.begin()
	}
	s.must(s.j.flush())
	s.close()
	for _, n := range []int{4096, 8192, 12288, 16384} {
		dir := copyJournal(t, s.opts.Dir, func(b []byte) []byte { return b[:n] })
		for range 2 {
			openTruncated(t, dir, nil)
			inspectTruncated(t, dir, nil)
		}
	}
}

func wantAllOrError(t *testing.T, what string, all func(func(Entry, error) bool), want []string) {
	t.Helper()
	n, bad := 0, error(nil)
	for e, err := range all {
		if err != nil {
			bad = err
			continue
		}
		if want == nil {
			continue
		}
		if e.ID < 1 || int(e.ID) > len(want) || asJSON(e) != want[e.ID-1] {
			t.Errorf("%s: wrong facts: %s", what, asJSON(e))
		}
		n++
	}
	if want != nil && n != len(want) && bad == nil {
		t.Errorf("%s: %d entries of %d, and no error", what, n, len(want))
	}
}
