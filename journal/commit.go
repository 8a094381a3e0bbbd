package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// How a step becomes durable. A caller decides under mu what its step makes of the
// entry and stages a frame. Then one caller leads: it writes all that is staged in
// one write, syncs once, and publishes it; the others wait for it. Nobody waits
// for a timer: a lone caller leads at once.

// staged is a frame on its way to the disk.
type staged struct {
	frame  *frame
	rec    *record // of an entry's frame
	region int
	offset int64     // from the region's start
	wake   chan bool // of the step's caller; true: lead now. nil for a frame that nobody waits for
	err    error     // once woken to hear it
}

// batchMax bounds what one write takes.
const batchMax = 256 << 10

// errWait: decide again when what is under way has ended.
var errWait = errors.New("something is under way")

// change is what a step makes of an entry.
type change struct {
	rec    *record
	opens  int    // 1 for an entry that is begun, -1 for one that is settled
	staged func() // runs once the step is sure to be taken, under mu
}

// take carries out one step. decide is called under mu, perhaps more than once; it
// must change nothing. An error of it changes nothing. An error that wraps
// ErrPoisoned leaves the outcome unknown (L13).
func (j *Journal) take(decide func() (change, error)) error {
	j.mu.Lock()
	var s *staged
	for {
		if err := j.usable(); err != nil {
			j.mu.Unlock()
			return err
		}
		c, err := decide()
		if err == nil {
			s, err = j.stage(c.rec)
		}
		if errors.Is(err, errWait) {
			j.room.Wait()
			continue
		}
		if err != nil {
			j.mu.Unlock()
			return err
		}
		if s != nil {
			if c.staged != nil {
				c.staged()
			}
			if c.opens != 0 {
				j.count(c.rec, c.opens)
			}
			break
		}
		j.room.Wait() // a checkpoint gives a region back, or fails and ends the journal
	}
	if j.leading {
		j.mu.Unlock()
		if lead := <-s.wake; !lead {
			return s.err
		}
		j.mu.Lock()
	}
	j.leading = true
	j.lead()
	j.mu.Unlock()
	return s.err
}

// stage puts an entry's new form in the queue for the disk. It gives nil when there
// is no room before the next checkpoint has ended. The caller holds mu.
func (j *Journal) stage(rec *record) (*staged, error) {
	frames := make([]*frame, 0, 3)
	if j.keyNote != nil { // first: what follows is linked under the new key
		frames = append(frames, &frame{kind: frameKey, payload: j.keyNote})
	}
	if j.bootNote != nil {
		frames = append(frames, &frame{kind: frameBoot, payload: j.bootNote})
	}
	rec.Steps[len(rec.Steps)-1].Seq = j.index + uint64(len(frames)) + 1
	value := rec.encode()
	for n := len(rec.Steps); len(value) > payloadMax && n > 2; n = len(rec.Steps) {
		rec.Steps = slices.Delete(rec.Steps, n/2, n/2+1) // a long history must not keep an entry from its end (L8)
		value = rec.encode()
	}
	if len(value) > payloadMax {
		return nil, fmt.Errorf("entry %d: %w: it would be longer than %d bytes", rec.ID, ErrInvalid, payloadMax)
	}
	rec.value = value
	frames = append(frames, &frame{kind: frameEntry, entry: rec.ID, payload: value})
	return j.enqueue(frames, rec), nil
}

// enqueue gives frames their places, all or none: nil means that there is no room.
// The last of them is waited for.
func (j *Journal) enqueue(frames []*frame, rec *record) *staged {
	var need int64
	for _, f := range frames {
		need += frameBytes(len(f.payload))
	}
	if !j.makeRoom(need) {
		return nil
	}
	var last *staged
	for _, f := range frames {
		j.index++
		f.index, f.epoch = j.index, j.epoch[j.cur]
		r := row{kind: f.kind, entry: f.entry, digest: digestOf(f.payload)}
		f.chain = j.linker.next(j.link, f.index, r)
		j.link = f.chain
		if f.kind == frameKey {
			j.linker = j.nextLinker
		}
		last = &staged{frame: f, region: j.cur, offset: j.off}
		j.off += frameBytes(len(f.payload))
		j.queue = append(j.queue, last)
	}
	last.wake = make(chan bool, 1)
	if last.rec = rec; rec != nil {
		j.inflight[rec.ID] = rec
	}
	j.bootNote, j.keyNote = nil, nil
	return last
}

