package journal

import (
	"cmp"
	"maps"
	"slices"
)

// Every legal power cut, part 2: the model of a disk. It knows of each file and
// directory what a program sees, what is on the disk for certain, and what was
// done since, in order, and may be on the disk or not:
//
//   - Of each sector of 512 bytes some first part of the writes to it, on its own.
//     Or of each page of 4096 bytes, when the disk writes such pages whole.
//   - Of the changes of a file's size some first part. Bytes that a file lost with
//     its size are not seen again if that change is on the disk, nor bytes written
//     after it if it is not.
//   - Of the names in a directory some first part of the changes. A file's sync
//     does nothing for its name. A name means the file, with what the file has.
//   - A sync makes certain what had ended before it began, once it has ended. What a
//     failed sync covered may never reach the disk, whatever a later one says (the
//     kernel calls those pages clean), unless it is written again. The same holds for
//     names: file systems without a journal (ext2, FAT) lose them so.

const sectorBytes = 512

// node is a file, or a directory when names is not nil.
type node struct {
	number int
	synced bool // by anybody, at any time; a file that never is means nothing to anybody

	now     []byte            // what a program reads
	certain []byte            // on the disk; may reach beyond size
	size    int64             // on the disk
	shrunk  int               // how often it had shrunk when it had that size
	sizes   []resized         // since, in order
	sectors map[int64][]piece // since, in order
	sum     uint64            // of certain, if summed
	summed  bool

	names  map[string]*node // what a program sees
	listed map[string]*node // on the disk
	moves  []move           // since, in order
}

// doubtful is what was done and is not certain to be on the disk.
type doubtful struct {
	by   *kcall
	lost bool // a sync that covered it failed
}

type resized struct {
	doubtful
	size   int64
	shrunk int // how often the file shrank up to here
}

type piece struct {
	doubtful
	at     int // in the sector
	data   []byte
	shrunk int  // how often the file had shrunk before
	zeros  bool // what was there went when the file shrank
}

// move is one change of a directory: a name that goes, a name that comes, or both.
type move struct {
	doubtful
	gone, come string
	node       *node
	other      *node // a file that goes from one directory to another: the other one
}

func (m move) apply(names map[string]*node) {
	delete(names, m.gone)
	if m.come != "" {
		names[m.come] = m.node
	}
}

// disk is all files and directories, with or without a name.
type disk struct {
	top   *node
	nodes []*node
}

func newDisk(from image) *disk {
	d := &disk{}
	d.top = d.newNode(true)
	for _, path := range from.paths() {
		dir, name := d.find(path)
		n := d.newNode(from[path].dir)
		n.now = slices.Clone(from[path].data)
		n.certain, n.size = slices.Clone(n.now), int64(len(n.now))
		dir.names[name], dir.listed[name] = n, n
	}
	return d
}

func (d *disk) newNode(directory bool) *node {
	n := &node{number: len(d.nodes), sectors: map[int64][]piece{}}
	if directory {
		n.names, n.listed = map[string]*node{}, map[string]*node{}
	}
	d.nodes = append(d.nodes, n)
	return n
}

func (d *disk) change(dir *node, m move) {
	m.apply(dir.names)
	dir.moves = append(dir.moves, m)
}

// write is pending from the start of its call on. Two calls that write one sector
// at the same time have no order: the model would be wrong about them, and says so.
func (n *node) write(c *kcall, at int64, data []byte) (ordered bool) {
	ordered = true
	end := at + int64(len(data))
	for s := at / sectorBytes; s*sectorBytes < end; s++ {
		from, to := max(at, s*sectorBytes), min(end, (s+1)*sectorBytes)
		for _, p := range n.sectors[s] {
			ordered = ordered && (p.by.end < c.start || p.by == c)
		}
		n.sectors[s] = append(n.sectors[s], piece{
			doubtful: doubtful{by: c}, at: int(from - s*sectorBytes), data: data[from-at : to-at], shrunk: n.shrinks(),
		})
	}
	if end > int64(len(n.now)) {
		n.now = append(n.now, make([]byte, end-int64(len(n.now)))...)
		n.sizes = append(n.sizes, resized{doubtful{by: c}, end, n.shrinks()})
	}
	copy(n.now[at:], data)
	return ordered
}

