// Package reversal runs a terminal's transactions so that a customer who was
// told "failed" is never left charged, and a finished sale is never undone.
//
// [Engine.Send] records a request, sends it and says what became of it.
// [Engine.Run] finds what a crash left armed and reverses whatever is owed until
// the host has confirmed. The engine is the only place where disk and wire meet;
// what it does next is decided by pure functions in decide.go.
//
// What a caller of Send hears is one of:
//
//	sale, nil         approved, provisionally: show nothing before Complete returned nil (L3)
//	ErrDeclined       the host said no; *DeclinedError has its code
//	ErrNotSent        nothing left the terminal; safe to try again
//	ErrFailed         failed and being reversed; *FailedError has the cause
//	ErrReversalOwed   refused: an earlier reversal must reach the host first (L9)
//
// An Engine may be used from many goroutines; transactions of one lane (terminal
// and merchant) follow one another.
package reversal
