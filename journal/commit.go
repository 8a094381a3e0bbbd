package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
)

// How a step becomes durable. Callers stand in line, and one of them leads: it
// decides under mu what each step in the line makes of its entry, writes all of that
// in one write, syncs once, and publishes it; the others wait for it. Then the first
// of those who came meanwhile leads. Nobody waits for a timer: a lone caller leads
// at once. A leader that had company lets others who can run go first, so that they
// come along in one batch, not one behind the other.

// caller is somebody whose step is to be taken.
type caller struct {
	decide func() (change, error)
	wake   chan bool // true: lead now; false: err says what became of the step
	err    error
	done   bool // the leader's
}

// line is where callers wait.
type line struct {
	mu      sync.Mutex
	led     bool // somebody leads, or was told to
	resting bool // the leader waits for a checkpoint
	waiting []*caller
}

// join puts a caller at the end and reports whether it is to lead, or to rouse a
// leader that rests: there may be room for this step.
func (l *line) join(c *caller) (lead, rouse bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, c)
	lead, rouse = !l.led, l.resting
	l.led, l.resting = true, false
	return lead, rouse
}

// take gives all who wait.
func (l *line) take() (callers []*caller) {
	l.mu.Lock()
	defer l.mu.Unlock()
	callers, l.waiting, l.resting = l.waiting, nil, false
	return callers
}

// rest notes that the leader waits for a checkpoint, unless more stand in line than
// those who have to wait with it.
func (l *line) rest(withIt int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.resting = len(l.waiting) == withIt
	return l.resting
}

// putBack puts callers back in front.
func (l *line) putBack(callers []*caller) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(callers, l.waiting...)
}

// handOn tells the first who waits to lead.
func (l *line) handOn() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.led = len(l.waiting) > 0; l.led {
		l.waiting[0].wake <- true
	}
}

// staged is a frame on its way to the disk.
type staged struct {
	frame  *frame
	rec    *record // of an entry's frame
	offset int64   // from the region's start
}

// batchMax bounds what one write takes.
const batchMax = 256 << 10

// errWait: decide again when the batch, or the checkpoint, has ended.
var errWait = errors.New("something is under way")

// change is what a step makes of the journal: of an entry, or with a note a frame that
// belongs to none.
type change struct {
	rec    *record
	note   *frame
	opens  int    // 1 for an entry that is begun, -1 for one that is settled
	staged func() // runs once the step is sure to be taken, under mu
}

// take carries out one step. decide is called under mu, perhaps more than once; it
// must change nothing. An error of it changes nothing. An error that wraps
// ErrPoisoned leaves the outcome unknown (L13).
func (j *Journal) take(decide func() (change, error)) error {
	c := &caller{decide: decide, wake: make(chan bool, 1)}
	lead, rouse := j.line.join(c)
	if rouse {
		j.mu.Lock() // the leader has it until it sleeps
		j.room.Broadcast()
		j.mu.Unlock()
	}
	if lead || <-c.wake {
		j.lead(c)
	}
	return c.err
}

