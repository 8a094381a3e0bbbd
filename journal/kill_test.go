package journal

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A process is killed (kill -9) at a random moment while it takes steps; what it
// had acknowledged must be there, and at most the one step in flight besides.
func TestL1L3L6KilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	chance := rand.New(rand.NewPCG(newSeed(t), 1))
	dir := filepath.Join(t.TempDir(), "journal")
	m, acknowledged := newModel(), 0
	for round := range 20 {
		c := startChild(t, "steps", dir, chance.Uint64())
		c.wantLine("opening")
		c.wantLine("opened")
		lines := []string{}
		for range chance.IntN(60) {
			lines = append(lines, c.line())
		}
		kill := time.AfterFunc(time.Duration(chance.IntN(5000))*time.Microsecond, func() { _ = c.cmd.Process.Kill() })
		lines = append(lines, c.rest()...)
		kill.Stop()
		done, inFlight := acked(t, lines)
		acknowledged += done

		for i := range done {
			m.did(t, lines[2*i+1])
		}
		m.settle(t, dir, inFlight)
		if t.Failed() {
			t.Fatalf("round %d: last lines %q", round, lines[max(0, len(lines)-4):])
		}
		checkJournal(t, dir)
	}
	if acknowledged < 100 {
		t.Errorf("only %d steps were acknowledged in all rounds: this proves little", acknowledged)
	}
}

// acked counts the acknowledged steps, and gives the one in flight ("" if none).
func acked(t *testing.T, lines []string) (done int, inFlight string) {
	t.Helper()
	for i, l := range lines {
		if verb := []string{"try ", "did "}[i%2]; !strings.HasPrefix(l, verb) {
			t.Fatalf("line %d of the child: %q, want %q", i, l, verb)
		}
	}
	if len(lines)%2 == 1 {
		inFlight = lines[len(lines)-1]
	}
	return len(lines) / 2, inFlight
}

// did takes an acknowledged line over into the model.
func (m *model) did(t *testing.T, line string) {
	t.Helper()
	var verb string
	var kind StepKind
	var id ID
	if _, err := fmt.Sscan(line, &verb, &kind, &id); err != nil {
		t.Fatalf("line %q: %v", line, err)
	}
	if kind == StepBegin {
		if verb == "did" && id != ID(len(m.entries)+1) {
			t.Fatalf("%q, but the model has %d entries", line, len(m.entries))
		}
		m.begin(lane1, 7)
		return
	}
	m.entries[id-1].apply(kind)
}

// settle opens the journal and compares it with the model; the step in flight
// may have happened whole, or not at all.
func (m *model) settle(t *testing.T, dir, inFlight string) {
	t.Helper()
	s := newSceneIn(t, dir)
	defer s.close()
	if inFlight != "" && happened(t, s.j, m, inFlight) {
		m.did(t, inFlight)
	}
	m.agree(t, s.j)
	if got := collect(t, s.j, Query{}); len(got) != len(m.entries) {
		t.Errorf("%d entries, want %d", len(got), len(m.entries))
	}
	for i, e := range m.entries { // the image of what may need a reversal is there
		if e.status == Begun || e.status == Owed || e.status == Parked {
			if image, err := s.j.Image(ID(i + 1)); string(image) != "an image" {
				t.Errorf("image of entry %d: %q %v", i+1, image, err)
			}
		}
	}
}

func happened(t *testing.T, j *Journal, m *model, line string) bool {
	t.Helper()
	var verb string
	var kind StepKind
	var id ID
	if _, err := fmt.Sscan(line, &verb, &kind, &id); err != nil {
		t.Fatalf("line %q: %v", line, err)
	}
	if kind == StepBegin {
		return len(collect(t, j, Query{})) == len(m.entries)+1
	}
	e, err := j.Entry(id)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return len(e.Steps) > len(m.entries[id-1].kinds)
}

// Killed at a random moment of the first opening: the next one finds an empty
// journal or makes one, and it works.
func TestL13KilledDuringFirstCreation(t *testing.T) {
	t.Parallel()
	chance := rand.New(rand.NewPCG(newSeed(t), 2))
	for range 15 {
		dir := filepath.Join(t.TempDir(), "a", "journal")
		c := startChild(t, "steps", dir, chance.Uint64())
		c.wantLine("opening")
		kill := time.AfterFunc(time.Duration(chance.IntN(8000))*time.Microsecond, func() { _ = c.cmd.Process.Kill() })
		lines := c.rest()
		kill.Stop()
		if len(lines) > 0 && lines[0] == "opened" {
			lines = lines[1:]
		}
		m := newModel()
		done, inFlight := acked(t, lines)
		for i := range done {
			m.did(t, lines[2*i+1])
		}
		m.settle(t, dir, inFlight)
		s := newSceneIn(t, dir)
		s.begin()
		s.close()
		checkJournal(t, dir)
	}
}

// L14: a disk that is full at a random size: a sale is refused before it is recorded,
// with ErrFull and nothing poisoned, and everything that is armed can be settled,
// with twenty attempts each, in the space that was set aside.
func TestL13L14TheDiskIsFull(t *testing.T) {
	t.Parallel()
	chance := rand.New(rand.NewPCG(newSeed(t), 3))
	for range 4 {
		dir := filepath.Join(t.TempDir(), "journal")
		c := startChild(t, "full", dir, chance.Uint64N(300_000))
		var done, refusals, settled int
		for _, l := range c.rest() {
			switch {
			case l == fmt.Sprintf("did begin %d", done+1):
				done++
			case strings.HasPrefix(l, "refused full=true poisoned=false"):
				refusals++
			case l == fmt.Sprintf("settled %d", done):
				settled++
			default:
				t.Errorf("the child said %q", l)
			}
		}
		if refusals != 1 || settled != 1 {
			t.Errorf("refused %d times, settled %d times after %d sales; %s", refusals, settled, done, c.errs.String())
		}
		s := newSceneIn(t, dir)
		n := 0
		for e, err := range s.j.Entries(Query{}) {
			s.must(err)
			if n++; e.Status != Reversed || e.Attempts != 20 {
				t.Errorf("entry %d is %s after %d attempts", e.ID, e.Status, e.Attempts)
			}
		}
		if n != done {
			t.Errorf("%d acknowledged, %d there", done, n)
		}
		s.begin()
		s.close()
		checkJournal(t, dir)
	}
}
