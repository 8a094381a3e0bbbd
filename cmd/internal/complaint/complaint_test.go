package complaint

import (
	"errors"
	"testing"
)

func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		"a\nb":                               "a; b",
		"unknown flag: --4111111111111111":   "unknown flag: --<digits>",
		`profile "4111 1111 1111 1111"`:      `profile "<digits>"`,
		"--4111-1111-1111-1111 is no flag":   "--<digits> is no flag",
		"entry 12: no such entry":            "entry 12: no such entry",
		"127.0.0.1:8583 on 2026-11-23 09:31": "127.0.0.1:8583 on 2026-11-23 09:31",
		"4111_1111  1111\t1111":              "<digits>",
		"4111.1111.1111.1111 is no flag":     "<digits> is no flag",
		"dial tcp 192.168.100.200:8583":      "dial tcp 192.168.100.200:8583",
		"411111111111":                       "<digits>",
		"41111111111":                        "41111111111",
	} {
		if got := Line(errors.New(in)); got != want {
			t.Errorf("%q gives %q, want %q", in, got, want)
		}
	}
}
