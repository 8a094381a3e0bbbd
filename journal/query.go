package journal

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"time"
)

// Query selects entries; what is named must all fit. The zero value selects all,
// oldest first. A trace number, an RRN, an amount and a time are found in the
// index: their cost does not follow history.
type Query struct {
	From, To    ID               // inclusive; 0 means open
	Newest      bool             // newest first
	Limit       int              // 0 means no limit
	Status      []Status         // any of these; empty means all
	Lane        Lane             // empty parts match every lane
	STAN        uint32           // 0 means any
	RRN         string           // "" means any
	AmountMinor int64            // of the request, 0 means any
	Last4       string           // "" means any
	Since       time.Time        // begun at or after this wall time; zero means open
	Until       time.Time        // begun before this; zero means open
	Keep        func(Entry) bool // nil keeps all

	card string // token of a card, see Journal.OfCard
}

// OfCard narrows a query to the entries of one card, which are found by its token:
// the number itself is nowhere (L11). Entries that were begun under an older device key
// have another token and are not found. Errors: ErrKey without a device key, ErrInvalid
// for what is no card number.
func (j *Journal) OfCard(q Query, pan Secret) (Query, error) {
	if j.seal == nil {
		return q, fmt.Errorf("query of a card: %w", ErrKey)
	}
	if err := cardNumber(pan); err != nil || len(pan) == 0 {
		return q, fmt.Errorf("query of a card: %w", cmp.Or(err, fmt.Errorf("%w: no number was given", ErrInvalid)))
	}
	q.card = j.seal.cardToken(pan)
	return q, nil
}

// entriesPage is how many entries one look at the store covers: a reader that
// takes its time must not hold up the writer.
const entriesPage = 256

// Entries streams the entries that a query selects. An entry that cannot be
// read is yielded as an error and the stream goes on behind it; any other error
// ends it. What is begun after it started is not seen; what is changed meanwhile
// may or may not be.
func (r reader) Entries(q Query) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		newest, odd, err := r.newestID()
		if err != nil {
			yield(Entry{}, err)
			return
		}
		if odd && !yield(Entry{}, errOddKey) {
			return
		}
		if q.To == 0 || q.To > newest {
			q.To = newest // or a caller that writes while it reads would never end
		}
		page := r.scanned
		if lo, hi, ok := q.indexRange(); ok {
			page = func(q Query, from ID) ([]pageItem, ID, error) { return r.found(q, from, lo, hi) }
		}
		next, given := q.start(), 0
		for next != 0 {
			items, following, err := page(q, next)
			if err != nil {
				yield(Entry{}, err)
				return
			}
			for _, item := range items {
				rec, err := item.read()
				if err == nil && !q.selects(rec) {
					continue
				}
				e := Entry{ID: item.id}
				if err == nil {
					e = r.entry(rec)
				}
				if err == nil && q.Keep != nil && !q.Keep(e) {
					continue
				}
				if !yield(e, err) {
					return
				}
				if given++; q.Limit > 0 && given >= q.Limit {
					return
				}
			}
			if following != 0 && !q.behind(following, next) { // or a damaged page would lead round in a circle (L13)
				yield(Entry{}, fmt.Errorf("%w: entries stand out of order", ErrDamaged))
				return
			}
			next = following
		}
	}
}

var errOddKey = fmt.Errorf("%w: a key of the store that is no entry's", ErrDamaged)

// pageItem is an entry that was copied out of a look at the store, and is read
// after it.
type pageItem struct {
	id    ID
	value []byte
	rec   *record
	err   error
}

func (i pageItem) read() (*record, error) {
	if i.rec != nil || i.err != nil {
		return i.rec, i.err
	}
	return decode(i.id, i.value)
}

func (q Query) start() ID {
	if q.Newest {
		return q.To
	}
	if q.To == 0 {
		return 0
	}
	return max(q.From, 1)
}

