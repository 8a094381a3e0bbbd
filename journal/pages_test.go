package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// pair is a key with its value.
type pair struct{ key, value string }

// sealedValue is a body and a CRC-32C over key and body, as the journal's records
// have one: a walker answers for structure, the checksum for the rest.
func sealedValue(key, body []byte) []byte {
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, body)
	return binary.LittleEndian.AppendUint32(slices.Clone(body), sum)
}

func sealHolds(key, value []byte) bool {
	return len(value) >= 4 && bytes.Equal(value, sealedValue(key, value[:len(value)-4]))
}

// memoryFile is a file in memory that counts its reads and fails where told to.
type memoryFile struct {
	data  []byte
	reads atomic.Int64
	// unreadable says which bytes the medium does not give.
	unreadable func(from, to int64) bool
}

var errMedium = errors.New("input/output error")

func (m *memoryFile) ReadAt(b []byte, at int64) (int, error) {
	m.reads.Add(1)
	if m.unreadable != nil && m.unreadable(at, at+int64(len(b))) {
		return 0, errMedium
	}
	return bytes.NewReader(m.data).ReadAt(b, at)
}

// open opens it as pages.
func (m *memoryFile) open() (*pages, error) { return openPages(m, int64(len(m.data))) }

func mustPages(t teller, data []byte) *pages {
	t.Helper()
	p, err := (&memoryFile{data: data}).open()
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return p
}

// boltOptions are for tests: power cuts are not the point, speed is.
func boltOptions(pageSize int) *bolt.Options {
	return &bolt.Options{PageSize: pageSize, NoSync: true, NoStatistics: true}
}

// openBolt makes or opens a bbolt file; it is closed with the test.
func openBolt(t testing.TB, path string, options *bolt.Options) *bolt.DB {
	t.Helper()
	db, err := bolt.Open(path, 0o600, options)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	db.AllocSize = 16 << 10
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// boltBytes makes a bbolt file by one commit after the other and gives its bytes,
// those of the pages in use.
func boltBytes(t testing.TB, pageSize int, commits ...func(*bolt.Tx) error) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store")
	db := openBolt(t, path, boltOptions(pageSize))
	for _, commit := range commits {
		if err := db.Update(commit); err != nil {
			t.Fatalf("scene: %v", err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatalf("scene: %v", err)
	}
	data := fileBytes(t, path)
	p := mustPages(t, data)
	return data[:int64(p.meta.high)*p.pageSize]
}

// content is what bbolt says is in a file: bucket, then pairs in order.
func content(t teller, db *bolt.DB) map[string][]pair {
	t.Helper()
	all := map[string][]pair{}
	err := db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			list := []pair{}
			err := b.ForEach(func(k, v []byte) error {
				list = append(list, pair{string(k), string(v)})
				return nil
			})
			all[string(name)] = list
			return err
		})
	})
	if err != nil {
		t.Fatalf("bbolt: %v", err)
	}
	return all
}

// contentOf is content for bytes.
func contentOf(t testing.TB, data []byte) map[string][]pair {
	t.Helper()
	path := filepath.Join(t.TempDir(), "content")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	db := openBolt(t, path, &bolt.Options{ReadOnly: true})
	defer func() { _ = db.Close() }()
	return content(t, db)
}

// walkAll gives all pairs of a bucket, rising or falling, from a key on.
func walkAll(p *pages, bucket string, from []byte, falling bool) (list []pair, err error) {
	list = []pair{}
	walk := p.ascend
	if falling {
		walk = p.descend
	}
	err = walk([]byte(bucket), from, func(k, v []byte) bool {
		list = append(list, pair{string(k), string(v)})
		return true
	})
	return list, err
}

// repairMeta gives a meta page that was changed a checksum that fits.
func repairMeta(data []byte, at int64) {
	sum := fnv.New64a()
	_, _ = sum.Write(data[at+pageHeaderBytes : at+metaSumAt])
	binary.NativeEndian.PutUint64(data[at+metaSumAt:], sum.Sum64())
}

func names(content map[string][]pair) (list [][]byte) {
	for name := range content {
		list = append(list, []byte(name))
	}
	slices.SortFunc(list, bytes.Compare)
	return list
}

// wantWhole fails unless every check passes and both meta pages hold together.
func wantWhole(t teller, p *pages, buckets ...[]byte) {
	t.Helper()
	if metas := p.metas(); metas != [2]error{} {
		t.Errorf("meta pages: %v", metas)
	}
	if err := p.checkFreelist(); err != nil {
		t.Errorf("checkFreelist: %v", err)
	}
	if err := p.checkSkeleton(buckets...); err != nil {
		t.Errorf("checkSkeleton: %v", err)
	}
	if err := p.checkAll(context.Background()); err != nil {
		t.Errorf("checkAll: %v", err)
	}
}

