// Package profiles is the command that shows acquirer profiles to a person. Every
// program that speaks a profile has it.
package profiles

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"uncharge/iso"
)

// ErrUsage: the command was called wrongly.
var ErrUsage = errors.New("wrong use")

// Command is "profile" with its subcommands list and show, for the program of
// that name. It writes to the command's output and returns its errors: one
// wrapping ErrUsage for a wrong call, iso.ErrUnknownProfile for a profile that
// there is not, iso.ErrProfile for a file that is none. No error repeats an
// argument: it may be a card number that lost its flag (L11).
func Command(name string) *cobra.Command {
	parent := &cobra.Command{
		Use:   "profile",
		Short: "Show what a profile puts on the wire, and why",
		Example: "  " + name + " profile list\n" +
			"  " + name + " profile show unionpay --lang zh\n" +
			"  " + name + " profile show ./acquirer.json",
		SilenceUsage: true, SilenceErrors: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("%w: profile has no such command; give list or show", ErrUsage)
			}
			return nil
		},
		RunE: func(*cobra.Command, []string) error {
			return fmt.Errorf("%w: profile needs a command; give list or show", ErrUsage)
		},
	}
	parent.AddCommand(list(), show())
	return parent
}

func list() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "The profiles that are built in, one a line",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("%w: profile list takes no arguments", ErrUsage)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, name := range iso.ProfileNames() {
				p, err := iso.LoadProfile(name)
				if err != nil {
					return err
				}
				line := shortened(fmt.Sprintf("%-18s  %s", p.Name(), p.About()))
				if _, err := fmt.Fprintln(cmd.OutOrStdout(), line); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// columns is how wide a terminal is.
const columns = 80

// shortened ends a line that is too long for a terminal after a whole word. The
// built-in profiles speak ASCII of themselves.
func shortened(line string) string {
	const more = " ..."
	if len(line) <= columns {
		return line
	}
	line = line[:columns-len(more)+1]
	return line[:strings.LastIndexByte(line, ' ')] + more
}

func show() *cobra.Command {
	var lang string
	var raw bool
	cmd := &cobra.Command{
		Use:   "show NAME|FILE",
		Short: "A profile as one page",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("%w: profile show takes one profile, by name or as a file; profile list names them", ErrUsage)
			}
			return nil
		},
		ValidArgs: iso.ProfileNames(),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		language := fromEnvironment(os.Getenv)
		if cmd.Flags().Changed("lang") {
			var err error
			if language, err = iso.ParseLanguage(lang); err != nil {
				return fmt.Errorf("%w: --lang must be en or zh", ErrUsage)
			}
		}
		p, err := iso.LoadProfile(args[0])
		if err != nil {
			return discreet(err, args[0])
		}
		text := p.Page(language)
		if raw {
			var indented bytes.Buffer
			if err := json.Indent(&indented, p.JSON(), "", "  "); err != nil {
				return fmt.Errorf("%w: %w", iso.ErrProfile, err)
			}
			text = indented.String() + "\n"
		}
		_, err = fmt.Fprint(cmd.OutOrStdout(), text)
		return err
	}
	cmd.Flags().StringVar(&lang, "lang", "", "`LANGUAGE` of the page: en or zh; else the locale's,\nand en where that is neither")
	cmd.Flags().BoolVar(&raw, "json", false, "the profile file instead, with what it is based on")
	return cmd
}

// fromEnvironment is the language of the locale: of the three variables the first
// that is set decides, as in POSIX. What comes out is UTF-8, so that a Chinese
// locale of another encoding gets English, which it can show.
func fromEnvironment(getenv func(string) string) iso.Language {
	for _, name := range []string{"LC_ALL", "LC_MESSAGES", "LANG"} {
		locale := getenv(name)
		if locale == "" {
			continue
		}
		_, encoding, given := strings.Cut(locale, ".")
		encoding, _, _ = strings.Cut(encoding, "@")
		if given && !strings.EqualFold(strings.ReplaceAll(encoding, "-", ""), "utf8") {
			break
		}
		if language, err := iso.ParseLanguage(locale); err == nil {
			return language
		}
		break
	}
	return iso.English
}

// discreet is an error of LoadProfile without the argument.
func discreet(err error, arg string) error {
	kind := iso.ErrProfile
	if errors.Is(err, iso.ErrUnknownProfile) {
		kind = iso.ErrUnknownProfile
	}
	var file *fs.PathError
	if errors.As(err, &file) {
		return fmt.Errorf("%w: the file: %w", kind, file.Err)
	}
	if kind == iso.ErrUnknownProfile {
		return fmt.Errorf("%w; known: %s; or give the path of a profile file", kind, strings.Join(iso.ProfileNames(), ", "))
	}
	if why, ok := strings.CutPrefix(err.Error(), fmt.Sprintf("%v %s: ", kind, arg)); ok {
		return fmt.Errorf("%w: the file: %s", kind, why)
	}
	return err
}
