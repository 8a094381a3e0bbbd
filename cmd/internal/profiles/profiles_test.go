package profiles

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"uncharge/iso"
)

// run calls the command as a program would that has it.
func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	root := &cobra.Command{Use: "terminal", SilenceUsage: true, SilenceErrors: true}
	root.AddCommand(Command("terminal"))
	var stdout, stderr bytes.Buffer
	root.SetOut(&stdout)
	root.SetErr(&stderr)
	root.SetArgs(append([]string{"profile"}, args...))
	err := root.Execute()
	if stderr.Len() > 0 {
		t.Errorf("%v prints %q where errors go", args, stderr.String())
	}
	return stdout.String(), err
}

func TestListHasEveryProfileOnALine(t *testing.T) {
	out, err := run(t, "list")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	names := iso.ProfileNames()
	if len(lines) != len(names) {
		t.Fatalf("%d lines for %d profiles:\n%s", len(lines), len(names), out)
	}
	for i, line := range lines {
		name, about, _ := strings.Cut(line, " ")
		if name != names[i] || strings.TrimSpace(about) == "" || utf8.RuneCountInString(line) > 80 || line != strings.TrimRight(line, " ") {
			t.Errorf("line %d: %q", i+1, line)
		}
	}
}

func TestShowSpeaksTheLanguageAskedFor(t *testing.T) {
	p, err := iso.LoadProfile("unionpay")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		scene                 string
		lcAll, messages, lang string
		args                  []string
		want                  iso.Language
	}{
		{"nothing said", "", "", "", nil, iso.English},
		{"LANG", "", "", "zh_CN.UTF-8", nil, iso.Chinese},
		{"LC_MESSAGES before LANG", "", "zh_CN.utf8", "en_US.UTF-8", nil, iso.Chinese},
		{"LC_ALL before both", "C", "zh_CN.UTF-8", "zh_CN.UTF-8", nil, iso.English},
		{"another language", "de_DE.UTF-8", "", "zh_CN.UTF-8", nil, iso.English},
		{"another encoding", "zh_CN.GB18030", "", "", nil, iso.English},
		{"a variant", "zh_CN.UTF-8@pinyin", "", "", nil, iso.Chinese},
		{"the flag before all", "C", "", "", []string{"--lang", "zh"}, iso.Chinese},
		{"the flag before all", "zh_CN.UTF-8", "", "", []string{"--lang=en"}, iso.English},
	} {
		t.Setenv("LC_ALL", c.lcAll)
		t.Setenv("LC_MESSAGES", c.messages)
		t.Setenv("LANG", c.lang)
		out, err := run(t, append([]string{"show", "unionpay"}, c.args...)...)
		if err != nil || out != p.Page(c.want) {
			t.Errorf("%s: not the page in %q (%v)", c.scene, c.want, err)
		}
	}
}

func TestShowJSONIsTheWholeProfile(t *testing.T) {
	out, err := run(t, "show", "--json", "iso87-binary")
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Name   string
		Fields map[string]any
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	if got.Name != "iso87-binary" || len(got.Fields) < 100 || !strings.Contains(out, "\n  \"name\"") || !strings.HasSuffix(out, "}\n") {
		t.Errorf("name %q, %d fields", got.Name, len(got.Fields))
	}
	// What was printed is a profile again.
	file := filepath.Join(t.TempDir(), "copy.json")
	if err := os.WriteFile(file, []byte(strings.Replace(out, `"base": "iso87-ascii",`, "", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	page, err := run(t, "show", file, "--lang", "en")
	if err != nil || !strings.HasPrefix(page, "iso87-binary\n") {
		t.Errorf("shown from its own file: %v", err)
	}
}

const card = "4111111111111111"

// L11: what was typed may be a card number that lost its flag.
func TestL11ErrorsRepeatNoArgument(t *testing.T) {
	dir := t.TempDir()
	directory := filepath.Join(dir, card+".d")
	broken := filepath.Join(dir, card+".json")
	huge := filepath.Join(dir, "huge"+card+".json")
	if err := errors.Join(
		os.Mkdir(directory, 0o700),
		os.WriteFile(broken, []byte("{"), 0o600),
		os.WriteFile(huge, bytes.Repeat([]byte(" "), 1<<20+1), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want error
	}{
		{nil, ErrUsage},
		{[]string{card}, ErrUsage},
		{[]string{"list", card}, ErrUsage},
		{[]string{"show"}, ErrUsage},
		{[]string{"show", "unionpay", card}, ErrUsage},
		{[]string{"show", "unionpay", "--lang", card}, ErrUsage},
		{[]string{"show", card}, iso.ErrUnknownProfile},
		{[]string{"show", "./" + card}, iso.ErrUnknownProfile},
		{[]string{"show", card + ".json"}, iso.ErrUnknownProfile},
		{[]string{"show", directory}, iso.ErrProfile},
		{[]string{"show", broken}, iso.ErrProfile},
		{[]string{"show", huge}, iso.ErrProfile},
	} {
		out, err := run(t, c.args...)
		if !errors.Is(err, c.want) || out != "" {
			t.Errorf("%d arguments: %v, want %v; printed %d bytes", len(c.args), err, c.want, len(out))
			continue
		}
		if text := err.Error(); strings.Contains(text, card) || strings.Contains(text, "\n") {
			t.Errorf("the error repeats an argument or is no line: %d characters", len(text))
		}
	}
}

func TestUnknownProfileNamesTheKnown(t *testing.T) {
	_, err := run(t, "show", "nosuch")
	if !errors.Is(err, iso.ErrUnknownProfile) || !strings.Contains(err.Error(), "unionpay") {
		t.Errorf("%v", err)
	}
}

// A page that nobody could read is not a success.
func TestAFailedWriteIsAnError(t *testing.T) {
	for _, args := range [][]string{{"profile", "list"}, {"profile", "show", "iso93"}, {"profile", "show", "iso93", "--json"}} {
		root := &cobra.Command{Use: "terminal", SilenceUsage: true, SilenceErrors: true}
		root.AddCommand(Command("terminal"))
		root.SetOut(full{})
		root.SetArgs(args)
		if err := root.Execute(); !errors.Is(err, errFull) {
			t.Errorf("%v: %v", args, err)
		}
	}
}

var errFull = errors.New("no space left")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }
