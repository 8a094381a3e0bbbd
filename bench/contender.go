package main

import (
	"fmt"
	"sync/atomic"
)

// book is one way of making a sale durable.
type book interface {
	// Sale makes one sale durable in two steps, armed and then completed, each of
	// which would survive a power cut. Many callers may use it at once, each with
	// its own number from 0.
	Sale(caller int) error
	Close() error
}

// Contenders, in the order in which a round runs them.
const (
	bareAppend  = "append"
	ourJournal  = "journal"
	sqliteAlone = "sqlite"
	sqliteGroup = "sqlite group"
	boltNaive   = "bbolt"
)

var contenders = []string{bareAppend, ourJournal, sqliteAlone, sqliteGroup, boltNaive}

// openBook opens a contender's files in a directory that exists.
func openBook(w job) (book, error) {
	switch w.Contender {
	case bareAppend:
		return openAppend(w.Dir)
	case ourJournal:
		return openJournal(w.Dir)
	case sqliteAlone:
		return openSQLite(w.Dir, false, w.SQLiteFsync)
	case sqliteGroup:
		return openSQLite(w.Dir, true, w.SQLiteFsync)
	case boltNaive:
		return openBolt(w.Dir)
	}
	return nil, fmt.Errorf("no contender %q", w.Contender)
}

// traces gives out trace numbers for the contenders that have none of their own.
type traces struct{ last atomic.Uint32 }

func (t *traces) next() uint32 { return t.last.Add(1)%999_999 + 1 }
