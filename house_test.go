package uncharge_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestHouse holds the rooms to their arrows (ARCHITECTURE.md). journal-dump must
// stay small, so it may have neither TLS nor a codec in it; the simulator must
// stay an independent judge.
func TestHouse(t *testing.T) {
	for _, room := range []struct {
		name string
		may  []string // packages of the house it may rest on
		not  []string // packages from outside that it may not
	}{
		{"iso", nil, []string{"net", "go.etcd.io/bbolt"}},
		{"journal", nil, []string{"net", "github.com/moov-io/iso8583"}},
		{"reversal", []string{"iso", "journal"}, []string{"github.com/rs/zerolog"}},
		{"simulator", []string{"iso"}, []string{"go.etcd.io/bbolt", "github.com/rs/zerolog"}},
		{"demo", nil, []string{"github.com/moov-io/iso8583", "go.etcd.io/bbolt"}},
		{"cmd/journal-dump", []string{"cmd/internal/complaint", "cmd/internal/usage", "journal"}, []string{"crypto/tls", "github.com/moov-io/iso8583"}},
		{"cmd/host-simulator", []string{"cmd/internal/complaint", "cmd/internal/profiles", "iso", "simulator"}, []string{"go.etcd.io/bbolt"}},
		{"cmd/terminal", []string{"cmd/internal/complaint", "cmd/internal/profiles", "cmd/internal/usage", "iso", "journal", "reversal"}, nil},
	} {
		out, err := exec.Command("go", "list", "-deps", "./"+room.name).Output()
		if err != nil {
			t.Fatalf("go list %s: %v", room.name, err)
		}
		deps := strings.Fields(string(out))
		for _, dep := range deps {
			own, ours := strings.CutPrefix(dep, "uncharge/")
			if ours && own != room.name && !slices.Contains(room.may, own) {
				t.Errorf("%s rests on %s", room.name, dep)
			}
		}
		for _, banned := range room.not {
			if slices.Contains(deps, banned) {
				t.Errorf("%s rests on %s", room.name, banned)
			}
		}
	}
}
