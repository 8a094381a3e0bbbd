package journal

// pruned is the payload of a frame of kind framePrune: what leaves the journal in
// one bounded step.
type pruned struct {
	IDs    []ID   `json:"ids,omitempty"`    // settled entries
	Anchor uint64 `json:"anchor,omitempty"` // rows up to here go too, and the chain is followed from here
	Link   []byte `json:"chain,omitempty"`  // the link there
	Key    string `json:"chain_key,omitempty"`
}

// apply removes from the store what a frame says.
func (p pruned) apply(in *intake, st *storeState) error {
	tx := in.tx
	entries := tx.Bucket(bucketEntries)
	for _, id := range p.IDs {
		if entries.Get(key(id)) == nil {
			continue
		}
		in.add(id, indexValue{kind: indexGone})
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
