package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/store"
)

// Podman shuts the store down at the end of each of its commands, which takes the home's
// mount away, and makes that mount again when it starts. What is mounted in between stays
// to be seen.
func TestShutdownsTakeNoMountsAway(t *testing.T) {
	testutil.Root(t)
	cfg := roots(t)
	s, podman := open(t, cfg), open(t, cfg)
	importLayer(t, s, id("base"), "", layerTar(t, "dir/file"))
	importLayer(t, s, id("other"), "", layerTar(t, "dir/file"))
	mounts := func(s *store.Store, layer string) error {
		dir, err := s.Mount(t.Context(), layer, store.MountOptions{})
		if err != nil {
			return err
		}
		if _, err := os.Stat(filepath.Join(dir, "dir/file")); err != nil {
			return err
		}
		_, err = s.Unmount(t.Context(), layer, false)
		return err
	}
	var done atomic.Bool
	failed := make(chan error)
	go func() {
		var err error
		for !done.Load() && err == nil {
			if _, err = podman.Shutdown(t.Context(), false); err == nil || errors.Is(err, errdefs.ErrInUse) {
				err = mounts(podman, id("other"))
			}
		}
		failed <- err
	}()
	for range 300 {
		if err := mounts(s, id("base")); err != nil {
			t.Error(err)
			break
		}
	}
	done.Store(true)
	if err := <-failed; err != nil {
		t.Error(err)
	}
}
