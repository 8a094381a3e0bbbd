package journal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

var countedHex, deviceHex = hex.EncodeToString(countedKey), hex.EncodeToString(deviceKey)

// keyFileOf writes a file of keys as an operator would.
func keyFileOf(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "device.key")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// wantKeys fails unless a source has these keys and no others, the first as the
// current one.
func wantKeys(t *testing.T, what string, from KeySource, keys ...Secret) {
	t.Helper()
	current, err := from.Current()
	if err != nil || current.ID() != softKeyOf(t, keys[0]).ID() {
		t.Errorf("%s: the current key is %v, %v", what, current, err)
	}
	for _, k := range keys {
		want := softKeyOf(t, k)
		got, err := from.ByID(want.ID())
		if err != nil || got.ID() != want.ID() {
			t.Errorf("%s: %v, %v", what, got, err)
		}
	}
	if n := len(from.(*keyRing).keys); n != len(keys) {
		t.Errorf("%s: %d keys, want %d", what, n, len(keys))
	}
}

func TestKeyFile(t *testing.T) {
	t.Parallel()
	for what, text := range map[string]string{
		"plain":            countedHex + "\n" + deviceHex + "\n",
		"no line end":      countedHex + "\n" + deviceHex,
		"from Windows":     countedHex + "\r\n" + deviceHex + "\r\n",
		"capital letters":  strings.ToUpper(countedHex) + "\n" + deviceHex,
		"spaces and gaps":  "\n  " + countedHex + "\t\n\n\n " + deviceHex + " \n\n",
		"both sorts mixed": strings.ToUpper(countedHex[:40]) + countedHex[40:] + "\n" + deviceHex,
	} {
		keys, err := KeyFile(keyFileOf(t, text))
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		wantKeys(t, what, keys, countedKey, deviceKey)
	}
}

func TestKeyFileRefusesContent(t *testing.T) {
	t.Parallel()
	for what, text := range map[string]string{
		"empty":                "",
		"line ends only":       "\n\r\n \n",
		"one digit less":       countedHex[1:],
		"one digit more":       countedHex + "0",
		"a letter that is not": countedHex[:63] + "g",
		"its bytes":            string(countedKey),
		"two on one line":      countedHex + " " + deviceHex,
		"the same twice":       countedHex + "\n" + strings.ToUpper(countedHex) + "\n",
		"a bad second line":    countedHex + "\n" + deviceHex[:62],
		"a mark in front":      "\ufeff" + countedHex,
		"half a letter":        countedHex[:62] + "é",
		"too long":             strings.Repeat(countedHex+"\n", 1000),
		"endless blanks":       countedHex + strings.Repeat("\n", keyFileMax),
	} {
		path := keyFileOf(t, text)
		keys, err := KeyFile(path)
		wantErr(t, what, err, ErrKey)
		wantKeyError(t, what, err, countedKey, deviceKey)
		if keys != nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, %v", what, keys, err)
		}
		if got := fileBytes(t, path); string(got) != text {
			t.Errorf("%s: the file was changed", what)
		}
	}
	tooMany := ""
	for n := range keysMax + 1 {
		tooMany += fmt.Sprintf("%s%02x\n", countedHex[:62], n)
	}
	_, err := KeyFile(keyFileOf(t, tooMany))
	wantErr(t, "too many", err, ErrKey)
	wantKeyError(t, "too many", err, countedKey)
}