// makeRoom sees to it that so many bytes fit behind the last frame, in the other
// region when this one is full and the other was given back.
func (j *Journal) makeRoom(need int64) bool {
	if j.off+need <= j.wal.region {
		return true
	}
	other := 1 - j.cur
	if !j.ready[other] || regionHead+need > j.wal.region {
		return false
	}
	j.full[j.cur], j.ready[other] = j.index, false
	j.cur, j.off = other, regionHead
	return true
}

// lead writes what is staged, once, and hands on. The caller holds mu and leads.
func (j *Journal) lead() {
	batch := j.nextBatch()
	durable := j.durable
	j.mu.Unlock()
	err := j.write(batch, durable)
	j.mu.Lock()
	if err == nil {
		err = j.publish(batch)
	}
	if err != nil {
		j.poison(err)
		batch, j.queue = append(batch, j.queue...), nil
	}
	var next *staged
	for _, s := range j.queue {
		if s.wake != nil {
			next = s
			break
		}
	}
	if j.leading = next != nil; next != nil {
		next.wake <- true
	}
	j.room.Broadcast() // Close waits until nobody leads; others until a step is durable
	for _, s := range batch {
		s.err = j.failed
		if s.wake != nil {
			s.wake <- false
		}
	}
}

// nextBatch takes from the queue what one write can take: what stands together in
// one region.
func (j *Journal) nextBatch() []*staged {
	n, size := 0, int64(0)
	for _, s := range j.queue {
		size += frameBytes(len(s.frame.payload))
		if s.region != j.queue[0].region || n > 0 && size > batchMax {
			break
		}
		n++
	}
	batch := j.queue[:n:n]
	j.queue = j.queue[n:]
	return batch
}

// write is one write and one sync. It runs without mu, one at a time.
func (j *Journal) write(batch []*staged, durable uint64) error {
	var b []byte
	for _, s := range batch {
		s.frame.synced, s.frame.before = durable, j.before
		if s.offset == regionHead {
			s.frame.before = 0
		}
		b = appendFrame(b, s.frame)
		j.before = s.frame.sum
	}
	if _, err := j.wal.file.WriteAt(b, j.wal.start(batch[0].region)+batch[0].offset); err != nil {
		return err
	}
	return j.wal.file.Datasync()
}

// publish shows what is durable now (L3). The caller holds mu.
func (j *Journal) publish(batch []*staged) error {
	j.tail.mu.Lock()
	for _, s := range batch {
		if s.rec != nil {
			j.tail.rows = append(j.tail.rows, rowOf(s.frame))
			j.tail.link = s.frame.chain
			j.tail.addEntry(s.rec, s.frame.index)
			if j.inflight[s.rec.ID] == s.rec {
				delete(j.inflight, s.rec.ID)
			}
		} else if err := j.tail.add(s.frame); err != nil {
			j.tail.mu.Unlock()
			return err
		}
		j.durable = s.frame.index
	}
	j.tail.mu.Unlock()
	for region, last := range j.full {
		if last != 0 && last <= j.durable && !j.applying {
			j.absorbRegion(region, last)
		}
	}
	return nil
}

// newest is what an entry will be once all that is staged is durable: what the next
// step is decided on. The caller holds mu.
func (j *Journal) newest(id ID) (*record, error) {
	if rec := j.inflight[id]; rec != nil {
		return rec, nil
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
		j.mark()
	}
	j.room.Broadcast()
}

// mark tells the next process not to trust these files.
func (j *Journal) mark() { _ = os.WriteFile(filepath.Join(j.dir, poisonName), nil, 0o600) }

// absorbRegion starts a checkpoint. The caller holds mu, and none runs.
func (j *Journal) absorbRegion(region int, last uint64) {
	j.full[region], j.applying = 0, true
	j.background.Add(1)
	go j.checkpoint(region, last)
}

// flush takes over into the store what is durable, and waits for it.
func (j *Journal) flush() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for j.leading || j.applying {
		if err := j.usable(); err != nil {
			return err
		}
		j.room.Wait()
	}
	if err := j.usable(); err != nil {
		return err
	}
	if j.off > regionHead {
		region := j.cur
		j.cur, j.off = 1-region, regionHead
		j.ready[j.cur] = false
		j.absorbRegion(region, j.durable)
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
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.applying = false; err == nil {
		err = j.topUp(j.open)
	}
	if err != nil {
		j.poison(fmt.Errorf("checkpoint: %w", err))
		return
	}
	j.epoch[region] = j.epoch[1-region] + 1
	j.ready[region] = true
	j.room.Broadcast()
}

func marshalNote(v any) []byte {
	b, _ := json.Marshal(v) // of numbers and names: cannot fail
	return b
}
