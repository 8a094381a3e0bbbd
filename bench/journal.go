package main

import "uncharge/journal"

// journalBook is this project's journal, used as the engine uses it.
type journalBook struct{ *journal.Journal }

func openJournal(dir string) (journalBook, error) {
	// As long a history as is asked for; the others prune nothing either.
	j, err := journal.Open(journal.Options{Dir: dir, DeviceKey: deviceKey(), MaxBytes: 1 << 50})
	return journalBook{j}, err
}

func (b journalBook) Sale(caller int) error {
	stan, err := b.NextSTAN(lane(caller))
	if err != nil {
		return err
	}
	id, err := b.Begin(draft(caller, stan))
	if err != nil {
		return err
	}
	return b.Complete(id, answer(caller, stan))
}

// owe leaves one sale behind that must be reversed.
func (b journalBook) owe(caller int) error {
	stan, err := b.NextSTAN(lane(caller))
	if err != nil {
		return err
	}
	id, err := b.Begin(draft(caller, stan))
	if err != nil {
		return err
	}
	return b.Owe(id, "no answer", journal.Answer{})
}

// settleArmed gives an outcome to what a kill left without one, so that the next
// kill finds the same number of open entries.
func (b journalBook) settleArmed() error {
	armed, err := b.Armed()
	if err != nil {
		return err
	}
	for _, e := range armed {
		if err := b.NotSent(e.ID); err != nil {
			return err
		}
	}
	return nil
}
