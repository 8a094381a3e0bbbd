package journal

import (
	"errors"
	"slices"
	"testing"
)

// prune stages a frame that removes entries, whatever they are, and waits for it.
func (s *scene) prune(ids ...ID) {
	s.t.Helper()
	var gone spans
	for _, id := range ids {
		gone = append(gone, span{id, id})
	}
	s.must(s.j.take(func() (change, error) {
		return change{note: &frame{kind: framePrune, payload: marshalNote(pruned{Gone: gone})}}, nil
	}))
}

// What was pruned is gone for every reader at once, from the index too, stays gone, and
// Verify knows that it was no theft. The others are what they were, and no id is used
// again.
func TestL8WhatIsPrunedIsGoneAndNothingElse(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	old := []ID{s.entryAt(Completed), s.entryAt(Reversed)}
	s.must(s.j.flush())
	old = append(old, s.entryAt(Declined)) // not in the store yet
	kept := []ID{s.entryAt(Owed), s.entryAt(Completed)}
	s.prune(old...)
	for _, c := range []struct {
		name string
		then func()
	}{
		{"at once", func() {}}, {"reopened", s.reopen}, {"in the store", func() { s.must(s.j.flush()) }},
		{"reopened again", s.reopen}, {"compacted", func() { s.must(s.j.Compact()) }},
	} {
		c.then()
		name := c.name
		if got := collect(t, s.j, Query{}); !slices.Equal(got, kept) {
			t.Errorf("%s: %v are there, want %v", name, got, kept)
		}
		if got := collect(t, s.j, Query{RRN: approved.RRN}); !slices.Equal(got, kept[1:]) {
			t.Errorf("%s: the index finds %v, want %v", name, got, kept[1:])
		}
		for _, id := range old {
			wantErr(t, name, second(s.j.Entry(id)), ErrNoEntry)
			if err := s.j.Late(id, approved); !errors.Is(err, ErrNoEntry) {
				t.Errorf("%s: a step on what was pruned: %v", name, err)
			}
		}
		report, err := s.j.Verify(t.Context(), nil)
		if err := errors.Join(err, report.Err()); err != nil || report.Entries != len(kept) {
			t.Errorf("%s: Verify: %d entries, %v", name, report.Entries, err)
		}
	}
	if id := s.begin(); id <= kept[1] {
		t.Errorf("id %d was given out again", id)
	}
}
