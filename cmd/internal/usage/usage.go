// Package usage prints the usage of a command in 80 columns.
package usage

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

const columns = 80

// Fit makes a command, and those under it, print their usage in 80 columns. It
// does without the library's templates: they would bring text/template into the
// program, and a third more bytes into journal-dump.
func Fit(root *cobra.Command) {
	root.SetUsageFunc(func(c *cobra.Command) error {
		_, err := fmt.Fprint(c.OutOrStderr(), text(c))
		return err
	})
}

func text(c *cobra.Command) string {
	var b strings.Builder
	section := func(title, body string) {
		if body = strings.TrimRight(body, " \n"); body != "" {
			fmt.Fprintf(&b, "\n%s:\n%s\n", title, body)
		}
	}
	b.WriteString("Usage:\n")
	if c.Runnable() && !c.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "  %s\n", c.UseLine())
	}
	var commands strings.Builder
	if c.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "  %s [command]\n", c.CommandPath())
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() {
				fmt.Fprintf(&commands, "  %-11s %s\n", sub.Name(), sub.Short)
			}
		}
	}
	section("Examples", c.Example)
	section("Commands", commands.String())
	section("Flags", c.LocalFlags().FlagUsagesWrapped(columns))
	section("Global flags", c.InheritedFlags().FlagUsagesWrapped(columns))
	if c.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "\n\"%s [command] --help\" tells more about a command.\n", c.CommandPath())
	}
	return b.String()
}
