package journal

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Every legal power cut, part 6: what the child was promised when the power failed.

// promise is what must be found after a cut.
type promise struct {
	open     bool          // somebody was told that the journal is open
	entries  map[ID]fact   // acknowledged
	inFlight map[int]tried // by worker; each may have happened whole or not at all
	unknown  []tried       // as those, of a process or a worker that stopped
	saw      []shown       // so far, before "seen"
	mayGo    spans         // settled entries that are being pruned
}

// shown is an entry as the journal showed it, and that letter by letter.
type shown struct {
	Entry
	text string
}

func show(e Entry) shown { return shown{e, asJSON(e)} }

// fact is all that is known of an entry: its facts by the rules of the trade, and
// letter by letter as the journal showed it, times too.
type fact struct {
	modelEntry
	reversalSTAN uint32
	shown        string
}

// tried is a step that was tried.
type tried struct {
	kind StepKind
	id   ID   // of a step
	new  fact // of a begin
}

// promises gives what is promised after each number of lines: after none, after the
// first …
func promises(from *promise, lines []string) ([]*promise, error) {
	p := from
	list := []*promise{p}
	for _, line := range lines {
		p = p.clone()
		if err := p.hear(line); err != nil {
			return nil, fmt.Errorf("the child said %.300q: %w", line, err)
		}
		list = append(list, p)
	}
	return list, nil
}

// processEnded stands between the lines of one child and those of the next.
const processEnded = "the process ended"

func newPromise() *promise {
	return &promise{entries: map[ID]fact{}, inFlight: map[int]tried{}}
}

func (p *promise) clone() *promise {
	return &promise{p.open, maps.Clone(p.entries), maps.Clone(p.inFlight), slices.Clone(p.unknown), slices.Clone(p.saw), slices.Clone(p.mayGo)}
}

func (p *promise) hear(line string) error {
	if line == processEnded { // what it had in flight nobody will be told any more
		for _, worker := range slices.Sorted(maps.Keys(p.inFlight)) {
			p.unknown = append(p.unknown, p.inFlight[worker])
		}
		clear(p.inFlight)
		p.saw = nil
		return nil
	}
	verb, rest, _ := strings.Cut(line, " ")
	var worker int
	var kind StepKind
	switch verb {
	case "saw":
		e, err := parseEntry(rest)
		p.saw = append(p.saw, show(e))
		return err
	case "seen":
		return p.seen()
	case "try":
		_, err := fmt.Sscan(rest, &worker, &kind)
		if err != nil {
			return err
		}
		p.inFlight[worker], err = parseTry(kind, strings.Fields(rest)[2:])
		return err
	case "did":
		var id ID
		if _, err := fmt.Sscan(rest, &worker, &kind, &id); err != nil {
			return err
		}
		at := strings.Index(rest, "{")
		return p.did(worker, kind, id, rest[max(at, 0):])
	case "prune":
		var gone spans
		err := json.Unmarshal([]byte(rest), &gone)
		p.mayGo = append(p.mayGo, gone...)
		return err
	case "undone": // every error but ErrPoisoned means that nothing was changed
		_, err := fmt.Sscan(rest, &worker)
		delete(p.inFlight, worker)
		return err
	case "poisoned":
		_, err := fmt.Sscan(rest, &worker)
		p.unknown = append(p.unknown, p.inFlight[worker])
		delete(p.inFlight, worker)
		return err
	}
	return nil
}

func parseEntry(s string) (e Entry, err error) {
	var f struct {
		Entry
		Status string `json:"status"`
	}
	if err = json.Unmarshal([]byte(s), &f); err != nil {
		return e, err
	}
	e = f.Entry
	e.Status, err = ParseStatus(f.Status)
	return e, err
}

func parseTry(kind StepKind, rest []string) (a tried, err error) {
	a.kind = kind
	if kind != StepBegin {
		_, err = fmt.Sscan(strings.Join(rest, " "), &a.id)
		return a, err
	}
	lane := 0
	a.new = fact{modelEntry: modelEntry{status: Begun, kinds: []StepKind{StepBegin}}}
	_, err = fmt.Sscan(strings.Join(rest, " "), &lane, &a.new.stan, &a.new.reversalSTAN)
	a.new.lane = crashLanes[lane]
	return a, err
}

