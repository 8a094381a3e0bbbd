package iso

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Every profile that is shipped, and every file of the tests, is what the schema
// says a profile is; and the schema refuses what the program refuses.
func TestProfilesFitTheSchema(t *testing.T) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(ProfileSchema()))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("profile.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("profile.json")
	if err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob("profiles/*.json")
	more, _ := filepath.Glob("../testdata/wire/profiles/*.json")
	if len(files) < 5 || len(more) < 5 {
		t.Fatalf("%d and %d profiles found", len(files), len(more))
	}
	for _, file := range append(files, more...) {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		fits := func(raw []byte) error {
			v, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
			if err != nil {
				return err
			}
			return schema.Validate(v)
		}
		if err := fits(raw); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		p, err := LoadProfile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := fits(p.JSON()); err != nil {
			t.Errorf("%s with its base merged in: %v", file, err)
		}
	}
	for name, bad := range map[string]string{
		"no fields": `{"schema":1,"name":"x"}`, "unknown key": `{"schema":1,"name":"x","base":"unionpay","hope":1}`,
		"class": `{"schema":1,"name":"x","base":"unionpay","codes":{"00":{"request":"yes"}}}`,
	} {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader([]byte(bad)))
		if err != nil {
			t.Fatal(err)
		}
		if schema.Validate(v) == nil {
			t.Errorf("%s: the schema accepts it", name)
		}
		if _, err := parseProfile([]byte(bad)); err == nil {
			t.Errorf("%s: the program accepts it", name)
		}
	}
}
