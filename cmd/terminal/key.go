package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"uncharge/journal"
)

// deviceKeys reads the keys that seal card data, the current one first. A new key is
// made only together with a new journal: beside an old one it would open nothing of
// it.
func (f *flags) deviceKeys() (journal.KeySource, error) {
	path, err := f.keyPath()
	if err != nil {
		return nil, err
	}
	if err := journal.MakeDir(f.journalDir); err != nil {
		return nil, fmt.Errorf("open journal %s: %w", f.journalDir, err)
	}
	_, err = os.Stat(filepath.Join(f.journalDir, "journal.db"))
	journalIsThere := err == nil
	if _, err = os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := f.firstKey(path, journalIsThere); err != nil {
			return nil, err
		}
	}
	keys, err := journal.KeyFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w (another file is named with --key)", err)
	}
	if !journalIsThere { // whoever made the key may have been killed before it was synced
		return keys, syncKey(path)
	}
	return keys, nil
}

// firstKey makes the key of a new journal.
func (f *flags) firstKey(path string, journalIsThere bool) error {
	if !journalIsThere {
		return makeKey(path)
	}
	look, err := journal.Inspect(f.journalDir, f.lockWait) // whose file it is comes before whose key
	if err != nil {
		return err
	}
	_ = look.Close()
	return fmt.Errorf("%w: %s is not there, but the journal is; put the key back or name it with --key (nothing was changed)", journal.ErrKey, path)
}

// keyPath is beside the journal's directory, never in it: who copies the journal
// must not get the key with it.
func (f *flags) keyPath() (string, error) {
	if f.keyFile != "" {
		return f.keyFile, nil
	}
	dir, err := filepath.Abs(f.journalDir)
	if err == nil && dir == filepath.Dir(dir) {
		err = usage(errors.New("--journal: the root of the file system has no place beside it for the key; name one with --key"))
	}
	return dir + ".key", err
}

// idPath is where it is written down which journal is this terminal's: beside the
// journal's directory, so that it stays when that one goes.
func (f *flags) idPath() (string, error) {
	dir, err := filepath.Abs(f.journalDir)
	if err == nil && dir == filepath.Dir(dir) {
		err = usage(errors.New("--journal: the root of the file system has no place beside it"))
	}
	return dir + ".id", err
}

// durably writes a small file that is whole or not there at all.
func durably(path, text string) error {
	_ = os.Remove(path + ".new") // of a start that was cut; its mode may be another
	err := os.WriteFile(path+".new", []byte(text), 0o600)
	if err == nil {
		err = syncPath(path + ".new")
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil {
		err = syncKey(path)
	}
	return err
}

// makeKey makes a new key that is durable before anything is sealed under it, and
// whole or not there at all.
func makeKey(path string) error {
	key := make([]byte, journal.KeyBytes)
	defer clear(key)
	if _, err := rand.Read(key); err != nil {
		return err
	}
	err := journal.MakeDir(filepath.Dir(path))
	if err == nil {
		err = durably(path, hex.EncodeToString(key)+"\n")
	}
	if err != nil {
		return fmt.Errorf("device key: %w", err)
	}
	return nil
}

func syncKey(path string) error { return errors.Join(syncPath(path), syncPath(filepath.Dir(path))) }

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
