package journal

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A published test number (Visa's), never a real card.
const testPAN = "4111111111111111"

// cardImage is an image with the number in every form a message has it in.
func cardImage() []byte {
	bcd, _ := hex.DecodeString(testPAN)
	return bytes.Join([][]byte{[]byte(testPAN), bcd, []byte(hex.EncodeToString([]byte(testPAN)))}, []byte("|"))
}

// cardForms are the bytes that must be found nowhere.
func cardForms() map[string][]byte {
	bcd, _ := hex.DecodeString(testPAN)
	ascii := hex.EncodeToString([]byte(testPAN))
	var ebcdic []byte
	for _, d := range testPAN {
		ebcdic = append(ebcdic, byte(d)+0xc0)
	}
	shifted, _ := hex.DecodeString("0" + testPAN[:15])
	return map[string][]byte{
		"ASCII": []byte(testPAN), "BCD": bcd, "BCD, half a byte on": shifted, "hex": []byte(ascii), "EBCDIC": ebcdic,
		"all but the last four": []byte(testPAN[:12]),
	}
}

func TestL11SealedImagesOpenOnlyWithTheKey(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	d := s.draft(lane1)
	d.Image = cardImage()
	id, err := s.j.Begin(d)
	s.must(err)
	s.reopen()
	if image, err := s.j.Image(id); !bytes.Equal(image, cardImage()) || err != nil {
		t.Errorf("with the key: %q %v", image, err)
	}
	for name, k := range map[string][]byte{"no key": nil, "another key": otherKey} {
		s.close()
		s.opts.DeviceKey = k
		s.open()
		image, err := s.j.Image(id)
		wantErr(t, name, err, ErrKey)
		if image != nil {
			t.Errorf("%s: it opened", name)
		}
		if e := s.entry(id); e.Status != Begun || e.STAN != d.STAN { // reading needs no key
			t.Errorf("%s: %+v", name, e)
		}
	}
	s.must(s.j.Owe(id, "no answer", silence)) // nor does a step, and it keeps the image
	s.close()
	s.opts.DeviceKey = deviceKey
	s.open()
	if image, err := s.j.Image(id); !bytes.Equal(image, cardImage()) || err != nil {
		t.Errorf("with the key again: %q %v", image, err)
	}
}

func TestL11NoKeyNoBegin(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.close()
	s.opts.DeviceKey = nil
	s.open()
	id, err := s.j.Begin(s.draft(lane1))
	wantErr(t, "Begin with an image", err, ErrKey)
	s.reopen()
	if got := collect(t, s.j, Query{}); id != 0 || len(got) != 0 {
		t.Errorf("id %d, recorded %v", id, got)
	}
	d := s.draft(lane1)
	d.Image = nil
	id, err = s.j.Begin(d)
	s.must(err)
	wantErr(t, "Image of an entry that had none", second(s.j.Image(id)), ErrNoImage)
}

func TestL11AKeyOfAnotherLengthIsRefused(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 16, 31, 33, 64} {
		wantErr(t, fmt.Sprint(n), second(Open(Options{Dir: t.TempDir(), DeviceKey: make([]byte, n)})), ErrKey)
	}
}

// An image copied to another entry's record, or another journal's, with a good
// checksum, does not open there.
func TestL11AnImageOpensOnlyInItsPlace(t *testing.T) {
	t.Parallel()
	s, other := newScene(t), newScene(t)
	a, b := s.entryAt(Owed), s.entryAt(Owed)
	other.begin()
	c := other.entryAt(Owed) // the same id as b, in another journal
	steal := func(from *scene, id ID) {
		stolen, err := decode(id, from.value(bucketEntries, key(id)))
		s.must(err)
		rec, err := decode(b, s.value(bucketEntries, key(b)))
		s.must(err)
		rec.Sealed, rec.KeyID = stolen.Sealed, stolen.KeyID
		s.put(bucketEntries, key(b), rec.encode())
		image, err := s.j.Image(b)
		if err == nil || image != nil {
			t.Errorf("the image of entry %d opened as that of %d: %q", id, b, image)
		}
	}
	steal(s, a)
	steal(other, c)
	wantErr(t, "the right image", second(s.j.Image(a)), nil)
}

// The image is kept while a reversal may need it, and gone with the step that
// settles the entry.
func TestL11TheImageGoesWhenSettled(t *testing.T) {
	t.Parallel()
	kept := map[Status]bool{Begun: true, Owed: true, Parked: true}
	s := newScene(t)
	for _, status := range Statuses() {
		id := s.entryAt(status)
		for range 2 {
			image, err := s.j.Image(id)
			switch {
			case kept[status] && (err != nil || !strings.HasPrefix(string(image), "image of TERM0001")):
				t.Errorf("%s: %q %v", status, image, err)
			case !kept[status]:
				wantErr(t, status.String(), err, ErrNoImage)
				if v := s.value(bucketEntries, key(id)); bytes.Contains(v, []byte("sealed")) {
					t.Errorf("%s: the record still holds a sealed image: %q", status, v)
				}
			}
			s.reopen()
		}
	}
	retried := s.entryAt(Parked)
	s.must(s.j.Owe(retried, "operator asked", silence))
	wantErr(t, "parked and tried again", second(s.j.Image(retried)), nil)
}

// The same image twice does not look the same twice.
func TestL11SealedImagesDoNotRepeat(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	var sealed [][]byte
	for range 2 {
		id, err := s.j.Begin(plainDraft())
		s.must(err)
		rec, err := decode(id, s.value(bucketEntries, key(id)))
		s.must(err)
		sealed = append(sealed, rec.Sealed)
	}
	if bytes.Equal(sealed[0], sealed[1]) {
		t.Error("two sealed images are the same bytes")
	}
}

