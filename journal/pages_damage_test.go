package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// pagesScene is a small file with everything in it: trees of two and of three
// levels, overflow, small buckets, an empty one, a free list; and what it held
// one commit earlier.
type pagesScene struct {
	data        []byte
	txid        uint64
	want, older map[string][]pair
	pages       int64
	// below is how many pairs hang on a page; kind is what the page is.
	below map[uint64]int
	kind  map[uint64]uint16
	// owner is the bucket that a page belongs to; free is what belongs to none.
	owner map[uint64]string
	free  *pageSet
	// rootPages are the places where the page numbers of buckets stand.
	rootPages map[int]bool
	// structure are the places of counts, positions, sizes and page numbers, and
	// the keys of branches: changed, they give an error or change nothing. The
	// sizes of a page's last element are not among them: nothing follows that
	// would contradict them, only the value's checksum.
	structure map[int]bool
}

const scenePageSize = 1024

func longKey(i int) []byte { return append(key(ID(i)), bytes.Repeat([]byte{'k'}, 180)...) }

func newPagesScene(t testing.TB) *pagesScene {
	t.Helper()
	first := func(tx *bolt.Tx) error {
		for _, name := range []string{"empty", "lanes", "wide"} {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		for i := range 26 {
			if err := tx.Bucket([]byte("wide")).Put(longKey(i), sealedValue(longKey(i), []byte("w"))); err != nil {
				return err
			}
		}
		k := []byte("\x08TERM0001MERCHANT0000001")
		return tx.Bucket([]byte("lanes")).Put(k, sealedValue(k, []byte{1, 2, 3}))
	}
	history := []func(*bolt.Tx) error{
		first, putPairs("entries", 100, 40, 60), putPairs("entries", 140, 1, 2500), putPairs("open", 7, 4, 12), putPairs("entries", 141, 10, 50),
	}
	last := deletePairs("entries", 104, 3)
	s := &pagesScene{below: map[uint64]int{}, kind: map[uint64]uint16{}, owner: map[uint64]string{}, rootPages: map[int]bool{}, structure: map[int]bool{}}
	s.older = contentOf(t, boltBytes(t, scenePageSize, history...))
	s.data = boltBytes(t, scenePageSize, append(history, last)...)
	s.want = contentOf(t, s.data)
	p := mustPages(t, s.data)
	wantWhole(t, p, names(s.want)...)
	s.txid, s.pages = p.txid(), int64(len(s.data))/scenePageSize
	s.kind[p.meta.freelist] = kindFree
	s.survey(t, p, p.meta.root, "")
	s.free = newPageSet(p.end())
	if err := p.readFreelist(newPageSet(p.end()), s.free); err != nil {
		t.Fatalf("scene: %v", err)
	}
	deep := 0
	for _, kind := range s.kind {
		if kind == kindBranch {
			deep++
		}
	}
	if deep < 4 || s.below[p.meta.root] != len(s.want["entries"])+len(s.want["wide"])+len(s.want["open"])+len(s.want["lanes"]) {
		t.Fatalf("scene: %d branches, %d pairs", deep, s.below[p.meta.root])
	}
	return s
}

// survey counts what hangs on each page.
func (s *pagesScene) survey(t testing.TB, p *pages, id uint64, owner string) int {
	t.Helper()
	var buf []byte
	n, err := p.node(id, &buf)
	if err != nil {
		t.Fatalf("scene: %v", err)
	}
	s.noteStructure(t, n, int(id)*scenePageSize)
	count := 0
	for i := range n.count {
		e, err := n.element(i)
		if err != nil {
			t.Fatalf("scene: %v", err)
		}
		switch {
		case !n.leaf:
			count += s.survey(t, p, e.child, owner)
		case e.bucket:
			tree, err := parseBucket(e)
			if err != nil {
				t.Fatalf("scene: %v", err)
			}
			value := int(id)*scenePageSize + e.end - len(e.value)
			for i := range 8 {
				s.rootPages[value+i] = true
			}
			if tree.inline != nil {
				count += tree.inline.count
				s.noteStructure(t, *tree.inline, value+bucketHeaderBytes)
			} else {
				count += s.survey(t, p, tree.root, string(e.key))
			}
		default:
			count++
		}
	}
	for i := range n.pages {
		s.below[id+i], s.kind[id+i], s.owner[id+i] = count, kindBranch, owner
		if n.leaf {
			s.kind[id+i] = kindLeaf
		}
	}
	return count
}

func (s *pagesScene) noteStructure(t testing.TB, n pageNode, start int) {
	t.Helper()
	for at := range pageHeaderBytes + n.count*pageElementBytes {
		s.structure[start+at] = true
	}
	last, err := n.element(n.count - 1)
	if err != nil && n.count > 0 {
		t.Fatalf("scene: %v", err)
	}
	switch {
	case !n.leaf:
		for at := range last.end {
			s.structure[start+at] = true
		}
	case !n.inline:
		for i := range 8 {
			delete(s.structure, start+pageHeaderBytes+n.count*pageElementBytes-8+i)
		}
	}
}

const misled = "misled"

// wantContent is what a file whose meta page in use is this one should hold.
func (s *pagesScene) wantContent(t *testing.T, what string, p *pages) map[string][]pair {
	t.Helper()
	if p.txid() == s.txid {
		return s.want
	}
	if metas := p.metas(); metas[s.txid%2] == nil {
		t.Errorf("%s: the newest commit is lost and nothing is said", what)
	}
	return s.older
}

// judge holds a damaged file to its promise: an error or the right answer. only
// is the one bucket to look at, "" for all; misled when a bucket may lead to pages
// that are not its own.
func (s *pagesScene) judge(t *testing.T, what string, data []byte, at int, only string) {
	t.Helper()
	m := &memoryFile{data: data}
	p, err := m.open()
	if err != nil {
		wantErr(t, what, err, ErrDamaged)
		return
	}
	want := s.wantContent(t, what, p)
	all := p.checkAll(context.Background())
	skeleton := p.checkSkeleton(names(want)...)
	_ = p.checkFreelist()
	for name, list := range want {
		if only != "" && only != misled && name != only {
			continue
		}
		got, err := walkAll(p, name, nil, false)
		if err != nil {
			wantErr(t, what, err, ErrDamaged)
			if all == nil && !errors.Is(err, errNoBucket) { // a name may be damaged, and be another name
				t.Errorf("%s: %s: %v, and checkAll found nothing", what, name, err)
			}
		} else if len(got) != len(list) && skeleton != nil && only == misled {
			continue // a bucket's own page number was changed, and checkSkeleton tells
		} else if len(got) != len(list) {
			t.Errorf("%s: %s: %d pairs, want %d or an error", what, name, len(got), len(list))
			continue
		}
		for i := range got {
			if got[i] != list[i] && (s.structure[at] || sealHolds([]byte(got[i].key), []byte(got[i].value))) {
				t.Errorf("%s: %s: pair %d is another", what, name, i)
			}
		}
		back, backErr := walkAll(p, name, nil, true)
		if slices.Reverse(back); (err == nil) != (backErr == nil) || err == nil && !slices.Equal(got, back) {
			t.Errorf("%s: %s: rising %d pairs, %v; falling %d, %v", what, name, len(got), err, len(back), backErr)
		}
		s.judgeGets(t, what, p, at, name, list, got)
	}
	if all == nil && skeleton != nil && !errors.Is(skeleton, errNoBucket) {
		t.Errorf("%s: %v, and checkAll found nothing", what, skeleton)
	}
	if limit := 200 * s.pages; m.reads.Load() > limit {
		t.Errorf("%s: %d reads, more than %d", what, m.reads.Load(), limit)
	}
}

// judgeGets looks for some keys that are there and for some that are not.
func (s *pagesScene) judgeGets(t *testing.T, what string, p *pages, at int, name string, list, walked []pair) {
	t.Helper()
	for i := range list {
		if i%5 != 0 && len(list) > 10 {
			continue
		}
		k := []byte(list[i].key)
		v, err := p.get([]byte(name), k)
		switch {
		case err != nil:
			wantErr(t, what, err, ErrDamaged)
		case v == nil:
			// Its key is another now; whoever walks over it sees that its seal is broken.
			if s.structure[at] || i >= len(walked) || walked[i].key == list[i].key || sealHolds([]byte(walked[i].key), []byte(walked[i].value)) {
				t.Errorf("%s: %s: key %d is said to be absent", what, name, i)
			}
		case string(v) != list[i].value && sealHolds(k, v):
			t.Errorf("%s: %s: key %d has another value", what, name, i)
		}
		k[len(k)-1] ^= 0x80
		if slices.ContainsFunc(list, func(p pair) bool { return p.key == string(k) }) {
			continue
		}
		if v, err := p.get([]byte(name), k); err == nil && v != nil && sealHolds(k, v) {
			t.Errorf("%s: %s: a key that is not there has a value", what, name)
		}
	}
}

// judgeAround: what cannot be read hides nothing but itself.
func (s *pagesScene) judgeAround(t *testing.T, what string, data []byte, at int, only string) {
	t.Helper()
	p, err := (&memoryFile{data: data}).open()
	if err != nil || p.txid() != s.txid {
		return
	}
	lost, reports := 0, 0
	if only == misled {
		return
	}
	for name, list := range s.want {
		if only != "" && name != only {
			continue
		}
		for _, walk := range []func([]byte, []byte, func(k, v []byte) bool, func(error)){p.ascendAround, p.descendAround} {
			seen := map[pair]bool{}
			walk([]byte(name), nil, func(k, v []byte) bool {
				if sealHolds(k, v) {
					seen[pair{string(k), string(v)}] = true
				}
				return true
			}, func(err error) {
				reports++
				wantErr(t, what, err, ErrDamaged)
			})
			for _, pair := range list {
				if !seen[pair] {
					lost++
				}
			}
		}
	}
	id, offset := uint64(at/scenePageSize), at%scenePageSize
	may := s.below[id]
	if s.kind[id] == kindBranch && offset >= pageHeaderBytes && (offset%pageElementBytes < 8 || offset > 500) {
		may = 0 // a key or its place: the children are where they were
	}
	root := mustPages(t, s.data).meta.root
	if s.kind[id] == kindLeaf && id != root && offset >= pageHeaderBytes {
		may = min(may, 1)
	}
	if lost > 2*may {
		t.Errorf("%s: %d pairs are lost, both ways; %d hang on the page", what, lost, may)
	}
	if lost > 2 && reports == 0 {
		t.Errorf("%s: %d pairs are lost, both ways, and nothing was said", what, lost)
	}
}

// everyByte is set for the long run: every byte twice, and every bucket looked at.
const everyByte = "UNCHARGE_TEST_EVERY_BYTE"

// changes gives the bytes to change and how: of what holds a file together every
// byte, of keys, values, free pages and unused space some.
func (s *pagesScene) changes(yield func(at int, mask byte) bool) {
	long := os.Getenv(everyByte) != ""
	for at := range s.data {
		id, offset := uint64(at/scenePageSize), at%scenePageSize
		matters := s.structure[at] || s.rootPages[at] || offset < s.elementsEnd(id)
		masks := []byte{1 << (at % 8), 0xff}
		switch {
		case long:
		case (testing.Short() || pagesUnderRace) && at%17 != 0, !matters && at%29 != 0, s.free.has(id) && at%127 != 0:
			continue
		default:
			masks = masks[at/3%2:][:1]
		}
		for _, mask := range masks {
			if !yield(at, mask) {
				return
			}
		}
	}
}

// L13: each byte changed, one bit or all bits.
func TestL13PagesEachByte(t *testing.T) {
	t.Parallel()
	s := newPagesScene(t)
	for at, mask := range s.changes {
		id := uint64(at / scenePageSize)
		// A page that belongs to one bucket matters to that one.
		only := s.owner[id]
		if s.rootPages[at] {
			only = misled
		} else if os.Getenv(everyByte) != "" {
			only = ""
		}
		bad := slices.Clone(s.data)
		bad[at] ^= mask
		what := fmt.Sprintf("page %d, byte %d ^ %#x", id, at%scenePageSize, mask)
		s.judge(t, what, bad, at, only)
		s.judgeAround(t, what, bad, at, only)
		if t.Failed() {
			return
		}
	}
}

// elementsEnd is where a page's elements end and keys and values begin.
func (s *pagesScene) elementsEnd(id uint64) int {
	if id < 2 {
		return metaPageBytes
	}
	count := int(parseHeader(s.data[id*scenePageSize:]).count)
	return pageHeaderBytes + min(count, scenePageSize/pageElementBytes)*pageElementBytes
}

// L13: the file ends early.
func TestL13PagesCut(t *testing.T) {
	t.Parallel()
	s := newPagesScene(t)
	for size := 0; size < len(s.data); size += 64 {
		what := fmt.Sprintf("cut to %d of %d bytes", size, len(s.data))
		s.judge(t, what, s.data[:size], -1, "")
		p, err := (&memoryFile{data: s.data[:size]}).open()
		if err != nil {
			continue
		}
		wantErr(t, what, errors.Join(p.wrong[:]...), ErrDamaged)
		wantErr(t, what, p.checkAll(context.Background()), ErrDamaged)
		wantErr(t, what, p.checkSkeleton(), ErrDamaged)
	}
}

// L13: the medium does not give one page: an error that names it, and the rest
// is there.
func TestL13PagesUnreadable(t *testing.T) {
	t.Parallel()
	s := newPagesScene(t)
	for id := range s.pages {
		m := &memoryFile{data: s.data, unreadable: func(from, to int64) bool {
			return from < (id+1)*scenePageSize && to > id*scenePageSize
		}}
		p, err := m.open()
		if err != nil {
			t.Fatalf("page %d: %v", id, err)
		}
		want := s.wantContent(t, fmt.Sprint("page ", id), p)
		lost := 0
		for name, list := range want {
			got, err := walkAll(p, name, nil, false)
			if err == nil && !slices.Equal(got, list) {
				t.Errorf("page %d: %s: %d pairs, want %d or an error", id, name, len(got), len(list))
			}
			if err != nil {
				wantErr(t, "walk", err, errMedium)
				wantErr(t, "walk", err, ErrDamaged)
			}
			n := 0
			var bad error
			p.ascendAround([]byte(name), nil, func(k, v []byte) bool {
				n++
				return true
			}, func(err error) { bad = errors.Join(bad, err) })
			if lost += len(list) - n; n < len(list) || bad != nil {
				wantErr(t, "around", bad, errMedium)
			}
		}
		if id >= 2 && lost != s.below[uint64(id)] && s.kind[uint64(id)] != kindFree {
			t.Errorf("page %d: %d pairs are lost, %d hang on it", id, lost, s.below[uint64(id)])
		}
	}
}
