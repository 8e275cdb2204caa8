package lockfile_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/shalestore/shale/internal/lockfile"
)

// Who waits for a lock learns who holds it, and a context that ends is the end of the
// waiting.
func TestWaitingIsTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	held, err := lockfile.Acquire(context.Background(), path, lockfile.Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Release()
	told := make(chan lockfile.Waiting, 1)
	ctx, cancel := context.WithCancel(lockfile.OnWait(context.Background(), func(w lockfile.Waiting) { told <- w }))
	defer cancel()
	done := make(chan error)
	began := time.Now()
	go func() {
		_, err := lockfile.Acquire(ctx, path, lockfile.Shared)
		done <- err
	}()
	w := <-told
	if w.Path != path || w.PID != os.Getpid() || w.Program == "" || w.Since.Before(began) ||
		time.Since(w.Since) < lockfile.Patience {
		t.Errorf("told of %+v", w)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("after cancelling: %v", err)
	}
}