// L11: after a run over every status, open entries included, no file of the
// directory holds the card number in any form, nor the device key.
func TestL11NoCardNumberInAnyFile(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for _, status := range Statuses() {
		for range 3 {
			d := s.draft(lane1)
			d.Image = cardImage()
			id, err := s.j.Begin(d)
			s.must(err)
			wantNoCard(t, s.opts.Dir)
			s.takeTo(id, status)
		}
	}
	wantNoCard(t, s.opts.Dir)
	s.reopen()
	wantNoCard(t, s.opts.Dir)
}

func wantNoCard(t *testing.T, dir string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil || len(files) == 0 {
		t.Fatalf("%v: %d files", err, len(files))
	}
	for _, f := range files {
		content := fileBytes(t, filepath.Join(dir, f.Name()))
		for form, b := range cardForms() {
			if at := bytes.Index(content, b); at >= 0 {
				t.Errorf("%s holds the card number (%s) at byte %d", f.Name(), form, at)
			}
		}
		if bytes.Contains(content, deviceKey) {
			t.Errorf("%s holds the device key", f.Name())
		}
	}
}

// printed is every way in which a value reaches a log.
func printed(v any) (out []string) {
	for _, verb := range printVerbs {
		out = append(out, fmt.Sprintf(verb, v))
	}
	if b, err := json.Marshal(v); err == nil {
		out = append(out, string(b))
	}
	return out
}

// wantMasked fails if a printed value shows the secret as text, hex, base64 or a
// list of numbers.
func wantMasked(t *testing.T, what string, v any, secret []byte) {
	t.Helper()
	list := strings.Trim(fmt.Sprint(secret), "[]")
	b64, _ := json.Marshal(secret)
	goList := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", secret), "[]byte{"), "}")
	for i, p := range printed(v) {
		for _, form := range []string{string(secret), fmt.Sprintf("%x", secret), list, goList, strings.Trim(string(b64), `"=`)} {
			if strings.Contains(p, form) {
				t.Errorf("%s shows the secret in form %d: %s", what, i, p)
				return
			}
		}
	}
}

func TestL11AnEntryPrintsNoCard(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	d := s.draft(lane1)
	d.Image = []byte(testPAN)
	id, err := s.j.Begin(d)
	s.must(err)
	for _, status := range []Status{Begun, Owed} {
		s.takeTo(id, status)
		e := s.entry(id)
		wantMasked(t, "an entry", e, []byte(testPAN))
		wantMasked(t, "a pointer to it", &e, []byte(testPAN))
		rec, err := decode(id, s.value(bucketEntries, key(id)))
		s.must(err)
		wantMasked(t, "a record", rec, []byte(testPAN))
		if !strings.Contains(asJSON(e), `"last4":"1111"`) {
			t.Errorf("the last four digits are missing: %s", asJSON(e))
		}
	}
}

// STYLE: whatever can hold card data prints masked under every verb. A Draft
// holds the image before it is sealed.
func TestL11ADraftPrintsNoImage(t *testing.T) {
	t.Parallel()
	d := plainDraft()
	d.Image = []byte(testPAN)
	wantMasked(t, "a draft", d, d.Image)
	wantMasked(t, "a pointer to it", &d, d.Image)
}

// The key that opens every sealed image is no better in a log than the cards.
func TestL11OptionsPrintNoKey(t *testing.T) {
	t.Parallel()
	o := Options{Dir: "/somewhere", DeviceKey: []byte("0123456789abcdef0123456789ABCDEF")}
	wantMasked(t, "options", o, o.DeviceKey)
}

// A *Journal or a *Snapshot that gets into a log line prints no key, no page of
// the store, and does not crash the program (fmt walks into the mapped file). In
// a child, because a fault there cannot be caught.
func TestL11AnOpenJournalCanBePrinted(t *testing.T) {
	t.Parallel()
	for _, role := range []string{"print", "print snapshot"} {
		c := startChild(t, role, filepath.Join(t.TempDir(), "journal"), 0)
		said := c.rest()
		want := len(printVerbs)
		for _, line := range said {
			if !strings.HasSuffix(line, " clean") {
				t.Errorf("%s: %s", role, line)
			}
		}
		if len(said) != want {
			crash, _, _ := strings.Cut(c.errs.String(), "\n")
			t.Errorf("%s: the child printed %d verbs of %d: %s", role, len(said), want, crash)
		}
	}
}

var printVerbs = []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"}

// rolePrint prints an open journal under each verb and says what it found there.
func rolePrint(o Options, _ uint64) error {
	o.DeviceKey = []byte("0123456789abcdef0123456789ABCDEF")
	j, err := Open(o)
	if err != nil {
		return err
	}
	if _, err := j.Begin(plainDraft()); err != nil {
		return err
	}
	if os.Getenv(roleVar) == "print" {
		return sayPrinted(j, o.DeviceKey)
	}
	if err := j.Close(); err != nil {
		return err
	}
	snap, err := Inspect(o.Dir, 0)
	if err != nil {
		return err
	}
	return sayPrinted(snap, o.DeviceKey)
}

func sayPrinted(v any, secret []byte) error {
	for _, verb := range printVerbs {
		found := "clean"
		if out := fmt.Sprintf(verb, v); strings.Contains(out, string(secret)) || strings.Contains(out, "48 49 50 51") || len(out) > 20_000 {
			found = fmt.Sprintf("shows secrets or pages in %d bytes", len(out))
		}
		say("%s %s", verb, found)
	}
	return nil
}
