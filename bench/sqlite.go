package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"sync"
	"time"

	"modernc.org/sqlite"

	"uncharge/journal"
)

// sqliteBook keeps sales as SQLite would be used for it with care: write-ahead
// log, synchronous=FULL, one connection, prepared statements, one transaction a
// step, the row found by its id, and an index that holds only what is open.
type sqliteBook struct {
	db               *sql.DB
	conn             *sql.Conn
	insert, complete *sql.Stmt
	begin, commit    *sql.Stmt
	seal             envelope
	stan             traces

	step func(func() error) error // makes one step durable, alone or with others
	mu   sync.Mutex               // one transaction at a time
}

const sqliteSchema = `
CREATE TABLE entries (
	id INTEGER PRIMARY KEY,
	terminal TEXT NOT NULL, merchant TEXT NOT NULL, stan INTEGER NOT NULL,
	type TEXT NOT NULL, mti TEXT NOT NULL,
	amount INTEGER NOT NULL, currency TEXT NOT NULL, exponent INTEGER NOT NULL,
	last4 TEXT NOT NULL, status INTEGER NOT NULL,
	begun_at INTEGER NOT NULL, changed_at INTEGER NOT NULL,
	code TEXT, auth_code TEXT, rrn TEXT, image BLOB
);
CREATE INDEX open ON entries (status) WHERE status IN (1, 5);`

const (
	sqliteInsert = `INSERT INTO entries
	(terminal, merchant, stan, type, mti, amount, currency, exponent, last4, status, begun_at, changed_at, image)
	VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	// The image goes when the sale is settled, as the journal's does (L11).
	sqliteComplete = `UPDATE entries SET status = ?, changed_at = ?, code = ?, auth_code = ?, rrn = ?, image = NULL WHERE id = ?`
)

func openSQLite(dir string, grouped, fsync bool) (b *sqliteBook, err error) {
	// The driver's default is fsync; SQLite as distributions build it uses fdatasync,
	// which is faster and as durable. It gets its best.
	if _, err := sqlite.Fdatasync(!fsync); err != nil {
		return nil, err
	}
	b = &sqliteBook{}
	if b.seal, err = newEnvelope(); err != nil {
		return nil, err
	}
	name := url.URL{Scheme: "file", Opaque: filepath.Join(dir, "sales.db"), RawQuery: "_journal_mode=WAL&_synchronous=FULL"}
	if b.db, err = sql.Open("sqlite", name.String()); err != nil {
		return nil, err
	}
	if err := b.prepare(); err != nil {
		return nil, errors.Join(err, b.db.Close())
	}
	b.step = b.alone
	if grouped {
		b.step = (&group{commit: b.together}).do
	}
	return b, nil
}

func (b *sqliteBook) prepare() (err error) {
	ctx := context.Background()
	if b.conn, err = b.db.Conn(ctx); err != nil {
		return err
	}
	// A pragma that is misspelt does nothing and says nothing.
	var mode string
	var synchronous int
	err = errors.Join(b.conn.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode),
		b.conn.QueryRowContext(ctx, "PRAGMA synchronous").Scan(&synchronous))
	if err == nil && (mode != "wal" || synchronous != 2) {
		err = fmt.Errorf("SQLite runs with journal_mode %s, synchronous %d, not with wal and 2", mode, synchronous)
	}
	if err != nil {
		return err
	}
	if _, err := b.conn.ExecContext(ctx, sqliteSchema); err != nil {
		return err
	}
	for query, into := range map[string]**sql.Stmt{
		sqliteInsert: &b.insert, sqliteComplete: &b.complete, "BEGIN IMMEDIATE": &b.begin, "COMMIT": &b.commit,
	} {
		if *into, err = b.conn.PrepareContext(ctx, query); err != nil {
			return fmt.Errorf("%s: %w", query, err)
		}
	}
	return nil
}

func (b *sqliteBook) Sale(caller int) error {
	stan := b.stan.next()
	d, a := draft(caller, stan), answer(caller, stan)
	image, err := b.seal.seal(d.Image)
	if err != nil {
		return err
	}
	var id int64
	err = b.step(func() error {
		at := time.Now().UnixMicro()
		result, err := b.insert.Exec(d.Lane.Terminal, d.Lane.Merchant, d.STAN, d.Type, d.MTI, d.Amount.Minor, d.Amount.Currency,
			d.Amount.Exponent, d.Last4, journal.Begun, at, at, image)
		if err != nil {
			return err
		}
		id, err = result.LastInsertId()
		return err
	})
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	err = b.step(func() error {
		result, err := b.complete.Exec(journal.Completed, time.Now().UnixMicro(), a.Code, a.AuthCode, a.RRN, id)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n != 1 {
			return fmt.Errorf("entry %d: %d rows changed, %v", id, n, err)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("complete: %w", err)
	}
	return nil
}

// alone commits a step by itself: one statement outside a transaction is one.
func (b *sqliteBook) alone(step func() error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return step()
}

// together commits several steps in one transaction; one alone needs no more than
// alone does.
func (b *sqliteBook) together(steps []func() error) error {
	if len(steps) == 1 {
		return b.alone(steps[0])
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, err := b.begin.Exec(); err != nil {
		return err
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err // any error ends the run
		}
	}
	_, err := b.commit.Exec()
	return err
}

func (b *sqliteBook) Close() error {
	return errors.Join(b.insert.Close(), b.complete.Close(), b.begin.Close(), b.commit.Close(), b.conn.Close(), b.db.Close())
}
