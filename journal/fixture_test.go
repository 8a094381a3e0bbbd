package journal

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Journals that older versions left behind (testdata/journals, one README each).
// They are copied before they are touched, and never made again.

const fixturesDir = "../testdata/journals"

var fixturesOfFormat1 = []string{"v1", "v1-killed"}

var fixtures = append(fixturesOfFormat1[:2:2], "v2")

// expectation is a fixture's expected.json.
type expectation struct {
	Entries             []json.RawMessage `json:"entries"`
	Armed, Owed, Parked []ID
	Images              map[ID]string `json:"images"` // hex
	Lanes               []struct {
		Lane
		Last uint32 `json:"last"`
		Next uint32 `json:"next"`
	} `json:"lanes"`
	Journal string `json:"journal"`
}

func expectationOf(t *testing.T, name string) (want expectation) {
	t.Helper()
	if err := json.Unmarshal(fileBytes(t, filepath.Join(fixturesDir, name, "expected.json")), &want); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if len(want.Entries) == 0 || len(want.Images) == 0 || len(want.Lanes) == 0 {
		t.Fatalf("%s: expected.json lacks something", name)
	}
	return want
}

// ids are those of the expected entries, oldest first.
func (want expectation) ids(t *testing.T) (ids []ID) {
	t.Helper()
	for _, e := range want.Entries {
		var one struct{ ID ID }
		if err := json.Unmarshal(e, &one); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, one.ID)
	}
	return ids
}

// fixture copies a journal of an older version into a directory of its own.
func fixture(t *testing.T, name string) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "journal")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range fixtureFiles(t, name) {
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), fileBytes(t, path), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func fixtureFiles(t *testing.T, name string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(fixturesDir, name, "journal.*"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s: %v %v", name, paths, err)
	}
	return paths
}