func TestPagesOfAFileThatIsNone(t *testing.T) {
	t.Parallel()
	good := boltBytes(t, 1024)
	mark := binary.NativeEndian.AppendUint32(make([]byte, 16), boltMark)
	for _, c := range []struct {
		name string
		data []byte
		want error
	}{
		{"empty", nil, ErrDamaged},
		{"one byte", []byte{1}, ErrForeign},
		{"a text", bytes.Repeat([]byte("no journal at all\n"), 1000), ErrForeign},
		{"zeros", make([]byte, 1<<20), ErrForeign},
		{"the mark alone", mark, ErrDamaged},
		{"the mark and rubbish", append(mark, bytes.Repeat([]byte{0xA5}, 100_000)...), ErrDamaged},
		{"half a meta page", good[:50], ErrDamaged},
	} {
		_, err := (&memoryFile{data: c.data}).open()
		wantErr(t, c.name, err, c.want)
		if _, err := readTxid(&memoryFile{data: c.data}, 1024); err == nil {
			t.Errorf("%s: it has a transaction", c.name)
		}
	}
}

// Either meta page alone is enough, at every page size; what is wrong with the
// other one is told.
func TestPagesWithOneMetaPage(t *testing.T) {
	t.Parallel()
	for size := pageSizeMin; size <= pageSizeMax; size *= 2 {
		good := boltBytes(t, size, putPairs("a", 0, 3, 10), putPairs("a", 3, 4, 10))
		whole := mustPages(t, good)
		wantWhole(t, whole, []byte("a"))
		for page := range 2 {
			for _, what := range []string{"flipped", "zeroed", "unreadable"} {
				m := &memoryFile{data: slices.Clone(good)}
				at := page * size
				switch what {
				case "flipped":
					m.data[at+pageHeaderBytes+20] ^= 4
				case "zeroed":
					clear(m.data[at : at+size])
				case "unreadable":
					m.unreadable = func(from, to int64) bool { return from < int64(at+size) && to > int64(at) }
				}
				p, err := m.open()
				if err != nil {
					t.Fatalf("pages of %d, meta page %d %s: %v", size, page, what, err)
				}
				metas := p.metas()
				wantErr(t, "what is told", metas[page], ErrDamaged)
				if metas[1-page] != nil || p.pageSize != int64(size) || p.txid()%2 != uint64(1-page) {
					t.Errorf("pages of %d, meta page %d %s: %v, pages of %d, transaction %d", size, page, what, metas, p.pageSize, p.txid())
				}
				txid, err := readTxid(m, p.pageSize)
				if err != nil || txid != p.txid() {
					t.Errorf("readTxid: %d, %v, want %d", txid, err, p.txid())
				}
				want := 7 - 4*int(whole.txid()-p.txid()) // the other page is one commit older
				if list, err := walkAll(p, "a", nil, false); err != nil || len(list) != want {
					t.Errorf("pages of %d, meta page %d %s: %d pairs, %v, want %d", size, page, what, len(list), err, want)
				}
			}
		}
	}
}

// putPairs is a commit that puts keys first, first+1, … of 8 bytes, with values
// of size bytes and a checksum.
func putPairs(bucket string, first, n, size int) func(*bolt.Tx) error {
	return func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte(bucket))
		if err != nil {
			return err
		}
		for i := range n {
			k := key(ID(first + i))
			if err := b.Put(k, sealedValue(k, bytes.Repeat([]byte{byte(first+i) | 0x80}, size))); err != nil {
				return err
			}
		}
		return nil
	}
}

func deletePairs(bucket string, first, n int) func(*bolt.Tx) error {
	return func(tx *bolt.Tx) error {
		for i := range n {
			if err := tx.Bucket([]byte(bucket)).Delete(key(ID(first + i))); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestPagesWithoutTheBucket(t *testing.T) {
	t.Parallel()
	p := mustPages(t, boltBytes(t, 1024, putPairs("b", 0, 3, 10)))
	for _, name := range []string{"a", "bb", "c", ""} {
		for what, err := range map[string]error{
			"get":      second(p.get([]byte(name), key(1))),
			"sequence": second(p.sequence([]byte(name))),
			"ascend":   second(walkAll(p, name, nil, false)),
			"skeleton": p.checkSkeleton([]byte("b"), []byte(name)),
		} {
			wantErr(t, fmt.Sprintf("%s of %q", what, name), err, errNoBucket)
			wantErr(t, fmt.Sprintf("%s of %q", what, name), err, ErrDamaged)
		}
	}
}
