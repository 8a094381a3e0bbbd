package iso

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed profiles/*.json
var profileFiles embed.FS

// profileBytesMax bounds a profile file.
const profileBytesMax = 1 << 20

// ProfileNames lists the profiles that are built in, sorted.
func ProfileNames() []string {
	files, err := profileFiles.ReadDir("profiles")
	if err != nil {
		panic(err) // an embedded directory that is not there: the build is wrong
	}
	var names []string
	for _, f := range files {
		names = append(names, strings.TrimSuffix(f.Name(), ".json"))
	}
	slices.Sort(names)
	return names
}

// LoadProfile loads and validates a profile: a built-in one by its name, or a
// file by its path, which ends in ".json" or has a separator in it. Errors: one
// wrapping ErrUnknownProfile that lists the names there are; one wrapping
// ErrProfile that names the place in the file.
func LoadProfile(nameOrPath string) (*Profile, error) {
	raw, err := profileText(nameOrPath)
	if err != nil {
		return nil, err
	}
	return parseProfile(raw)
}

func profileText(nameOrPath string) ([]byte, error) {
	if slices.Contains(ProfileNames(), nameOrPath) {
		return profileFiles.ReadFile(path.Join("profiles", nameOrPath+".json"))
	}
	unknown := fmt.Errorf("%w %q; known: %s; or give the path of a profile file", ErrUnknownProfile, nameOrPath, strings.Join(ProfileNames(), ", "))
	if !strings.HasSuffix(nameOrPath, ".json") && !strings.ContainsRune(nameOrPath, os.PathSeparator) {
		return nil, unknown
	}
	f, err := os.Open(nameOrPath)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", unknown, err)
	}
	defer func() { _ = f.Close() }()
	raw, err := io.ReadAll(io.LimitReader(f, profileBytesMax+1))
	if err == nil && len(raw) > profileBytesMax {
		err = fmt.Errorf("it is larger than %d bytes", profileBytesMax)
	}
	if err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrProfile, nameOrPath, err)
	}
	return raw, nil
}

// basesMax bounds how deep one profile may be based on another.
const basesMax = 8

func parseProfile(raw []byte) (*Profile, error) {
	merged, err := withBase(raw, basesMax)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProfile, err)
	}
	p := &Profile{file: merged}
	dec := json.NewDecoder(bytes.NewReader(merged))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p.data); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProfile, placed(err))
	}
	if err := p.data.validate(); err != nil {
		return nil, fmt.Errorf("%w %q: %w", ErrProfile, p.data.Name, err)
	}
	if err := p.compile(); err != nil {
		return nil, fmt.Errorf("%w %q: %w", ErrProfile, p.data.Name, err)
	}
	return p, nil
}

// placed names the place in the file where a value has the wrong kind.
func placed(err error) error {
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) && kind.Field != "" {
		return fmt.Errorf("%s: must not be a %s", kind.Field, kind.Value)
	}
	return err
}

// withBase merges a profile into the one that its "base" names (JSON merge patch,
// RFC 7396: an object is merged key by key, null takes a key away, anything else
// replaces what was there). A base is always a built-in profile.
func withBase(raw []byte, depth int) ([]byte, error) {
	patch, err := object(raw)
	if err != nil {
		return nil, err
	}
	if err := checkKeys(reflect.TypeFor[profileData](), patch, ""); err != nil {
		return nil, err
	}
	named, ok := patch["base"]
	if !ok {
		return json.Marshal(patch)
	}
	name, _ := named.(string)
	if !slices.Contains(ProfileNames(), name) {
		return nil, fmt.Errorf("base: must be one of %s", strings.Join(ProfileNames(), ", "))
	}
	if depth == 0 {
		return nil, fmt.Errorf("base: profiles are based on each other without end")
	}
	text, err := profileFiles.ReadFile(path.Join("profiles", name+".json"))
	if err != nil {
		return nil, err
	}
	if text, err = withBase(text, depth-1); err != nil {
		return nil, err
	}
	base, err := object(text)
	if err != nil {
		return nil, err
	}
	merge(base, patch)
	delete(base, "base") // what the file says now stands by itself
	return json.Marshal(base)
}

// checkKeys refuses a key that is not exactly one of the format's, before anything
// is merged: "Timers" or "064" would stand beside the right one and change
// nothing, without a word. It names the place.
func checkKeys(t reflect.Type, value any, at string) error {
	object, ok := value.(map[string]any)
	if !ok {
		if t == reflect.TypeFor[duration]() {
			return checkDuration(value, at)
		}
		return nil // the decoder says what is wrong with it
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	known := map[string]reflect.Type{}
	if t.Kind() == reflect.Struct {
		for i := range t.NumField() {
			name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
			known[name] = t.Field(i).Type
		}
	}
	for key, inner := range object {
		next, ok := known[key]
		switch {
		case t.Kind() == reflect.Map && t.Key().Kind() == reflect.Int:
			n, err := strconv.Atoi(key)
			next, ok = t.Elem(), err == nil && strconv.Itoa(n) == key
		case t.Kind() == reflect.Map:
			next, ok = t.Elem(), key != ""
		}
		if !ok {
			return fmt.Errorf("%s%s: no such key", at, shortened(key))
		}
		if err := checkKeys(next, inner, at+key+"."); err != nil {
			return err
		}
	}
	return nil
}

func checkDuration(value any, at string) error {
	text, ok := value.(string)
	if _, err := time.ParseDuration(text); value != nil && (!ok || err != nil) {
		return fmt.Errorf("%s: must be a time in quotes, such as \"45s\"", strings.TrimSuffix(at, "."))
	}
	return nil
}

// shortened keeps a key readable in an error, whatever a file has there.
func shortened(key string) string {
	if len(key) > 40 || !printable(key) {
		return "a key of " + strconv.Itoa(len(key)) + " bytes"
	}
	return key
}

func object(raw []byte) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v map[string]any
	if err := dec.Decode(&v); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return nil, fmt.Errorf("line %d: %w", 1+bytes.Count(raw[:min(int(syntax.Offset), len(raw))], []byte("\n")), err)
		}
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			return nil, errors.New("the file ends before its last brace")
		}
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the profile's closing brace")
	}
	return v, nil
}

func merge(into, patch map[string]any) {
	for key, value := range patch {
		inner, isObject := value.(map[string]any)
		old, wasObject := into[key].(map[string]any)
		switch {
		case value == nil:
			delete(into, key)
		case isObject && wasObject:
			merge(old, inner)
		case isObject:
			old = map[string]any{}
			merge(old, inner)
			into[key] = old
		default:
			into[key] = value
		}
	}
}

// duration is a time.Duration that a profile file writes as "45s".
type duration time.Duration

func (d *duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	v, err := time.ParseDuration(s)
	*d = duration(v)
	return err
}
