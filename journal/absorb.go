package journal

import (
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// absorb puts what a region holds into the store, in one commit that also records
// how far the store has got, and only then prepares the region anew. The store's
// commit is the one that counts: a cut before it finds the frames, a cut after it
// does not need them.
func (j *Journal) absorb(region int, last uint64) error {
	s, err := j.wal.scan(region)
	if err != nil {
		return err
	}
	if n := len(s.frames); last != 0 && (n == 0 || s.frames[n-1].index != last) {
		return fmt.Errorf("%w: region %d does not read back as it was written", ErrDamaged, region)
	}
	frames := s.frames
	for len(frames) > 0 && frames[0].index <= j.state.Applied {
		frames = frames[1:]
	}
	if len(frames) > 0 {
		st, known := j.state, j.tail.inMemory()
		if err := j.store.update(j.commit, func(tx *bolt.Tx) error { return apply(tx, &st, frames, known) }); err != nil {
			return err
		}
		j.state = st
		j.tail.trim(st.Applied)
	}
	j.mu.Lock()
	epoch := j.epoch[1-region] + 1
	j.mu.Unlock()
	if err := j.wal.writeHeader(region, epoch); err != nil {
		return err
	}
	return j.wal.headers.Datasync()
}