func (q Query) selects(rec *record) bool {
	return (len(q.Status) == 0 || slices.Contains(q.Status, rec.Status)) &&
		(q.Lane.Terminal == "" || q.Lane.Terminal == rec.Lane.Terminal) &&
		(q.Lane.Merchant == "" || q.Lane.Merchant == rec.Lane.Merchant) &&
		(q.STAN == 0 || q.STAN == rec.STAN) &&
		(q.RRN == "" || q.RRN == rec.RRN) &&
		(q.AmountMinor == 0 || q.AmountMinor == rec.Amount.Minor) &&
		(q.Last4 == "" || q.Last4 == rec.Last4) &&
		(q.card == "" || q.card == rec.Card) &&
		(q.Since.IsZero() || !rec.BegunAt.Before(q.Since)) &&
		(q.Until.IsZero() || rec.BegunAt.Before(q.Until))
}

func (q Query) within(id ID) bool { return id >= max(q.From, 1) && id <= q.To }

// indexRange says which values of the index the entries of a query stand under,
// from the one that selects most.
func (q Query) indexRange() (lo, hi indexValue, ok bool) {
	one := func(v indexValue) (indexValue, indexValue, bool) { return v, v, true }
	switch {
	case q.RRN != "" && len(q.RRN) <= textMax:
		return one(indexValue{indexRRN, rrnValue(q.RRN)})
	case q.card != "":
		return one(indexValue{indexCard, q.card})
	case q.STAN != 0:
		return one(indexValue{indexSTAN, stanValue(q.STAN)})
	case q.AmountMinor != 0:
		return one(indexValue{indexAmount, amountValue(q.AmountMinor)})
	case q.Since.IsZero() && q.Until.IsZero():
		return lo, hi, false
	}
	since, until := time.Unix(math.MinInt64, 0), time.Unix(math.MaxInt64, 0)
	if !q.Since.IsZero() {
		since = q.Since
	}
	if !q.Until.IsZero() {
		until = q.Until
	}
	return indexValue{indexTime, timeValue(since)}, indexValue{indexTime, timeValue(until)}, true
}

// behind reports whether a query comes to an id after another.
func (q Query) behind(id, other ID) bool {
	if q.Newest {
		return id < other
	}
	return id > other
}

