package graphdriver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/drivers/overlay"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/quota"
	"golang.org/x/sys/unix"
)

const miB = 1 << 20

// containers/storage's driver, which has quotas on XFS alone, and ours in one home: each
// knows what the other's layers take, and neither gives a layer the project of one of the
// other's.
func TestQuotasOfTheLibrary(t *testing.T) {
	program := os.Getenv("SHALE_PEER_QUOTA")
	disk := testutil.QuotaFS(t, "xfs")
	if info, err := os.Stat(program); err != nil || !info.Mode().IsRegular() {
		t.Skip(
			"needs SHALE_PEER_QUOTA, tests/graphdriver/peerquota built with cgo, as make test-vm does where there " +
				"is a C compiler")
	}
	root, runRoot := filepath.Join(disk.Dir, "root"), t.TempDir()
	theirs := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(program, append([]string{root, runRoot}, args...)...)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("their driver: %v: %v", args, err)
		}
		return strings.TrimSpace(string(out))
	}
	ctx := context.Background()
	d, err := overlay.Open(ctx, overlay.Options{Place: drivers.Place{Root: root, RunRoot: runRoot}})
	if err != nil {
		t.Fatal(err)
	}
	create := func(id string, bytes uint64) {
		t.Helper()
		s, err := d.Stage(ctx, "", drivers.StageOptions{Writable: true, Limits: &drivers.Limits{Bytes: &bytes}})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(s.Commit(ctx, id), s.Discard()); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "overlay", id, "diff", "f"), make([]byte, 3*miB),
			0o600); err != nil {
			t.Fatal(err)
		}
	}
	agree := func(id string, limit uint64, atLeast int64) {
		t.Helper()
		unix.Sync()
		limits, usage, err := d.Quota(ctx, id)
		if err != nil || limits != (quota.Limits{Bytes: limit}) || usage.Bytes < atLeast || usage.Bytes > atLeast+miB {
			t.Errorf("%s: we read limits %v and %d bytes, %v; want %d, and %d bytes", id, limits, usage.Bytes, err,
				limit, atLeast)
		}
		if got, want := theirs("usage", id), fmt.Sprint(usage.Bytes, " ", usage.Inodes); got != want {
			t.Errorf("%s: their driver reads %q, ours %q", id, got, want)
		}
	}

	create("ours", 50*miB)
	agree("ours", 50*miB, 3*miB)
	theirs("create", "theirs", "7M")
	create("again", 9*miB)
	agree("theirs", 7*miB, 0)
	agree("ours", 50*miB, 3*miB)
	agree("again", 9*miB, 3*miB)
	theirs("remove", "ours")
	trash, err := d.Delete(ctx, "theirs")
	if err == nil {
		err = trash.Empty(ctx)
	}
	if err != nil {
		t.Error(err)
	}
	create("last", 11*miB)
	agree("last", 11*miB, 3*miB)
	agree("again", 9*miB, 3*miB)
}
