// Package journal is the durable record of a card terminal: every transaction
// is written here before its first byte leaves, and every later step before it
// is acted on or shown (L1, L3, L6).
//
// A journal is a directory. Each step is durable when its call returns nil: it
// survives a power cut. When a step returns an error that wraps [ErrPoisoned],
// its outcome is unknown until [Journal.Recover] has returned nil or the journal was
// opened again; every other error means that nothing was changed.
//
// The package knows no network and no message format. It stores typed facts
// (ids, amounts, codes, times) and one opaque image per entry, which it seals
// under the device's key (L11). FORMAT.md beside this file gives the bytes.
//
// A Journal may be used from many goroutines. Steps are decided one at a time and
// become durable together: callers that come while one is being written share the
// next write and sync, and a lone caller waits for nobody.
package journal
