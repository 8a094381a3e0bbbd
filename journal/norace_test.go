//go:build !race

package journal

// underRace is true where the race detector watches.
const underRace = false
