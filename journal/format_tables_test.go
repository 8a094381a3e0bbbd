package journal

import (
	"bytes"
	"encoding/binary"
	"os"
	"strconv"
	"strings"
	"testing"
)

// formatTables are the tables of fields in FORMAT.md, by what they are of, and the
// tables of names.
type formatTables struct {
	fields map[string]map[uint64][2]string // type and name
	names  map[string]map[uint64]string
}

// formatFields are the fields of a list by their names in FORMAT.md.
type formatFields map[string][]any

func (f formatFields) number(name string) uint64 {
	if len(f[name]) == 0 {
		return 0
	}
	return f[name][0].(uint64)
}

func (f formatFields) text(name string) string {
	if len(f[name]) == 0 {
		return ""
	}
	return f[name][0].(string)
}

func readFormatTables(t *testing.T) formatTables {
	t.Helper()
	doc, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	tables := formatTables{fields: map[string]map[uint64][2]string{}, names: map[string]map[uint64]string{}}
	of, header := "", []string(nil)
	for line := range strings.Lines(string(doc)) {
		line = strings.TrimSpace(line)
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		n, notNumber := strconv.ParseUint(cells[0], 10, 64)
		switch {
		case strings.HasPrefix(line, "Fields of a"):
			of = strings.TrimSuffix(line[strings.LastIndex(line, " ")+1:], ":")
			tables.fields[of] = map[uint64][2]string{}
		case strings.HasPrefix(line, "`") && strings.HasSuffix(line, "`:"):
			of, header = "", nil
			tables.names[strings.Trim(line, "`:")] = map[uint64]string{}
		case !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|--"):
		case tables.fields[of] != nil && notNumber == nil && len(cells) == 3:
			tables.fields[of][n] = [2]string{cells[1], cells[2]}
		case header == nil && notNumber == nil && len(cells) > 3:
			header = cells
		case len(header) > 0 && len(header) == len(cells):
			names := map[string]string{"begun": "status", "begin": "kind"}[cells[0]]
			for i, name := range cells {
				number, err := strconv.ParseUint(header[i], 10, 64)
				if err != nil || tables.names[names] == nil {
					t.Fatalf("FORMAT.md: %q under %q", line, header)
				}
				tables.names[names][number] = name
			}
			header = nil
		}
	}
	if len(tables.fields) != 3 || len(tables.names["status"]) != 8 || len(tables.names["kind"]) != len(stepNumbers) {
		t.Fatalf("tables of FORMAT.md: %v", tables)
	}
	return tables
}

// list reads a list of fields by a table.
func (f formatTables) list(t *testing.T, of string, b []byte) formatFields {
	t.Helper()
	out := formatFields{}
	varint := func() uint64 {
		v, n := binary.Uvarint(b)
		if n < 1 {
			t.Fatalf("%s: no varint at %x", of, b)
		}
		b = b[n:]
		return v
	}
	for len(b) > 0 {
		tag := varint()
		field, known := f.fields[of][tag>>3]
		value := varint()
		if number := field[0] == "number" || field[0] == "zigzag"; !known || number != (tag&7 == 0) || !number && (tag&7 != 2 || value > uint64(len(b))) {
			t.Fatalf("%s: field %d of wire type %d: FORMAT.md has %v", of, tag>>3, tag&7, field)
		}
		switch field[0] {
		case "number":
			out[field[1]] = append(out[field[1]], value)
			continue
		case "zigzag":
			out[field[1]] = append(out[field[1]], int64(value>>1)^-int64(value&1))
			continue
		case "text", "bytes":
			out[field[1]] = append(out[field[1]], string(b[:value]))
		default:
			out[field[1]] = append(out[field[1]], f.list(t, field[0], b[:value]))
		}
		b = b[value:]
	}
	return out
}

// FORMAT.md names every file that a journal makes.
func TestEveryFileIsInFORMAT(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.begin()
	doc, err := os.ReadFile("FORMAT.md")
	s.must(err)
	for name, as := range map[string]string{storeName: storeName, walName(1): "journal.wal.NNNNNN", lockName: lockName, poisonName: poisonName, newName: newName} {
		if !bytes.Contains(doc, []byte("| `"+as+"` |")) {
			t.Errorf("%s is not in FORMAT.md", name)
		}
	}
	list, err := os.ReadDir(s.opts.Dir)
	s.must(err)
	if len(list) != 3 {
		t.Errorf("the directory holds %v", list)
	}
}
