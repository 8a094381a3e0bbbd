package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// waitAfterKill is how long a killed worker may take to be gone.
const waitAfterKill = 10 * time.Second

// command prepares a worker; before it may stand a program that watches it.
func command(ctx context.Context, w job, before ...string) (*exec.Cmd, *bytes.Buffer, error) {
	in, err := json.Marshal(w)
	if err != nil {
		return nil, nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	args := append(before[:len(before):len(before)], self, workerArg)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	complaint := &bytes.Buffer{}
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), complaint
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = waitAfterKill
	return cmd, complaint, nil
}

// runWorker has one job done in a process of its own.
func runWorker[outcome any](ctx context.Context, w job, before ...string) (out outcome, err error) {
	cmd, complaint, err := command(ctx, w, before...)
	if err != nil {
		return out, err
	}
	answer, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(answer, &out)
	}
	return out, workerError(ctx, w, err, complaint)
}

func workerError(ctx context.Context, w job, err error, complaint *bytes.Buffer) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return fmt.Errorf("worker %s %s: %w: %s", w.Task, w.Contender, err, strings.TrimSpace(complaint.String()))
}

// killWhileSelling has a worker sell on a journal and kills it (SIGKILL) in the
// middle of it.
func killWhileSelling(ctx context.Context, dir string, after time.Duration) error {
	w := job{Task: taskLive, Contender: ourJournal, Dir: dir}
	cmd, complaint, err := command(ctx, w)
	if err != nil {
		return err
	}
	answer, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("worker %s: %w", w.Task, err)
	}
	word, readErr := bufio.NewReader(answer).ReadString('\n')
	if readErr == nil {
		select {
		case <-time.After(after):
		case <-ctx.Done():
		}
	}
	killErr := cmd.Process.Kill()
	err = cmd.Wait()
	if strings.TrimSpace(word) != liveWord {
		return workerError(ctx, w, errors.Join(readErr, err), complaint)
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		return workerError(ctx, w, fmt.Errorf("it was not killed: %w", errors.Join(killErr, err)), complaint)
	}
	return ctx.Err()
}
