package simulator

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// The host judges the terminal from outside: of this module it may know the wire
// format and nothing else.
func TestKnowsNothingOfTheTerminal(t *testing.T) {
	for pkg, want := range map[string][]string{
		"uncharge/simulator":          {"uncharge/iso", "uncharge/simulator"},
		"uncharge/cmd/host-simulator": {"uncharge/cmd/host-simulator", "uncharge/cmd/internal/complaint", "uncharge/iso", "uncharge/simulator"},
	} {
		out, err := exec.Command("go", "list", "-deps", pkg).Output()
		if err != nil {
			t.Fatalf("go list -deps %s: %v", pkg, err)
		}
		var own []string
		for _, dep := range strings.Fields(string(out)) {
			if strings.HasPrefix(dep, "uncharge/") {
				own = append(own, dep)
			}
		}
		slices.Sort(own)
		if !slices.Equal(own, want) {
			t.Errorf("%s imports %v, want %v", pkg, own, want)
		}
	}
}
