package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"golang.org/x/sys/unix"
)

func TestAdvice(t *testing.T) {
	notOwner := "shale unshare"
	if !idtools.IsRootless(os.LookupEnv) {
		notOwner = "" // root of the host has all the rights there are
	}
	for _, tt := range []struct {
		err  error
		want string // a part; "" for none at all
	}{
		{fmt.Errorf("layer x: %w", unix.EACCES), notOwner},
		{fmt.Errorf("entry %q: %w: %w", "h", errdefs.ErrInvalid, unix.EPERM), ""},
		{fmt.Errorf("layer x: %w", unix.ENOSPC), "shale gc"},
		{fmt.Errorf("layer x: %w", errdefs.ErrNotFound), "shale layers"},
		{fmt.Errorf("layer x: data item k: %w", errdefs.ErrNotFound), "list-layer-data"},
		{fmt.Errorf("limits: %w: %w", errdefs.ErrInvalid, unix.ENOSPC), ""},
		{fmt.Errorf("ranges of user x in /etc/subuid: %w", errdefs.ErrNotFound), ""},
		{fmt.Errorf("limits: project quotas at /srv: %w", errdefs.ErrUnsupported), ""},
		{fmt.Errorf("layer x: %w", errdefs.ErrInUse), "--tree"},
		{fmt.Errorf("vfs: mount option: %w", errdefs.ErrUnsupported), "can do"},
		{fmt.Errorf("check: %w", advised{errdefs.ErrInUse, "--force"}), "--force"},
		{unix.EIO, ""},
	} {
		if got := advice(tt.err); !strings.Contains(got, tt.want) || tt.want == "" && got != "" {
			t.Errorf("%v: %q, want %q", tt.err, got, tt.want)
		}
	}
}
