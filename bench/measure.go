package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// bench is one run.
type bench struct {
	options
	dir      string // temporary, below options.Dir
	progress io.Writer
	counter  counter
}

// measure does everything and prints it as it comes.
func measure(ctx context.Context, o options, stdout, progress io.Writer) (err error) {
	dir, err := os.MkdirTemp(o.Dir, "bench-*.tmp")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &bench{options: o, dir: dir, progress: progress, counter: newCounter()}
	start := time.Now()
	if err := printScene(stdout, b); err != nil {
		return err
	}
	var v verdicts
	if o.Contest {
		c, err := b.contest(ctx)
		if err != nil {
			return err
		}
		c.print(stdout)
		v = append(v, c.verdicts()...)
	}
	if o.History {
		h, err := b.history(ctx)
		if err != nil {
			return err
		}
		h.print(stdout)
		v = append(v, h.verdicts()...)
	}
	v.print(stdout, o.Short)
	_, err = fmt.Fprintf(stdout, "\nmeasured in %v\n", time.Since(start).Round(time.Second))
	return err
}

func (b *bench) tell(format string, args ...any) { fmt.Fprintf(b.progress, format+"\n", args...) }

// settle lets the disk finish what is over, so that the next one does not pay for
// it.
func (b *bench) settle() error {
	d, err := os.Open(b.dir)
	if err != nil {
		return err
	}
	return errors.Join(os.NewSyscallError("syncfs", unix.Syncfs(int(d.Fd()))), d.Close())
}
