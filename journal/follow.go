package journal

import (
	"errors"
	"fmt"
)

// linkerOf makes the links under a key, "" for none. Errors wrap ErrKey when the
// device does not have it.
func linkerOf(keys KeySource, keyID string) (linker, error) {
	if keyID == "" {
		return linker{}, nil
	}
	if keys == nil {
		return linker{}, fmt.Errorf("%w: the chain of steps is under key %s, and no key was given", ErrKey, keyID)
	}
	k, err := keys.ByID(keyID)
	if err != nil {
		return linker{}, err
	}
	derived, err := k.Derive(purposeChain)
	if err != nil {
		return linker{}, err
	}
	return newLinker(keyID, derived), nil
}

// follow checks that frames continue the chain where the store has come to, and
// gives the key that it has come to. Where the device does not have the key a
// forged frame cannot be told from a true one; damage was found before.
func follow(st storeState, frames []*frame, keys KeySource) (keyID string, err error) {
	keyID = st.ChainKey
	l, missing := linkerOf(keys, keyID)
	if missing != nil && !errors.Is(missing, ErrKey) {
		return "", missing
	}
	before := link(st.Chain)
	for _, f := range frames {
		if missing == nil && !l.fits(before, f.index, rowOf(f), f.chain) {
			return "", fmt.Errorf("%w: step %d does not continue the chain; somebody changed it", ErrDamaged, f.index)
		}
		before = f.chain
		if f.kind != frameKey {
			continue
		}
		var k rekey
		if err := unmarshalFrame(f, &k); err != nil {
			return "", err
		}
		keyID = k.Key
		if l, missing = linkerOf(keys, keyID); missing != nil && !errors.Is(missing, ErrKey) {
			return "", missing
		}
	}
	return keyID, nil
}

// continueChain decides under which key the next steps are linked: the device's
// newest. A change of key is itself a step, linked under the key before; where the
// device does not have that one any more, under none, which Verify tells.
func (j *Journal) continueChain(keyID string, keys KeySource) error {
	want := ""
	if j.seal != nil {
		want = j.seal.current.ID()
	}
	var err error
	j.linker, err = linkerOf(keys, keyID)
	if err != nil && !errors.Is(err, ErrKey) {
		return err
	}
	if want == keyID {
		return err
	}
	if j.nextLinker, err = linkerOf(keys, want); err != nil {
		return err
	}
	j.keyNote = marshalNote(rekey{want})
	return nil
}

// noteBoot counts the starts of the device: the wall clock may lie, and the time
// since boot means something within one boot only (L12).
func (j *Journal) noteBoot(frames []*frame) {
	j.boot = j.state.Boot
	last := j.state.BootID
	for _, f := range frames {
		var b boot
		if f.kind == frameBoot && unmarshalFrame(f, &b) == nil {
			j.boot, last = b.Count, b.ID
		}
	}
	if id := bootID(); j.boot == 0 || id == "" || id != last { // two that cannot be read say nothing
		j.boot++
		j.bootNote = marshalNote(boot{j.boot, id})
	}
}
