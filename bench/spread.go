package main

import (
	"fmt"
	"slices"
)

// spread is what several rounds came to.
type spread struct{ median, low, high float64 }

// spreadOf is of one value or more.
func spreadOf(values []float64) spread {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return spread{(v[(n-1)/2] + v[n/2]) / 2, v[0], v[n-1]}
}

// between gives the lowest and the highest in one format.
func (s spread) between(format string) string {
	return fmt.Sprintf(format+"–"+format, s.low, s.high)
}

// spreadBy is the spread of a number that each round has.
func spreadBy[T any](rounds []T, number func(T) float64) spread {
	values := make([]float64, len(rounds))
	for i, r := range rounds {
		values[i] = number(r)
	}
	return spreadOf(values)
}

// ratio divides what was measured in the same round, so that a slow minute of the
// machine slows both.
func ratio[T any](above, below []T, number func(T) float64) spread {
	values := make([]float64, min(len(above), len(below)))
	for i := range values {
		values[i] = number(above[i]) / number(below[i])
	}
	return spreadOf(values)
}
