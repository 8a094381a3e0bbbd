package journal

import (
	bolt "go.etcd.io/bbolt"
)

// pruned is the payload of a frame of kind framePrune: what leaves the journal in
// one bounded step.
type pruned struct {
	IDs    []ID   `json:"ids,omitempty"`    // settled entries
	Anchor uint64 `json:"anchor,omitempty"` // rows up to here go too, and the chain is followed from here
	Link   []byte `json:"chain,omitempty"`  // the link there
	Key    string `json:"chain_key,omitempty"`
}

// apply removes from the store what a frame says.
func (p pruned) apply(tx *bolt.Tx, st *storeState) error {
	entries, index := tx.Bucket(bucketEntries), tx.Bucket(bucketIndex)
	for _, id := range p.IDs {
		value := entries.Get(key(id))
		if value == nil {
			continue
		}
		if rec, err := decode(id, value); err == nil {
			for _, v := range indexValues(rec) {
				if err := index.Delete(indexKey(id, v)); err != nil {
					return err
				}
			}
		}
		if err := entries.Delete(key(id)); err != nil {
			return err
		}
		if err := list(tx, id, 0); err != nil {
			return err
		}
	}
	if p.Anchor <= st.Anchor {
		return nil
	}
	for i := st.Anchor + 1; i <= p.Anchor; i++ {
		for _, bucket := range [][]byte{bucketChain, bucketNotes} {
			if err := tx.Bucket(bucket).Delete(indexOf(i)); err != nil {
				return err
			}
		}
	}
	st.Anchor, st.AnchorLink, st.AnchorKey = p.Anchor, p.Link, p.Key
	return nil
}
