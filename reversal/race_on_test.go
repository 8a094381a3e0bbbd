//go:build race

package reversal

// underRace: the race detector makes everything some five times slower; the
// longest cases are shorter then.
const underRace = true
