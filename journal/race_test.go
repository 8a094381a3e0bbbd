//go:build race

package journal

// underRace: the race detector watches, and everything takes several times as long.
const underRace = true
