package journal

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Every legal power cut, part 3: what the disk may hold after one.

// image is a directory with all that is in it, by path below it.
type image map[string]imageContent

type imageContent struct {
	dir  bool
	data []byte
}

func (im image) paths() []string { return slices.Sorted(maps.Keys(im)) }

func (im image) same(other image) bool {
	return maps.EqualFunc(im, other, func(a, b imageContent) bool { return a.dir == b.dir && bytes.Equal(a.data, b.data) })
}

// String gives names and sizes.
func (im image) String() string {
	var b strings.Builder
	for _, path := range im.paths() {
		fmt.Fprintf(&b, "%s(%d) ", path, len(im[path].data))
	}
	return b.String()
}

// put makes the image in an empty directory.
func (im image) put(dir string) error {
	for _, path := range im.paths() { // a directory sorts before what is in it
		var err error
		if im[path].dir {
			err = os.Mkdir(filepath.Join(dir, path), 0o700)
		} else {
			err = os.WriteFile(filepath.Join(dir, path), im[path].data, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// chooser says how many of some changes, done in order by these calls, are on the
// disk.
type chooser func(by []*kcall) int

// these is what is on the disk when of all calls in doubt only some took effect:
// each takes what came before it in the same place with it.
func these(took map[*kcall]bool) chooser {
	return func(by []*kcall) int {
		for i := len(by) - 1; i >= 0; i-- {
			if took[by[i]] {
				return i + 1
			}
		}
		return 0
	}
}

// byChance decides for each place on its own. A disk that wrote nearly all or
// nearly nothing is drawn as often as one in the middle.
func byChance(chance *rand.Rand) chooser {
	all, none := 0.33, 0.33
	switch chance.IntN(3) {
	case 0:
		all, none = 0.05, 0.9
	case 1:
		all, none = 0.9, 0.05
	}
	return func(by []*kcall) int {
		switch dice := chance.Float64(); {
		case dice < all:
			return len(by)
		case dice < all+none:
			return 0
		}
		return chance.IntN(len(by) + 1)
	}
}

// asRead is what a program reads while the power is on.
func (d *disk) asRead() image {
	out := image{}
	var list func(*node, string)
	list = func(dir *node, at string) {
		for name, n := range dir.names {
			path := filepath.Join(at, name)
			out[path] = imageContent{dir: n.names != nil, data: n.now}
			list(n, path)
		}
	}
	list(d.top, "")
	return out
}

// outcome is a possible outcome of a power cut: what of each file and directory is on
// the disk. It is good until the disk changes.
type outcome map[string]part

type part struct {
	node  *node
	size  int64
	wrote map[int64][]piece // by sector
}

// outcome is what the disk holds when the power fails now and each place took what
// choose says. grain is how many sectors the disk writes as one.
func (d *disk) outcome(grain int64, choose chooser) outcome {
	out, seen := outcome{}, map[*node]part{}
	moved := d.moved(choose)
	var list func(*node, string)
	list = func(dir *node, at string) {
		names := maps.Clone(dir.listed)
		for _, m := range dir.moves[:moved[dir]] {
			m.apply(names)
		}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			n, path := names[name], filepath.Join(at, name)
			if n.names != nil {
				out[path] = part{node: n}
				list(n, path)
				continue
			}
			if _, known := seen[n]; !known {
				seen[n] = n.after(grain, choose)
			}
			out[path] = seen[n]
		}
	}
	list(d.top, "")
	return out
}

// image has the bytes.
func (o outcome) image() image {
	im := image{}
	for path, p := range o {
		im[path] = imageContent{p.node.names != nil, p.content()}
	}
	return im
}

// moved is how many moves of each directory are on the disk. One from a directory to
// another is in both or in none.
func (d *disk) moved(choose chooser) map[*node]int {
	moved := map[*node]int{}
	for _, dir := range d.nodes {
		if took := ask(choose, dir.moves, func(m move) *kcall { return m.by }); took > 0 {
			moved[dir] = took
		}
	}
	for more := true; more; {
		more = false
		for dir, took := range maps.Clone(moved) {
			for _, m := range dir.moves[:took] {
				if m.other != nil && moved[m.other] < m.other.upTo(m.by) {
					moved[m.other], more = m.other.upTo(m.by), true
				}
			}
		}
	}
	return moved
}

func ask[T any](choose chooser, list []T, of func(T) *kcall) int {
	if len(list) == 0 {
		return 0
	}
	by := make([]*kcall, len(list))
	for i, item := range list {
		by[i] = of(item)
	}
	return choose(by)
}

// after is what of a file is on the disk after the cut.
func (n *node) after(grain int64, choose chooser) part {
	p, shrunk := part{n, n.size, map[int64][]piece{}}, n.shrunk
	if took := ask(choose, n.sizes, func(r resized) *kcall { return r.by }); took > 0 {
		p.size, shrunk = n.sizes[took-1].size, n.sizes[took-1].shrunk
	}
	grains := map[int64]map[*kcall]bool{}
	for s, pieces := range n.sectors {
		g := grains[s/grain]
		if g == nil {
			g = map[*kcall]bool{}
			grains[s/grain] = g
		}
		for _, one := range pieces {
			g[one.by] = true
		}
	}
	for _, g := range slices.Sorted(maps.Keys(grains)) {
		by := callsInOrder(grains[g])
		last := -1
		if took := choose(by); took > 0 {
			last = by[took-1].start
		}
		for s := g * grain; s < (g+1)*grain; s++ {
			if pieces := legal(n.sectors[s], last, shrunk); len(pieces) > 0 {
				p.wrote[s] = pieces
			}
		}
	}
	return p
}

func (p part) content() []byte {
	data := make([]byte, p.size)
	copy(data, p.node.certain)
	for s, pieces := range p.wrote {
		for _, one := range pieces {
			data = one.put(data, s)
		}
	}
	return data[:p.size:p.size]
}

// legal is the first part of a sector's pieces that is on the disk: those up to a
// call, but all that the shrinking of the file took along and nothing from after a
// shrinking that is not on the disk.
func legal(pieces []piece, last, shrunk int) []piece {
	low, high, want := 0, 0, 0
	for i, p := range pieces {
		if p.shrunk > shrunk {
			break
		}
		high = i + 1
		if p.zeros {
			low = i + 1
		}
		if p.by.start <= last {
			want = i + 1
		}
	}
	return pieces[:min(max(want, low), high)]
}

// imageIn reads a directory.
func imageIn(dir string) (image, error) {
	im := image{}
	err := filepath.WalkDir(dir, func(path string, f os.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, c := path[len(dir)+1:], imageContent{dir: f.IsDir()}
		if !c.dir {
			c.data, err = os.ReadFile(path)
		}
		im[rel] = c
		return err
	})
	return im, err
}