// seen makes what the journal shows when it is opened the promise, if it keeps the
// one before.
func (p *promise) seen() error {
	if err := p.keptBy(p.saw); err != nil {
		return err
	}
	clear(p.entries)
	for _, e := range p.saw {
		p.entries[e.ID] = e.fact()
	}
	clear(p.inFlight)
	p.open, p.saw, p.unknown, p.mayGo = true, nil, nil, nil
	return nil
}

// did takes over what was acknowledged. What the journal shows of it must agree
// with the rules.
func (p *promise) did(worker int, kind StepKind, id ID, text string) error {
	a := p.inFlight[worker]
	delete(p.inFlight, worker)
	want := a.new
	if before, known := p.entries[id]; known == (kind == StepBegin) {
		return fmt.Errorf("entry %d was there before: %v", id, known)
	} else if known {
		want = before.after(kind)
	}
	entry, err := parseEntry(text)
	e := show(entry)
	if err != nil {
		return err
	}
	if a.kind != kind || !want.sameAs(e) {
		return fmt.Errorf("entry %d after %s:\n got %s\nwant %+v", id, a.kind, text, want)
	}
	p.entries[id] = e.fact()
	return nil
}

// after is the fact after one more step.
func (f fact) after(kind StepKind) fact {
	f.kinds = slices.Clone(f.kinds)
	f.apply(kind)
	f.shown = ""
	return f
}

func (e shown) fact() fact {
	return fact{modelEntry{
		e.Lane, e.STAN, e.Status, e.Cause, e.LastCode, e.Parking, e.Attempts, e.Refusals,
		Answer{e.Code, e.AuthCode, e.RRN, e.ApprovedMinor}, kindsOf(e.Steps), false,
	}, e.ReversalSTAN, e.text}
}

// sameAs compares an entry with what is known of it.
func (f fact) sameAs(e shown) bool {
	if f.shown != "" {
		return f.shown == e.text
	}
	got, d := e.fact(), draftOf(e.Lane, e.STAN)
	got.shown = ""
	return fmt.Sprint(got) == fmt.Sprint(f) && e.Amount == d.Amount && e.Last4 == d.Last4 && e.Type == d.Type && e.MTI == d.MTI
}

// keptBy compares all entries of a journal with the promise.
func (p *promise) keptBy(entries []shown) error {
	maybe := slices.Clone(p.unknown)
	for _, worker := range slices.Sorted(maps.Keys(p.inFlight)) {
		maybe = append(maybe, p.inFlight[worker])
	}
	found := map[ID]bool{}
	for _, e := range entries {
		if found[e.ID] {
			return fmt.Errorf("entry %d is there twice", e.ID)
		}
		found[e.ID] = true
		known, ok := p.entries[e.ID]
		if ok && known.sameAs(e) {
			continue
		}
		switch at := slices.IndexFunc(maybe, func(a tried) bool { return p.may(a, e) }); {
		case at >= 0:
			maybe = slices.Delete(maybe, at, at+1)
		case ok:
			return fmt.Errorf("entry %d is not as it was acknowledged:\n got %s\nwant %+v", e.ID, e.text, known)
		default:
			return fmt.Errorf("entry %d was never begun: %s", e.ID, e.text)
		}
	}
	for id, f := range p.entries {
		if !found[id] && !(p.pruned(id) && !unsettledNow(f.status)) { // L8
			return fmt.Errorf("entry %d, which was acknowledged, is not there: %s", id, f.shown)
		}
	}
	return nil
}

func (p *promise) pruned(id ID) bool {
	return slices.ContainsFunc(p.mayGo, func(s span) bool { return s[0] <= id && id <= s[1] })
}

// may reports whether an entry is what a step in flight would have made of it.
func (p *promise) may(a tried, e shown) bool {
	if a.kind == StepBegin {
		_, known := p.entries[e.ID]
		return !known && a.new.sameAs(e)
	}
	before, known := p.entries[a.id]
	return known && a.id == e.ID && before.after(a.kind).sameAs(e)
}
