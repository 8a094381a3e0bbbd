package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"

	"uncharge/journal"
)

// boltBook keeps sales in bbolt as one would begin: a bucket of entries by id, a
// bucket of what is open, one commit a step, bbolt's own defaults.
type boltBook struct {
	db   *bolt.DB
	seal envelope
	stan traces
}

var bucketEntries, bucketOpen = []byte("entries"), []byte("open")

// boltEntry is a stored value.
type boltEntry struct {
	ID               uint64
	Lane             journal.Lane
	STAN             uint32
	Type, MTI        string
	Amount           journal.Money
	Last4            string
	Status           uint8
	Code             string `json:",omitempty"`
	AuthCode, RRN    string `json:",omitempty"`
	BegunAt, Changed time.Time
	Image            []byte `json:",omitempty"`
}

func openBolt(dir string) (*boltBook, error) {
	seal, err := newEnvelope()
	if err != nil {
		return nil, err
	}
	db, err := bolt.Open(filepath.Join(dir, "sales.db"), 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucket(bucketEntries)
		_, errOpen := tx.CreateBucket(bucketOpen)
		return errors.Join(err, errOpen)
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &boltBook{db: db, seal: seal}, nil
}

func (b *boltBook) Sale(caller int) error {
	stan := b.stan.next()
	id, err := b.begin(draft(caller, stan))
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := b.complete(id, answer(caller, stan)); err != nil {
		return fmt.Errorf("complete: %w", err)
	}
	return nil
}

func (b *boltBook) begin(d journal.Draft) (id uint64, err error) {
	image, err := b.seal.seal(d.Image)
	if err != nil {
		return 0, err
	}
	err = b.db.Update(func(tx *bolt.Tx) error {
		if id, err = tx.Bucket(bucketEntries).NextSequence(); err != nil {
			return err
		}
		at := time.Now()
		e := boltEntry{
			ID: id, Lane: d.Lane, STAN: d.STAN, Type: d.Type, MTI: d.MTI, Amount: d.Amount, Last4: d.Last4,
			Status: uint8(journal.Begun), BegunAt: at, Changed: at, Image: image,
		}
		return errors.Join(putEntry(tx, e), tx.Bucket(bucketOpen).Put(boltKey(id), []byte{}))
	})
	return id, err
}

func (b *boltBook) complete(id uint64, a journal.Answer) error {
	return b.db.Update(func(tx *bolt.Tx) error {
		var e boltEntry
		if err := json.Unmarshal(tx.Bucket(bucketEntries).Get(boltKey(id)), &e); err != nil {
			return err
		}
		e.Status, e.Changed, e.Image = uint8(journal.Completed), time.Now(), nil
		e.Code, e.AuthCode, e.RRN = a.Code, a.AuthCode, a.RRN
		return errors.Join(putEntry(tx, e), tx.Bucket(bucketOpen).Delete(boltKey(id)))
	})
}

func putEntry(tx *bolt.Tx, e boltEntry) error {
	value, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return tx.Bucket(bucketEntries).Put(boltKey(e.ID), value)
}

func boltKey(id uint64) []byte { return binary.BigEndian.AppendUint64(nil, id) }

func (b *boltBook) Close() error { return b.db.Close() }
