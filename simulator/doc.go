// Package simulator is a card host that can be told to misbehave, and the
// witness that says afterwards who was charged.
//
// It is the outside judge of the terminal: it imports the wire format (iso) and
// neither the journal nor the reversal engine, or it would share their bugs. It
// knows of a terminal only what came over the line.
//
// The Ledger books each sale once, undoes it at most once, and counts both per
// card. The Host serves connections with it. A Fault makes the host lose, delay,
// refuse or spoil what it does, at the level of whole messages; an Event tells
// an observer what it did, in order, without card data beyond the last four
// digits.
package simulator