func openFixture(t *testing.T, dir string, deviceKey Secret) *Journal {
	t.Helper()
	j, err := Open(Options{Dir: dir, DeviceKey: deviceKey, FirstSTAN: 500, LockWait: 2 * time.Second})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

// The file that is tested with is the one that the old code wrote.
func TestFixturesAreAsTheyWereMade(t *testing.T) {
	t.Parallel()
	for _, name := range fixtures {
		for _, path := range fixtureFiles(t, name) {
			sum := fmt.Sprintf("%x", sha256.Sum256(fileBytes(t, path)))
			if !strings.Contains(string(fileBytes(t, filepath.Join(fixturesDir, name, "README.md"))), sum) {
				t.Errorf("%s has the sum %s, which its README does not name", path, sum)
			}
		}
	}
}

// Format 1 by bbolt alone: what expected.json says of the lanes and the journal's
// identity is what is on disk.
func TestFixturesHoldWhatExpectedJSONSays(t *testing.T) {
	t.Parallel()
	for _, name := range fixturesOfFormat1 {
		want := expectationOf(t, name)
		db, err := bolt.Open(filepath.Join(fixture(t, name), "journal.db"), 0o600, &bolt.Options{ReadOnly: true, Timeout: time.Second})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		err = db.View(func(tx *bolt.Tx) error {
			meta, lanes := tx.Bucket([]byte("meta")), tx.Bucket([]byte("lanes"))
			if id, mark := hex.EncodeToString(meta.Get([]byte("id"))), string(meta.Get([]byte("format"))); id != want.Journal || mark != "uncharge journal \x01" {
				t.Errorf("%s: journal %s, format %q", name, id, mark)
			}
			for _, l := range want.Lanes {
				v := lanes.Get(append([]byte{byte(len(l.Terminal))}, l.Terminal+l.Merchant...))
				if len(v) != 8 || binary.BigEndian.Uint32(v) != l.Last {
					t.Errorf("%s: lane %s: %x, want %d", name, l.Lane, v, l.Last)
				}
			}
			if n := lanes.Stats().KeyN; n != len(want.Lanes) {
				t.Errorf("%s: %d lanes, want %d", name, n, len(want.Lanes))
			}
			if n := tx.Bucket([]byte("entries")).Stats().KeyN; n != len(want.Entries) {
				t.Errorf("%s: %d entries, want %d", name, n, len(want.Entries))
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		_ = db.Close()
	}
}

// L8: an upgrade drops nothing that is owed, nor anything else. L15: looking at a
// journal of an older format disturbs nothing.
func TestL8L15JournalsOfOlderVersions(t *testing.T) {
	t.Parallel()
	for _, name := range fixtures {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want, dir := expectationOf(t, name), fixture(t, name)
			before := fileFacts(t, dir)
			inspectFixture(t, "first look", dir, want)
			if after := fileFacts(t, dir); after != before {
				t.Errorf("looking changed the directory:\n%s\nbefore:\n%s", after, before)
			}
			for _, round := range []string{"opened", "opened again"} {
				j := openFixture(t, dir, deviceKey)
				wantEntries(t, round, j, want)
				wantImages(t, round, j, want)
				wantTraces(t, round, j, want)
				if err := j.Close(); err != nil {
					t.Errorf("%s: close: %v", round, err)
				}
				inspectFixture(t, round+", closed", dir, want)
			}
			checkJournal(t, dir)
		})
	}
}

// A device that lost its key, or was given another, can still read and take over
// what an older version left; the images wait for the right key.
func TestL11JournalsOfOlderVersionsWithoutTheKey(t *testing.T) {
	t.Parallel()
	for _, name := range fixtures {
		for what, k := range map[string]Secret{"no key": nil, "another key": otherKey} {
			want, dir := expectationOf(t, name), fixture(t, name)
			j := openFixture(t, dir, k)
			wantEntries(t, what, j, want)
			for id := range want.Images {
				image, err := j.Image(id)
				wantErr(t, fmt.Sprintf("%s, %s: image of entry %d", name, what, id), err, ErrKey)
				if image != nil {
					t.Errorf("%s, %s: the image of entry %d opened", name, what, id)
				}
			}
			if err := j.Close(); err != nil {
				t.Error(err)
			}
			j = openFixture(t, dir, deviceKey)
			wantEntries(t, what+", then the right one", j, want)
			wantImages(t, what+", then the right one", j, want)
		}
	}
}

// What an older version left is gone on with: ids continue, what is owed is
// settled, a new sale begins.
func TestL8JournalsOfOlderVersionsGoOn(t *testing.T) {
	t.Parallel()
	for _, name := range fixtures {
		want, dir := expectationOf(t, name), fixture(t, name)
		j := openFixture(t, dir, deviceKey)
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		ids := want.ids(t)
		id, err := j.Begin(plainDraft())
		must(err)
		if last := ids[len(ids)-1]; id <= last {
			t.Errorf("%s: the new entry has id %d, the last one had %d", name, id, last)
		}
		for _, armed := range want.Armed {
			must(j.Owe(armed, "restart", silence))
		}
		for _, owed := range slices.Concat(want.Armed, want.Owed) {
			_, err := j.Attempt(owed)
			must(err)
			must(j.Confirm(owed, "00"))
		}
		for _, parked := range want.Parked {
			must(j.ConfirmNotFound(parked, "25"))
		}
		must(j.Complete(id, approved))
		must(j.Close())
		j = openFixture(t, dir, deviceKey)
		for _, id := range slices.Concat(want.Armed, want.Owed, want.Parked) {
			if e, err := j.Entry(id); err != nil || e.Status != Reversed {
				t.Errorf("%s: entry %d is %s, %v", name, id, e.Status, err)
			}
		}
		checkLists(t, name, j, expectation{})
		must(j.Close())
		checkJournal(t, dir)
	}
}

func inspectFixture(t *testing.T, what, dir string, want expectation) {
	t.Helper()
	snap, err := Inspect(dir, time.Second)
	if err != nil {
		t.Fatalf("%s: inspect: %v", what, err)
	}
	defer func() { _ = snap.Close() }()
	if err := snap.Damage(); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	wantEntries(t, what, snap, want)
}

// looker is what both Journal and Snapshot offer.
type looker interface {
	lists
	Entries(Query) iter.Seq2[Entry, error]
}

func wantEntries(t *testing.T, what string, from looker, want expectation) {
	t.Helper()
	n := 0
	for e, err := range from.Entries(Query{}) {
		if err != nil || n >= len(want.Entries) {
			t.Fatalf("%s: entry %d: %v; want %d entries", what, e.ID, err, len(want.Entries))
		}
		if at := differs(decoded(t, []byte(asJSON(e))), decoded(t, want.Entries[n])); at != "" {
			t.Errorf("%s: entry %d differs in %s:\n got %s\nwant %s", what, e.ID, at, asJSON(e), want.Entries[n])
		}
		one, err := from.Entry(e.ID)
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		same(t, what, one, e)
		n++
	}
	if n != len(want.Entries) {
		t.Errorf("%s: %d entries, want %d", what, n, len(want.Entries))
	}
	checkLists(t, what, from, want)
}

func checkLists(t *testing.T, what string, from lists, want expectation) {
	t.Helper()
	for _, list := range []struct {
		name string
		of   func() ([]Entry, error)
		want []ID
	}{{"armed", from.Armed, want.Armed}, {"owed", from.Owed, want.Owed}, {"parked", from.Parked, want.Parked}} {
		entries, err := list.of()
		if err != nil {
			t.Errorf("%s: %s: %v", what, list.name, err)
		}
		var got []ID
		for _, e := range entries {
			got = append(got, e.ID)
		}
		if !slices.Equal(got, list.want) {
			t.Errorf("%s: %s: %v, want %v", what, list.name, got, list.want)
		}
	}
}

func wantImages(t *testing.T, what string, j *Journal, want expectation) {
	t.Helper()
	for _, id := range want.ids(t) {
		image, err := j.Image(id)
		hexed, kept := want.Images[id]
		if !kept {
			wantErr(t, fmt.Sprintf("%s: image of entry %d", what, id), err, ErrNoImage)
		} else if err != nil || hex.EncodeToString(image) != hexed {
			t.Errorf("%s: image of entry %d: %x %v, want %s", what, id, image, err, hexed)
		}
	}
}

func wantTraces(t *testing.T, what string, j *Journal, want expectation) {
	t.Helper()
	for _, l := range want.Lanes {
		if got, err := j.NextSTAN(l.Lane); err != nil || got != l.Next {
			t.Errorf("%s: the next trace number of lane %s is %d %v, want %d", what, l.Lane, got, err, l.Next)
		}
	}
}

func decoded(t *testing.T, b []byte) (v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// differs says where got lacks what is wanted, "" where it has all of it. Fields
// that are not wanted may be there: entries grow.
func differs(got, want any) string {
	switch want := want.(type) {
	case map[string]any:
		object, _ := got.(map[string]any)
		for field, v := range want {
			if at := differs(object[field], v); at != "" {
				return strings.TrimSuffix(field+"."+at, ".this")
			}
		}
		return ""
	case []any:
		list, _ := got.([]any)
		if len(list) != len(want) {
			return "length"
		}
		for i, v := range want {
			if at := differs(list[i], v); at != "" {
				return strings.TrimSuffix(fmt.Sprintf("%d.%s", i, at), ".this")
			}
		}
		return ""
	}
	if !reflect.DeepEqual(got, want) {
		return "this"
	}
	return ""
}

// The chain of a journal of format 2 is followed from its anchor to the head that was
// exported, and no further.
func TestFixtureOfFormat2FollowsItsChain(t *testing.T) {
	t.Parallel()
	var want struct{ Head string }
	if err := json.Unmarshal(fileBytes(t, filepath.Join(fixturesDir, "v2", "expected.json")), &want); err != nil {
		t.Fatal(err)
	}
	head, err := ParseHead(want.Head)
	if err != nil {
		t.Fatal(err)
	}
	j := openFixture(t, fixture(t, "v2"), deviceKey)
	report, err := j.Verify(t.Context(), &head)
	if err := errors.Join(err, report.Err()); err != nil || !report.Keyed || report.Head != head || report.Anchor != 40 || report.Entries != 17 {
		t.Errorf("%+v: %v", report, err)
	}
	for query, want := range map[*Query][]ID{{RRN: "602001000020"}: {17}, {STAN: 2}: nil, {STAN: 5}: {5}, {AmountMinor: 500}: {25}} {
		if got := collect(t, j, *query); !slices.Equal(got, want) {
			t.Errorf("%+v: got %v, want %v", *query, got, want)
		}
	}
}

// The comparison itself must be able to fail.
func TestFixtureComparisonSeesDifferences(t *testing.T) {
	t.Parallel()
	want := decoded(t, []byte(`{"a":1,"s":[{"n":"x","m":[]},{"n":"y"}]}`))
	for got, at := range map[string]string{
		`{"a":1,"s":[{"n":"x","m":[]},{"n":"y"}]}`:               "",
		`{"a":1,"b":2,"s":[{"n":"x","z":0,"m":[]},{"n":"y"}]}`:   "",
		`{"a":2,"s":[{"n":"x","m":[]},{"n":"y"}]}`:               "a",
		`{"s":[{"n":"x","m":[]},{"n":"y"}]}`:                     "a",
		`{"a":1,"s":[{"n":"x","m":[]},{"n":"z"}]}`:               "s.1.n",
		`{"a":1,"s":[{"n":"x","m":[]},{"n":"y"},{"n":"extra"}]}`: "s.length",
		`{"a":1,"s":[{"n":"x","m":[1]},{"n":"y"}]}`:              "s.0.m.length",
		`{"a":1}`: "s.length",
	} {
		if found := differs(decoded(t, []byte(got)), want); found != at {
			t.Errorf("%s differs in %q, want %q", got, found, at)
		}
	}
}