// lead takes batches until the leader's own step is in one, and hands on.
func (j *Journal) lead(own *caller) {
	if j.company > 1 {
		runtime.Gosched() // who was in the last batches is about to come again
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for !own.done {
		for j.halts > 0 {
			j.room.Wait()
		}
		batch, callers, later := j.gather(own)
		switch {
		case len(batch) > 0:
			j.company = max(len(callers), j.company/2)
			j.writeBatch(batch)
			j.tell(own, j.failed, callers...)
		case !own.done && j.line.rest(later):
			j.room.Wait() // a checkpoint gives a region back, or fails and ends the journal
		}
	}
	j.line.handOn()
}

// gather decides the steps of all who wait and stages what they make: the next
// batch, and who waits for it. Who has to wait longer is put back, and counted. The
// caller holds mu.
func (j *Journal) gather(own *caller) (batch []*staged, callers []*caller, later int) {
	var back []*caller
	for _, c := range j.line.take() {
		err := j.usable()
		if err == nil {
			err = j.stage(c.decide)
		}
		switch {
		case err == nil:
			callers = append(callers, c)
		case errors.Is(err, errWait):
			back = append(back, c)
		default:
			j.tell(own, err, c)
		}
	}
	j.line.putBack(back)
	batch, j.batch = j.batch, nil
	return batch, callers, len(back)
}

// tell says to callers what became of their steps.
func (j *Journal) tell(own *caller, err error, callers ...*caller) {
	for _, c := range callers {
		if c.err, c.done = err, true; c != own {
			c.wake <- false
		}
	}
}

// stage puts what a step makes into the batch. An error changes nothing.
func (j *Journal) stage(decide func() (change, error)) error {
	c, err := decide()
	if err != nil {
		return err
	}
	frames := make([]*frame, 0, 4)
	if j.keyNote != nil { // first: what follows is linked under the new key
		frames = append(frames, &frame{kind: frameKey, payload: j.keyNote})
	}
	if j.bootNote != nil {
		frames = append(frames, &frame{kind: frameBoot, payload: j.bootNote})
	}
	if j.plan != nil && !j.stillOld(j.plan, c.rec) {
		j.plan = nil // the next checkpoint looks again
	}
	p := j.plan
	if p != nil {
		frames = append(frames, &frame{kind: framePrune, payload: p.payload})
	}
	if c.rec != nil {
		if err := c.rec.store(j.index + uint64(len(frames)) + 1); err != nil {
			return err
		}
		c.note = &frame{kind: frameEntry, entry: c.rec.ID, payload: c.rec.value}
	}
	if c.note != nil {
		frames = append(frames, c.note)
	} else if p == nil {
		return errPlanGone
	}
	if !j.makeRoom(frames) {
		return errWait
	}
	for _, f := range frames {
		j.enqueue(f)
	}
	j.bootNote, j.keyNote = nil, nil
	if p != nil {
		j.plan, j.leaving, p.taken = nil, p.gone, true
	}
	if c.rec != nil {
		j.batch[len(j.batch)-1].rec = c.rec
		j.inflight[c.rec.ID] = c.rec
	}
	if c.staged != nil {
		c.staged()
	}
	if c.opens != 0 {
		j.count(c.rec, c.opens)
	}
	return nil
}

// store makes the stored form of what the newest step, in this place among all
// steps, made of an entry.
func (r *record) store(seq uint64) error {
	last := &r.Steps[len(r.Steps)-1]
	if last.Seq = seq; stepNumbers[last.Kind] == 0 {
		return fmt.Errorf("entry %d: %w: a step %q has no number on disk, and could not be read again", r.ID, ErrInvalid, last.Kind)
	}
	r.value = r.encode()
	for n := len(r.Steps); len(r.value) > payloadMax && n > 2; n = len(r.Steps) {
		r.Steps = slices.Delete(r.Steps, n/2, n/2+1) // a long history must not keep an entry from its end (L8)
		r.value = r.encode()
	}
	if len(r.value) > payloadMax {
		return fmt.Errorf("entry %d: %w: it would be longer than %d bytes", r.ID, ErrInvalid, payloadMax)
	}
	return nil
}

// makeRoom sees to it that frames fit behind the last one. A batch is one write, so
// it stays in one region; with an empty one the other region takes over when this one
// is full and the other was given back.
func (j *Journal) makeRoom(frames []*frame) bool {
	var need int64
	for _, f := range frames {
		need += frameBytes(len(f.payload))
	}
	if len(j.batch) > 0 {
		return j.off+need <= min(j.wal.region, j.batch[0].offset+batchMax)
	}
	if j.off+need <= j.wal.region {
		return true
	}
	other := 1 - j.cur
	if j.applying || !j.ready[other] || regionHead+need > j.wal.region {
		return false
	}
	j.switchRegion()
	return true
}

// switchRegion goes on in the other region, which was given back, and has the store
// take this one over. All that stands in it is durable. The caller holds mu.
func (j *Journal) switchRegion() {
	full := j.cur
	j.cur, j.off = 1-full, regionHead
	j.ready[j.cur] = false
	j.absorbRegion(full, j.durable)
}

// enqueue gives a frame its place.
func (j *Journal) enqueue(f *frame) {
	j.index++
	f.index, f.epoch, f.digest = j.index, j.epoch[j.cur], digestOf(f.payload)
	f.chain = j.linker.next(j.link, f.index, rowOf(f))
	j.link = f.chain
	if f.kind == frameKey {
		j.linker = j.nextLinker
	}
	j.batch = append(j.batch, &staged{frame: f, offset: j.off})
	j.off += frameBytes(len(f.payload))
}

// writeBatch makes a batch durable and publishes it. The caller holds mu, which is
// free meanwhile.
func (j *Journal) writeBatch(batch []*staged) {
	region, durable := j.cur, j.durable
	j.writing = true
	j.mu.Unlock()
	err := j.write(region, batch, durable)
	j.mu.Lock()
	j.writing = false
	if err == nil {
		err = j.publish(batch)
	}
	if err != nil {
		j.poison(err)
	}
	j.room.Broadcast() // who wants the journal to stand still
}

// write is one write and one sync. It runs without mu, one at a time.
func (j *Journal) write(region int, batch []*staged, durable uint64) error {
	j.buffer = j.buffer[:0]
	for _, s := range batch {
		s.frame.synced, s.frame.before = durable, j.before
		if s.offset == regionHead {
			s.frame.before = 0
		}
		j.buffer = appendFrame(j.buffer, s.frame)
		j.before = s.frame.sum
	}
	if _, err := j.wal.file.WriteAt(j.buffer, j.wal.start(region)+batch[0].offset); err != nil {
		return err
	}
	return j.wal.file.Datasync()
}

// publish shows what is durable now (L3). The caller holds mu.
func (j *Journal) publish(batch []*staged) error {
	j.tail.mu.Lock()
	defer j.tail.mu.Unlock()
	for _, s := range batch {
		if s.rec != nil {
			j.tail.rows = append(j.tail.rows, rowOf(s.frame))
			j.tail.link = s.frame.chain
			j.tail.addEntry(s.rec, s.frame.index)
		} else if err := j.tail.add(s.frame); err != nil {
			return err
		}
		j.durable = s.frame.index
	}
	clear(j.inflight)
	j.leaving = nil
	return nil
}

// still waits until nothing is on its way to the disk or into the store, and lets no
// leader begin before the caller, who holds mu, has given it back.
func (j *Journal) still() {
	j.halts++
	for j.writing || j.applying {
		j.room.Wait()
	}
	j.halts--
	j.room.Broadcast()
}

// newest is what an entry will be once all that is staged is durable: what the next
// step is decided on. The caller holds mu.
func (j *Journal) newest(id ID) (*record, error) {
	if rec := j.inflight[id]; rec != nil {
		return rec, nil
	}
	if j.leaving.has(id) {
		return nil, errWait // it is gone once that is durable (L3)
	}
	return j.record(id)
}

// poison ends this handle's life as a writer: after a failed write or sync the
// kernel may show what the disk does not have, so nothing is accepted or
// acknowledged any more (L13). The mark in the directory keeps the next process
// from believing these files too; it needs no sync, because a power cut ends the
// kernel's memory as well. The caller holds mu.
func (j *Journal) poison(err error) {
	if j.failed == nil {
		j.failed = fmt.Errorf("%w: %w", ErrPoisoned, err)
		j.numbers.halt(j.failed)
		j.mark()
	}
	j.room.Broadcast()
}

// mark tells the next process not to trust these files.
func (j *Journal) mark() { _ = os.WriteFile(filepath.Join(j.dir, poisonName), nil, 0o600) }

// absorbRegion starts a checkpoint. The caller holds mu, and none runs.
func (j *Journal) absorbRegion(region int, last uint64) {
	j.applying, j.plan = true, nil // what it takes in may be on what a plan names
	j.background.Add(1)
	go j.checkpoint(region, last)
}

// flush takes over into the store what is durable, and waits for it.
func (j *Journal) flush() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.still()
	if err := j.usable(); err != nil {
		return err
	}
	if j.off > regionHead {
		j.switchRegion()
	}
	for j.applying {
		j.room.Wait()
	}
	return j.failed
}

// checkpoint takes a full region over into the store and gives it back. It runs
// beside the steps that go into the other region.
func (j *Journal) checkpoint(region int, last uint64) {
	defer j.background.Done()
	defer j.watchDisk()
	err := j.absorb(region, last)
	var next *plan
	if err == nil {
		next, err = j.planner()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	defer j.room.Broadcast()
	if j.applying = false; err == nil {
		err = j.topUp(j.open)
	}
	if err != nil {
		j.poison(fmt.Errorf("checkpoint: %w", err))
		return
	}
	j.epoch[region] = j.epoch[1-region] + 1
	j.ready[region] = true
	j.plan = next
}

func marshalNote(v any) []byte {
	b, _ := json.Marshal(v) // of numbers and names: cannot fail
	return b
}
