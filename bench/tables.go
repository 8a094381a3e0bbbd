package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// printScene says where and how this run was made: its numbers mean nothing
// elsewhere, its ratios little.
func printScene(w io.Writer, b *bench) error {
	var disk unix.Statfs_t
	if err := unix.Statfs(b.dir, &disk); err != nil {
		return os.NewSyscallError("statfs", err)
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return os.NewSyscallError("uname", err)
	}
	kind := diskKind(uint32(disk.Type))
	fmt.Fprintf(w, "Linux %s, %s, %d CPUs, file system %s, %s\n", unix.ByteSliceToString(name.Release[:]), runtime.GOARCH,
		runtime.NumCPU(), kind, runtime.Version())
	fmt.Fprintf(w, "%d rounds of %v after %v of warming, contenders in turn; medians, and the lowest–highest round\n",
		b.Rounds, b.Measured, b.Warm)
	below, err := deviceOf(b.dir)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "bytes are those that %s\n", below)
	if kind == "tmpfs" {
		fmt.Fprintln(w, "WARNING: this directory is in memory; syncs cost nothing here and the ratios are worthless (-dir)")
	}
	if b.SQLiteFsync {
		fmt.Fprintln(w, "SQLite syncs with fsync, not with fdatasync")
	}
	if b.counter.why != "" {
		fmt.Fprintf(w, "no syncs are counted: %s\n", b.counter.why)
	}
	return nil
}

func diskKind(magic uint32) string {
	for kind, m := range map[string]uint32{
		"ext4": unix.EXT4_SUPER_MAGIC, "xfs": unix.XFS_SUPER_MAGIC, "btrfs": unix.BTRFS_SUPER_MAGIC, "f2fs": unix.F2FS_SUPER_MAGIC,
		"tmpfs": unix.TMPFS_MAGIC, "overlay": unix.OVERLAYFS_SUPER_MAGIC, "ubifs": 0x24051905,
	} {
		if m == magic {
			return kind
		}
	}
	return fmt.Sprintf("%#x", magic)
}

func (c *contest) print(w io.Writer) {
	fmt.Fprint(w, "\nthe contest\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "callers\tcontender\tsales/s\tlowest–highest\tp50 µs\tp99 µs\tsyncs/sale\tbytes/sale\tCPU µs/sale\t")
	for _, callers := range c.callers {
		for _, contender := range contenders {
			c.printRow(t, cell{contender, callers})
		}
		fmt.Fprintln(t, strings.Repeat("\t", 9))
	}
	_ = t.Flush()
	fmt.Fprint(w, "journal against the others, sales/s, each round against the same round\n\n")
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "callers\tagainst\tratio\tlowest–highest\t")
	for _, callers := range c.callers {
		for _, contender := range contenders {
			if contender == ourJournal {
				continue
			}
			r := ratio(c.rounds[cell{ourJournal, callers}], c.rounds[cell{contender, callers}], loaded.perSecond)
			fmt.Fprintf(t, "%d\t%s\t%.2f\t%s\t\n", callers, contender, r.median, r.between("%.2f"))
		}
	}
	_ = t.Flush()
}

func (c *contest) printRow(w io.Writer, at cell) {
	rounds := c.rounds[at]
	speed := spreadBy(rounds, loaded.perSecond)
	micros := func(of func(loaded) time.Duration) float64 {
		return spreadBy(rounds, func(l loaded) float64 { return float64(of(l).Microseconds()) }).median
	}
	syncs := "-"
	if s, ok := c.syncs[at]; ok {
		syncs = fmt.Sprintf("%.2f", s.perSale())
	}
	fmt.Fprintf(w, "%d\t%s\t%.0f\t%s\t%.0f\t%.0f\t%s\t%.0f\t%.0f\t\n", at.callers, at.contender, speed.median, speed.between("%.0f"),
		micros(func(l loaded) time.Duration { return l.P50 }), micros(func(l loaded) time.Duration { return l.P99 }),
		syncs, spreadBy(rounds, loaded.bytesPerSale).median, spreadBy(rounds, loaded.cpuMicrosPerSale).median)
}

func (h *history) print(w io.Writer) {
	fmt.Fprint(w, "\nthe journal with a history, 1 caller\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "stored\tfilled/s\tµs/sale\tlowest–highest\tagainst the first\tp50 µs\tp99 µs\tCPU µs/sale\tbytes/sale\tanonymous MB\t")
	for i, n := range h.stored {
		rounds := h.sales[n]
		cost := spreadBy(rounds, loaded.microsPerSale)
		fmt.Fprintf(t, "%d\t%.0f\t%.0f\t%s\t%.2f\t%.0f\t%.0f\t%.0f\t%.0f\t%.1f\t\n", n, h.fills[i].PerSecond, cost.median, cost.between("%.0f"),
			ratio(rounds, h.sales[h.stored[0]], loaded.microsPerSale).median,
			spreadBy(rounds, func(l loaded) float64 { return float64(l.P50.Microseconds()) }).median,
			spreadBy(rounds, func(l loaded) float64 { return float64(l.P99.Microseconds()) }).median,
			spreadBy(rounds, loaded.cpuMicrosPerSale).median, spreadBy(rounds, loaded.bytesPerSale).median,
			spreadBy(rounds, func(l loaded) float64 { return float64(l.AnonMost) / 1e6 }).high)
	}
	_ = t.Flush()
	idle := spreadBy(h.sales[h.most()], func(l loaded) float64 { return float64(l.AnonIdle) / 1e6 }).median
	fmt.Fprintf(w, "this program has %.1f MB of anonymous memory before it opens a journal\n", idle)
	if h.most() < h.asked {
		fmt.Fprintf(w, "filling was ended at %d of %d entries (-fill-max)\n", h.most(), h.asked)
	}
	fmt.Fprintf(w, "\nreopened after kill -9, %d entries, %d owed\n\n", h.most(), h.warm[0].Owed)
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "files\topen ms\tlist ms\tboth ms\tlowest–highest\tanonymous MB\t")
	h.printReopen(t, "in memory", h.warm)
	h.printReopen(t, "on disk", h.cold)
	_ = t.Flush()
	if s := spreadOf(h.stillInMem); s.high > 0 {
		fmt.Fprintf(w, "up to %.1f%% of the files stayed in memory before a cold open\n", s.high*100)
	}
}

func (h *history) printReopen(w io.Writer, files string, all []reopened) {
	millis := func(of func(reopened) time.Duration) float64 {
		return spreadBy(all, func(r reopened) float64 { return float64(of(r).Microseconds()) / 1000 }).median
	}
	both := spreadBy(all, reopened.untilListed)
	fmt.Fprintf(w, "%s\t%.1f\t%.1f\t%.1f\t%s\t%.1f\t\n", files, millis(func(r reopened) time.Duration { return r.Open }),
		millis(func(r reopened) time.Duration { return r.List }), both.median, both.between("%.1f"),
		spreadBy(all, func(r reopened) float64 { return float64(r.Anon) / 1e6 }).high)
}
