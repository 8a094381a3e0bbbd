// Package iso speaks ISO 8583 the way one acquirer wants it: it builds a
// request, unpacks an answer, says whether the answer belongs to the request,
// and builds the reversal of a request from the little that was kept of it.
//
// All that differs between acquirers is data, a [Profile]. The package knows no
// disk and no socket; framing works on io.Reader and io.Writer.
//
// Card data: every type here that can hold it prints masked under every verb of
// fmt, in JSON and in log/slog. The clear value is had only by asking for it
// (PAN.Reveal, Message.Field).
//
// A Profile is immutable once loaded and may be used from many goroutines. A
// Message belongs to one goroutine at a time.
package iso
