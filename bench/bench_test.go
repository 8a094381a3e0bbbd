package main

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"uncharge/journal"
)

// TestMain lets the test's own program be the worker.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == workerArg {
		os.Exit(work(os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// TestShort: a short run measures every contender and every part, judges nothing
// and leaves nothing behind.
func TestShort(t *testing.T) {
	dir := t.TempDir()
	var out, progress bytes.Buffer
	if code := run(context.Background(), []string{"-short", "-dir", dir}, &out, &progress); code != 0 {
		t.Fatalf("exit code %d: %s", code, &progress)
	}
	for _, want := range append(contenders, "reopened after kill -9, 1000 entries, 5 owed", "not judged: short run") {
		if !strings.Contains(out.String(), want) {
			t.Errorf("nothing is said of %q", want)
		}
	}
	if strings.Contains(out.String(), "MET") || strings.Contains(out.String(), "NaN") {
		t.Error("a short run was judged, or divided by nothing")
	}
	if t.Failed() {
		t.Log(out.String())
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestStopped(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	var progress bytes.Buffer
	if code := run(ctx, []string{"-rounds", "1", "-measured", "1m", "-dir", dir}, &bytes.Buffer{}, &progress); code != 1 {
		t.Errorf("exit code %d: %s", code, &progress)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestFlags(t *testing.T) {
	for _, bad := range []string{"-rounds=0", "-callers=", "-callers=1,x", "-callers=0", "-callers=8,8", "-stored=-1", "-measured=0", "-measured=2h", "rest"} {
		var complaint bytes.Buffer
		if code := run(context.Background(), []string{bad}, &bytes.Buffer{}, &complaint); code != 2 || complaint.Len() == 0 {
			t.Errorf("%s: exit code %d, %q", bad, code, &complaint)
		}
	}
	o, err := parseOptions([]string{"-short", "-rounds=3", "-stored=30,20"}, &bytes.Buffer{})
	if err != nil || o.Rounds != 3 || !slices.Equal(o.Stored, []int{20, 30}) || o.Reopens != 1 {
		t.Errorf("a flag that was given beside -short is not kept, or the sizes do not ascend: %+v, %v", o, err)
	}
}

// Every contender keeps what it was given: each step of each sale, from many
// callers at once.
func TestBooks(t *testing.T) {
	for _, contender := range contenders {
		t.Run(contender, func(t *testing.T) {
			b, err := openBook(job{Contender: contender, Dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			const sales = 200
			took, err := sell(b, 16, atMost(sales, time.Minute))
			if err != nil || len(took) != sales || !slices.IsSorted(took) {
				t.Errorf("%d sales, %v", len(took), err)
			}
			if completed, open, err := held(b); contender != bareAppend && (err != nil || completed != sales || open != 0) {
				t.Errorf("%d completed, %d open, %v", completed, open, err)
			}
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// held counts what a book holds.
func held(b book) (completed, open int, err error) {
	switch b := b.(type) {
	case journalBook:
		for e, err := range b.Entries(journal.Query{}) {
			if err != nil {
				return 0, 0, err
			}
			if e.Status == journal.Completed && e.RRN != "" {
				completed++
			} else {
				open++
			}
		}
	case *sqliteBook:
		err = errors.Join(b.db.QueryRow("SELECT count(*) FROM entries WHERE status = 2 AND image IS NULL AND rrn IS NOT NULL").Scan(&completed),
			b.db.QueryRow("SELECT count(*) FROM entries INDEXED BY open WHERE status IN (1, 5)").Scan(&open))
	case *boltBook:
		err = b.db.View(func(tx *bolt.Tx) error {
			completed, open = tx.Bucket(bucketEntries).Stats().KeyN, tx.Bucket(bucketOpen).Stats().KeyN
			return nil
		})
	}
	return completed, open, err
}

// Callers that wait while a commit runs go together in the next one, and hear its
// error; a lone caller commits at once.
func TestGroup(t *testing.T) {
	var sizes []int
	entered, release := make(chan struct{}), make(chan struct{})
	broken := errors.New("disk broke")
	g := &group{commit: func(steps []func() error) error {
		sizes = append(sizes, len(steps))
		if len(sizes) == 1 {
			close(entered)
			<-release
		}
		if len(sizes) == 2 {
			return broken
		}
		return nil
	}}
	errs := make(chan error, 10)
	caller := func() { errs <- g.do(func() error { return nil }) }
	go caller()
	<-entered
	for range 9 {
		go caller()
	}
	for waiting := 0; waiting < 9; runtime.Gosched() {
		g.mu.Lock()
		waiting = len(g.waiting)
		g.mu.Unlock()
	}
	close(release)
	failed := 0
	for range 10 {
		if err := <-errs; errors.Is(err, broken) {
			failed++
		}
	}
	if !slices.Equal(sizes, []int{1, 9}) || failed != 9 {
		t.Errorf("commits of %v steps, %d callers heard of the second one's failure", sizes, failed)
	}
	if err := g.do(func() error { return nil }); err != nil || len(sizes) != 3 {
		t.Errorf("a lone caller: %v, commits of %v steps", err, sizes)
	}
}

func TestCountSyncs(t *testing.T) {
	log := `10 fdatasync(5)                     = 0
10 fsync(-1)                        = -1 EBADF (Bad file descriptor)
10 fdatasync(5 <unfinished ...>
11 fsync(6)                         = 0
10 <... fdatasync resumed>)         = 0
10 fdatasync(5)                     = -1 EIO (Input/output error)
11 --- SIGURG {si_signo=SIGURG, si_code=SI_TKILL, si_pid=10, si_uid=0} ---
11 fsync(-1 <unfinished ...>
12 msync(0x7f, 4096, MS_SYNC)       = 0
11 <... fsync resumed>)             = -1 EBADF (Bad file descriptor)
10 +++ exited with 0 +++
`
	if n, err := countSyncs(strings.NewReader(log)); n != 2 || err != nil {
		t.Errorf("%d syncs, %v; 2 stand between the marks", n, err)
	}
	if n, err := countSyncs(strings.NewReader("10 fdatasync(5) = 0\n")); err == nil {
		t.Errorf("%d syncs in a log without marks", n)
	}
}

func TestVerdicts(t *testing.T) {
	inf := math.Inf(1)
	for _, c := range []struct {
		budget budget
		median float64
		text   string
		met    bool
	}{
		{atLeast("speed", 0.9, "%.2f"), 0.9, "≥ 0.90", true},
		{atLeast("speed", 0.9, "%.2f"), 0.899, "≥ 0.90", false}, // though it would print as 0.90
		{atLeast("speed", 0.9, "%.2f"), inf, "≥ 0.90", true},
		{noMoreThan("time", 20, "%.0f ms"), 20, "≤ 20 ms", true},
		{noMoreThan("time", 20, "%.0f ms"), 20.1, "≤ 20 ms", false},
		{budget{"syncs", 2, 2.1, "%.1f"}, 2, "2.0–2.1", true},
		{budget{"syncs", 2, 2.1, "%.1f"}, 1.99, "2.0–2.1", false}, // a sale with less than two syncs is not durable twice
		{budget{"syncs", 2, 2.1, "%.1f"}, 2.11, "2.0–2.1", false},
	} {
		v := verdict{budget: c.budget, measured: spread{median: c.median}}
		if v.budget.String() != c.text || v.met() != c.met || strings.Contains(v.String(), "NOT") == c.met {
			t.Errorf("%s, measured %v: %q, %s", c.budget.what, c.median, v.budget, v)
		}
		v.missing = "short run"
		if v.String() != "not judged: short run" {
			t.Errorf("%s: %s", c.budget.what, v)
		}
	}
}

func TestSpread(t *testing.T) {
	if s := spreadOf([]float64{5, 1, 2}); s != (spread{2, 1, 5}) {
		t.Errorf("%+v", s)
	}
	if s := spreadOf([]float64{4, 1, 2, 5}); s != (spread{3, 1, 5}) {
		t.Errorf("%+v", s)
	}
	fast := []loaded{{Sales: 20, Elapsed: time.Second}, {Sales: 10, Elapsed: time.Second}}
	slow := []loaded{{Sales: 10, Elapsed: time.Second}, {Sales: 5, Elapsed: time.Second}}
	if s := ratio(fast, slow, loaded.perSecond); s != (spread{2, 2, 2}) {
		t.Errorf("a slow round of both is not one of either: %+v", s)
	}
	if p := percentile([]time.Duration{1, 2, 3, 4}, 50); p != 2 {
		t.Error(p)
	}
	if p := percentile(nil, 99); p != 0 {
		t.Error(p)
	}
}
