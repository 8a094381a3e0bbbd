package journal

import (
	"encoding/binary"
	"errors"
)

// A record's body is a list of numbered fields: a number that is not zero, or bytes
// that are not empty. It has the wire format of Protocol Buffers (two of its wire
// types, varint and length-delimited), so that tools which know that can show it
// (source: protobuf.dev, "Encoding"). Which field means what is in record.go and in
// FORMAT.md.
type fields []byte

const (
	wireNumber = 0
	wireBytes  = 2
)

var errFields = errors.New("its fields cannot be read")

func (f fields) number(field int, v uint64) fields {
	if v == 0 {
		return f
	}
	return binary.AppendUvarint(binary.AppendUvarint(f, uint64(field)<<3|wireNumber), v)
}

func (f fields) text(field int, s string) fields {
	return append(f, s...).wrap(field, len(f))
}

// wrap makes one field of what stands behind a place: fields of an answer or a step.
func (f fields) wrap(field, behind int) fields {
	n := len(f) - behind
	if n == 0 {
		return f
	}
	var room [2 * binary.MaxVarintLen64]byte
	head := binary.AppendUvarint(binary.AppendUvarint(room[:0], uint64(field)<<3|wireBytes), uint64(n))
	f = append(f, head...)
	copy(f[behind+len(head):], f[behind:behind+n])
	copy(f[behind:], head)
	return f
}

// fieldReader goes through a list of fields. What it gives as text is part of the
// one string that it reads from.
type fieldReader struct {
	rest   string
	field  int
	number uint64
	text   string
	err    error
}

// next goes on to the next field and reports whether there is one. A list that
// breaks off, or has another wire type, ends with err.
func (r *fieldReader) next() bool {
	if r.rest == "" || r.err != nil {
		return false
	}
	tag := r.varint()
	r.field, r.number, r.text = int(tag>>3), 0, ""
	switch tag & 7 {
	case wireNumber:
		r.number = r.varint()
	case wireBytes:
		n := r.varint()
		if n > uint64(len(r.rest)) {
			r.err = errFields
			break
		}
		r.text, r.rest = r.rest[:n], r.rest[n:]
	default:
		r.err = errFields
	}
	return r.err == nil
}

func (r *fieldReader) varint() (v uint64) {
	for i := 0; i < len(r.rest) && i < binary.MaxVarintLen64; i++ {
		b := r.rest[i]
		if i == binary.MaxVarintLen64-1 && b > 1 {
			break // more than 64 bits
		}
		v |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			r.rest = r.rest[i+1:]
			return v
		}
	}
	r.err = errFields
	return 0
}
