//go:build race

package journal

// pagesUnderRace: the race detector makes the long enumerations ten times slower;
// they touch no goroutine, so a part of them is enough then.
const pagesUnderRace = true