func (n *node) shrinks() int {
	if len(n.sizes) == 0 {
		return n.shrunk
	}
	return n.sizes[len(n.sizes)-1].shrunk
}

// resize gives the file another size, or leaves it as it is.
func (n *node) resize(c *kcall, size int64) {
	was, shrinks := int64(len(n.now)), n.shrinks()
	switch {
	case size == was:
		return
	case size > was:
		n.now = append(n.now, make([]byte, size-was)...)
	default:
		shrinks++
		for s := size / sectorBytes; s*sectorBytes < was; s++ {
			from := max(size-s*sectorBytes, 0)
			n.sectors[s] = append(n.sectors[s], piece{
				doubtful: doubtful{by: c}, at: int(from), data: make([]byte, sectorBytes-from), shrunk: shrinks, zeros: true,
			})
		}
		n.now = n.now[:size:size]
	}
	n.sizes = append(n.sizes, resized{doubtful{by: c}, size, shrinks})
}

// settle makes certain what had ended before a moment.
func (n *node) settle(before int) {
	for s, pieces := range n.sectors {
		done := lastSafe(pieces, before, func(p piece) doubtful { return p.doubtful })
		for _, p := range pieces[:done] {
			n.certain, n.summed = p.put(n.certain, s), false
		}
		if n.sectors[s] = pieces[done:]; done == len(pieces) {
			delete(n.sectors, s)
		}
	}
	if done := lastSafe(n.sizes, before, func(r resized) doubtful { return r.doubtful }); done > 0 {
		n.size, n.shrunk = n.sizes[done-1].size, n.sizes[done-1].shrunk
		n.sizes = n.sizes[done:]
	}
	n.list(lastSafe(n.moves, before, func(m move) doubtful { return m.doubtful }))
}

// list makes the first so many moves certain, and with a move to another directory
// what it needs there.
func (n *node) list(done int) {
	moves := n.moves[:done]
	n.moves = n.moves[done:]
	for _, m := range moves {
		m.apply(n.listed)
		if m.other != nil {
			m.other.list(m.other.upTo(m.by))
		}
	}
}

// upTo counts the moves up to the one by a call, 0 when that is certain already.
func (n *node) upTo(c *kcall) int {
	return 1 + slices.IndexFunc(n.moves, func(m move) bool { return m.by == c })
}

// lastSafe counts the changes up to the last that a good sync covers: what came
// before that one is on the disk with it.
func lastSafe[T any](list []T, before int, of func(T) doubtful) int {
	for i := len(list) - 1; i >= 0; i-- {
		if d := of(list[i]); d.by.end < before && !d.lost {
			return i + 1
		}
	}
	return 0
}

// lose marks what had ended before a moment: the sync that covered it failed.
func (n *node) lose(before int) {
	for _, pieces := range n.sectors {
		for i := range pieces {
			pieces[i].lost = pieces[i].lost || pieces[i].by.end < before
		}
	}
	for i := range n.sizes {
		n.sizes[i].lost = n.sizes[i].lost || n.sizes[i].by.end < before
	}
	for i := range n.moves {
		n.moves[i].lost = n.moves[i].lost || n.moves[i].by.end < before
	}
}

// put writes the piece into a file's content, which grows as it must.
func (p piece) put(content []byte, sector int64) []byte {
	at := int(sector*sectorBytes) + p.at
	if end := at + len(p.data); end > len(content) {
		content = append(content, make([]byte, end-len(content))...)
	}
	copy(content[at:], p.data)
	return content
}

// doubts lists the calls whose effect is not certain, in order.
func (d *disk) doubts() []*kcall {
	set := map[*kcall]bool{}
	for _, n := range d.nodes {
		for _, pieces := range n.sectors {
			for _, p := range pieces {
				set[p.by] = true
			}
		}
		for _, r := range n.sizes {
			set[r.by] = true
		}
		for _, m := range n.moves {
			set[m.by] = true
		}
	}
	return callsInOrder(set)
}

func callsInOrder(set map[*kcall]bool) []*kcall {
	return slices.SortedFunc(maps.Keys(set), func(a, b *kcall) int { return cmp.Compare(a.start, b.start) })
}
