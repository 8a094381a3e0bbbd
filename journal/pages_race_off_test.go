//go:build !race

package journal

const pagesUnderRace = false
