//go:build !race

package reversal

const underRace = false