// scanned reads up to entriesPage entries from one id on, and says where the next
// page starts (0: there is none).
func (r reader) scanned(q Query, from ID) (page []pageItem, following ID, err error) {
	bound, n, odd := q.To, 0, false
	if q.Newest {
		bound = max(q.From, 1)
	}
	visit := func(k, v []byte) bool {
		id := entryID(k)
		if id == 0 {
			odd = true
			return true
		}
		if !q.within(id) {
			return false
		}
		if n++; n > entriesPage {
			bound = page[len(page)-1].id
			return false
		}
		page = append(page, pageItem{id: id, value: bytes.Clone(v)})
		return true
	}
	err = r.tail.read(func() error {
		err := r.view(func(t tree) error {
			if q.Newest {
				return t.descend(bucketEntries, key(from), visit)
			}
			return t.ascend(bucketEntries, key(from), visit)
		})
		first, last := from, bound
		if q.Newest {
			first, last = bound, from
		}
		page = r.withTail(page, first, last)
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	sortPage(page, q.Newest)
	if odd {
		page = append(page, pageItem{err: errOddKey})
	}
	if n > entriesPage && q.Newest {
		following = bound - 1
	} else if n > entriesPage {
		following = bound + 1
	}
	return page, following, nil
}

// withTail puts what the tail says of entries in the place of what the store says.
// The tail is held still.
func (r reader) withTail(page []pageItem, first, last ID) []pageItem {
	page = slices.DeleteFunc(page, func(i pageItem) bool {
		return r.tail.items[i.id] != nil || r.tail.gone(i.id)
	})
	for id, item := range r.tail.items {
		if id >= first && id <= last {
			page = append(page, pageItem{id: id, rec: item.rec})
		}
	}
	return page
}

func sortPage(page []pageItem, newest bool) {
	slices.SortFunc(page, func(a, b pageItem) int {
		if newest {
			a, b = b, a
		}
		return cmp.Compare(a.id, b.id)
	})
}

// found reads the entries of one group of ids that stand in the index between two
// values, and says where the next group starts.
func (r reader) found(q Query, from ID, lo, hi indexValue) (page []pageItem, following ID, err error) {
	group := indexGroup(from)
	first, last := max(groupStart(group), q.From, 1), min(groupStart(group+1)-1, q.To)
	err = r.tail.read(func() error {
		err := r.view(func(t tree) (err error) {
			if page, err = stored(t, q, group, lo, hi); err != nil {
				return err
			}
			switch {
			case q.Newest && first > max(q.From, 1):
				following, err = r.next(t, q, first-1)
			case !q.Newest && last < q.To:
				following, err = r.next(t, q, last+1)
			}
			return err
		})
		page = r.withTail(page, first, last)
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	sortPage(page, q.Newest)
	if !q.within(following) {
		following = 0
	}
	return page, following, nil
}

// next is the first entry that a query comes to from an id on, 0 for none: groups
// without any, of which a damaged key can feign very many, are passed over. The tail is
// held still.
func (r reader) next(t tree, q Query, from ID) (id ID, err error) {
	nearer := func(at ID) {
		if (at == from || q.behind(at, from)) && (id == 0 || q.behind(id, at)) {
			id = at
		}
	}
	for at := range r.tail.items {
		nearer(at)
	}
	visit := func(k, _ []byte) bool {
		at := entryID(k)
		nearer(at)
		return at == 0
	}
	if q.Newest {
		err = t.descend(bucketEntries, key(from), visit)
	} else {
		err = t.ascend(bucketEntries, key(from), visit)
	}
	return id, err
}

// stored reads what the store's index has of a group. Where a part of the index
// cannot be read, the group's entries are all looked at, and the damage is told.
func stored(t tree, q Query, group uint32, lo, hi indexValue) (page []pageItem, err error) {
	var bad error
	seen, prefix := map[ID]bool{}, packOf{group, lo.kind}.prefix()
	err = t.ascend(bucketIndex, prefix, func(k, v []byte) bool {
		if !bytes.HasPrefix(k, prefix) {
			return false
		}
		p, err := decodePack(k, v)
		if bad = errors.Join(bad, err); err != nil {
			return true
		}
		p.between(lo.value, hi.value, func(n int) {
			if id := groupStart(group) + ID(n); q.within(id) {
				seen[id] = true
			}
		})
		return true
	})
	if err == nil && bad != nil {
		err = wholeGroup(t, q, group, seen)
		page = append(page, pageItem{err: bad})
	}
	missing := 0
	for id := range seen {
		if err != nil {
			return nil, err
		}
		item := pageItem{id: id}
		var value []byte
		if value, err = t.get(bucketEntries, key(id)); err == nil && value == nil {
			item.err = fmt.Errorf("entry %d: %w: it is in the index and nowhere else", id, ErrDamaged)
			missing++
		}
		item.value = bytes.Clone(value)
		page = append(page, item)
	}
	if err != nil || missing == 0 {
		return page, err
	}
	gone, err := goneOf(t, group)
	return slices.DeleteFunc(page, func(i pageItem) bool { return i.id != 0 && i.err != nil && gone[i.id] }), err
}

// goneOf are the entries of a group that were pruned: their places stay in the index
// until the whole group is gone.
func goneOf(t tree, group uint32) (gone map[ID]bool, err error) {
	gone = map[ID]bool{}
	prefix := packOf{group, indexGone}.prefix()
	err = t.ascend(bucketIndex, prefix, func(k, v []byte) bool {
		if !bytes.HasPrefix(k, prefix) {
			return false
		}
		p, err := decodePack(k, v)
		if err != nil {
			return true // those in it count as lost: the query says so of each
		}
		for i := range p.n {
			_, n := p.place(i)
			gone[groupStart(group)+ID(n)] = true
		}
		return true
	})
	return gone, err
}

// wholeGroup notes all entries of a group that a query could select.
func wholeGroup(t tree, q Query, group uint32, seen map[ID]bool) error {
	return t.ascend(bucketEntries, key(groupStart(group)), func(k, _ []byte) bool {
		id := entryID(k)
		if indexGroup(id) != group {
			return false
		}
		if q.within(id) {
			seen[id] = true
		}
		return true
	})
}
