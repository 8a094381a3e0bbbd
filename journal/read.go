package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// reader is what Journal and Snapshot have in common.
type reader struct{ store *store }

// String names the journal and shows nothing of it.
func (r reader) String() string { return "journal " + r.store.path }

// Format prints String under every verb: fmt would walk into the mapped file.
func (r reader) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, r.String()) }

// view reads in one consistent transaction; damage is an error, never a crash.
func (r reader) view(do func(*bolt.Tx) error) error {
	err := r.store.contained(func() error { return r.store.db.View(do) })
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	return err
}

// Entry returns one entry. Errors: ErrNoEntry, ErrDamaged, ErrNewer.
func (r reader) Entry(id ID) (Entry, error) {
	var e Entry
	err := r.view(func(tx *bolt.Tx) error {
		rec, err := load(tx, id)
		if err != nil {
			return err
		}
		e = rec.Entry
		return nil
	})
	return e, err
}

func load(tx *bolt.Tx, id ID) (*record, error) {
	value := tx.Bucket(bucketEntries).Get(key(id))
	if value == nil {
		return nil, fmt.Errorf("entry %d: %w", id, ErrNoEntry)
	}
	return decode(id, value)
}

// Armed lists the entries that have no outcome yet, oldest first. Cost follows
// what is open, not history. Errors: ErrPartial beside the list.
func (r reader) Armed() ([]Entry, error) { return r.listed(bucketOpen, Begun) }

// Owed lists the entries whose reversal must reach the host, oldest first. Cost
// follows what is open, not history.
func (r reader) Owed() ([]Entry, error) { return r.listed(bucketOpen, Owed) }

// Parked lists the entries that the engine stopped trying, oldest first.
func (r reader) Parked() ([]Entry, error) { return r.listed(bucketParked, Parked) }

// listed reads an index. An entry that cannot be read does not hide the others:
// they are returned beside an error that wraps ErrPartial.
func (r reader) listed(index []byte, status Status) ([]Entry, error) {
	var list []Entry
	var bad error
	err := r.view(func(tx *bolt.Tx) error {
		c := tx.Bucket(index).Cursor()
		for k, _ := c.First(); k != nil; k, _ = c.Next() {
			rec, err := load(tx, ID(binary.BigEndian.Uint64(k)))
			if err != nil {
				bad = errors.Join(bad, err)
				continue
			}
			switch {
			case rec.Status == status:
				list = append(list, rec.Entry)
			case !slices.Contains(indexed[string(index)], rec.Status):
				bad = errors.Join(bad, fmt.Errorf("index %s: %w: it lists entry %d, which is %s", index, ErrDamaged, rec.ID, rec.Status))
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if bad != nil {
		return list, fmt.Errorf("%w: %w", ErrPartial, bad)
	}
	return list, nil
}

// indexed says which entries stand in which index.
var indexed = map[string][]Status{
	string(bucketOpen):   {Begun, Owed},
	string(bucketParked): {Parked},
}

// Query selects entries. The zero value selects all, oldest first.
type Query struct {
	From, To ID               // inclusive; 0 means open
	Newest   bool             // newest first
	Limit    int              // 0 means no limit
	Status   []Status         // any of these; empty means all
	Keep     func(Entry) bool // nil keeps all
}

// entriesPage is how many entries one read transaction covers: a reader that
// takes its time must not hold up the writer.
const entriesPage = 256

// Entries streams the entries that a query selects. An entry that cannot be
// read is yielded as an error and the stream goes on behind it; any other error
// ends it. What is begun after it started is not seen; what is changed meanwhile
// may or may not be.
func (r reader) Entries(q Query) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		newest, err := r.newest()
		if err != nil {
			yield(Entry{}, err)
			return
		}
		if q.To == 0 || q.To > newest {
			q.To = newest // or a caller that writes while it reads would never end
		}
		next, given := q.start(), 0
		for next != 0 {
			page, following, err := r.page(q, next)
			if err != nil {
				yield(Entry{}, err)
				return
			}
			for _, item := range page {
				if item.err == nil && !q.selects(item.entry) {
					continue
				}
				if !yield(item.entry, item.err) {
					return
				}
				if given++; q.Limit > 0 && given >= q.Limit {
					return
				}
			}
			next = following
		}
	}
}

type pageItem struct {
	entry Entry
	err   error
}

func (q Query) start() ID {
	if q.Newest {
		return q.To
	}
	return max(q.From, 1)
}

// newest is the id of the newest entry, 0 when there is none.
func (r reader) newest() (id ID, err error) {
	err = r.view(func(tx *bolt.Tx) error {
		if k, _ := tx.Bucket(bucketEntries).Cursor().Last(); k != nil {
			id = ID(binary.BigEndian.Uint64(k))
		}
		return nil
	})
	return id, err
}

func (q Query) selects(e Entry) bool {
	return (len(q.Status) == 0 || slices.Contains(q.Status, e.Status)) && (q.Keep == nil || q.Keep(e))
}

func (q Query) within(id ID) bool { return id >= q.From && id <= q.To }

// page reads up to entriesPage entries from one id on, and says where the next
// page starts (0: there is none).
func (r reader) page(q Query, from ID) (page []pageItem, following ID, err error) {
	err = r.view(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketEntries).Cursor()
		k, v := seek(c, from, q.Newest)
		for k != nil && q.within(ID(binary.BigEndian.Uint64(k))) {
			id := ID(binary.BigEndian.Uint64(k))
			if len(page) == entriesPage {
				following = id
				return nil
			}
			rec, err := decode(id, v)
			if err != nil {
				page = append(page, pageItem{Entry{ID: id}, err})
			} else {
				page = append(page, pageItem{rec.Entry, nil})
			}
			if q.Newest {
				k, v = c.Prev()
			} else {
				k, v = c.Next()
			}
		}
		return nil
	})
	return page, following, err
}

// seek finds the entry at id, or the next one in the direction of travel.
func seek(c *bolt.Cursor, id ID, newest bool) (k, v []byte) {
	k, v = c.Seek(key(id))
	if !newest {
		return k, v
	}
	if k == nil {
		return c.Last()
	}
	if ID(binary.BigEndian.Uint64(k)) > id {
		return c.Prev()
	}
	return k, v
}