// Whoever may read the file has the key, however the file was named.
func TestKeyFileRefusesModes(t *testing.T) {
	t.Parallel()
	path := keyFileOf(t, countedHex)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for mode := range fs.FileMode(0o1000) {
		if mode&0o400 == 0 {
			continue // nor may the owner; what happens then depends on who runs this
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{path, link} {
			keys, err := KeyFile(name)
			if mode&0o077 == 0 {
				if err != nil {
					t.Errorf("mode %04o: %v", mode, err)
				}
				continue
			}
			wantErr(t, fmt.Sprintf("mode %04o", mode), err, ErrKey)
			wantKeyError(t, fmt.Sprintf("mode %04o", mode), err, countedKey)
			if keys != nil || !strings.Contains(err.Error(), fmt.Sprintf("%04o", mode)) || !strings.Contains(err.Error(), name) {
				t.Errorf("mode %04o: %v, %v", mode, keys, err)
			}
		}
	}
}

func TestKeyFileRefusesWhatIsNoFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pipe, toNothing, toDir := filepath.Join(dir, "pipe"), filepath.Join(dir, "to nothing"), filepath.Join(dir, "to a directory")
	if err := errors.Join(syscall.Mkfifo(pipe, 0o600), os.Symlink("nothing", toNothing), os.Symlink(dir, toDir), os.Chmod(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	for what, path := range map[string]string{
		"a directory": dir, "a link to a directory": toDir, "a pipe": pipe, "a device": "/dev/null",
		"a link to nothing": toNothing, "nothing": filepath.Join(dir, "nothing"), "no name": "",
	} {
		within(t, 10*time.Second, what, func() {
			keys, err := KeyFile(path)
			wantErr(t, what, err, ErrKey)
			wantKeyError(t, what, err)
			if keys != nil {
				t.Errorf("%s: keys %v", what, keys)
			}
			if ordinary := what != "a pipe" && what != "a device"; strings.Contains(err.Error(), "not an ordinary file") == ordinary {
				t.Errorf("%s: %v", what, err)
			}
			if missing := strings.Contains(what, "noth") || path == ""; errors.Is(err, fs.ErrNotExist) != missing {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
}

// A key in the place of a name does not get into the error.
func TestL11AKeyGivenAsANameIsNotShown(t *testing.T) {
	t.Parallel()
	for _, name := range []string{countedHex, "./" + countedHex, countedHex[:60], strings.ToUpper(countedHex), countedHex + ".key"} {
		_, err1 := KeyFile(name)
		_, err2 := KeyEnv(name)
		for _, err := range []error{err1, err2} {
			wantErr(t, "a key as a name", err, ErrKey)
			wantKeyError(t, "a key as a name", err, countedKey)
			var at *fs.PathError
			if errors.As(err, &at) {
				t.Errorf("inside the error is %v", at)
			}
		}
	}
	for _, name := range []string{"/etc/uncharge/device.key", "/deadbeef/fadedfacade/0123456789", "UNCHARGE_DEVICE_KEY"} {
		if shownName(name) != name {
			t.Errorf("%s is hidden", name)
		}
	}
}

func TestKeyEnv(t *testing.T) {
	const name = "UNCHARGE_TEST_KEYS"
	for what, text := range map[string]string{
		"a comma":   countedHex + "," + deviceHex,
		"a space":   countedHex + " " + deviceHex,
		"lines":     "\n" + countedHex + "\r\n" + deviceHex + "\n",
		"in excess": " , " + countedHex + ",\t," + deviceHex + ",",
	} {
		t.Setenv(name, text)
		keys, err := KeyEnv(name)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		wantKeys(t, what, keys, countedKey, deviceKey)
		if os.Getenv(name) != text {
			t.Errorf("%s: the variable was changed", what)
		}
	}
	for what, text := range map[string]string{
		"empty": "", "separators": " , \n", "too short": countedHex[2:], "the same twice": countedHex + "," + countedHex,
		"no hex": strings.Repeat("xy", KeyBytes), "too long": strings.Repeat(" ", keyFileMax) + countedHex,
	} {
		t.Setenv(name, text)
		keys, err := KeyEnv(name)
		wantErr(t, what, err, ErrKey)
		wantKeyError(t, what, err, countedKey)
		if keys != nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, %v", what, keys, err)
		}
	}
	_, err := KeyEnv("UNCHARGE_TEST_KEYS_NOT_SET")
	wantErr(t, "not set", err, ErrKey)
}

// Whatever is in the file: it is read as keys that can be written and read again,
// or refused in one of a few sentences, which can hold nothing of it.
func FuzzKeyFile(f *testing.F) {
	for _, seed := range []string{
		"", "\n", countedHex, countedHex + "\n" + deviceHex, countedHex + "\r\n" + countedHex, countedHex[1:], countedHex + "g",
		strings.Repeat("g", digitsPerKey), string(countedKey), " \t" + strings.ToUpper(deviceHex) + " \n\n",
	} {
		f.Add([]byte(seed))
	}
	sentences := regexp.MustCompile(`^(` + strings.Join([]string{
		`line \d+ has \d+ characters; nothing was changed; a key is 64 hex digits`,
		`line \d+ has a character that is no hex digit; nothing was changed; a key is 64 of 0 to 9 and a to f`,
		`line \d+: it is key \d+ once more; nothing was changed; give each key once, the current one first`,
		`line \d+: there are more than 100 keys; nothing was changed; leave out the oldest ones under which nothing is sealed any more`,
		`there is no key; nothing was changed; put one there, 64 hex digits drawn by chance`,
	}, "|") + `)$`)
	f.Fuzz(func(t *testing.T, text []byte) {
		before := bytes.Clone(text)
		ring, err := parseKeys("line", bytes.Split(text, []byte("\n")))
		if !bytes.Equal(text, before) {
			t.Error("the text was changed")
		}
		if err != nil {
			if ring != nil || !sentences.MatchString(err.Error()) {
				t.Errorf("%v, %q", ring, err)
			}
			return
		}
		if len(ring.keys) < 1 || len(ring.keys) > keysMax {
			t.Fatalf("%d keys", len(ring.keys))
		}
		var lines []string
		for _, k := range ring.keys {
			lines = append(lines, hex.EncodeToString(k.material().key))
		}
		again, err := parseKeys("line", bytes.Split([]byte(strings.Join(lines, "\n")), []byte("\n")))
		if err != nil || again.String() != ring.String() {
			t.Errorf("%v, %v; first %v", again, err, ring)
		}
		if left := strings.Join(strings.Fields(strings.ToLower(string(text))), "\n"); left != strings.Join(lines, "\n") {
			t.Errorf("the text %q gave the keys of %q", left, lines)
		}
	})
}
