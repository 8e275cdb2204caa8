package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/store"
)

// staged lists what lies in the directory for what isn't, or is no longer, part of the
// store.
func staged(t *testing.T, cfg config.Config) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(cfg.GraphRoot, "overlay/tempdirs/*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func manyNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("dir%d/file%d", i%50, i)
	}
	return names
}

func TestDeletedFilesAreGoneAfterWait(t *testing.T) {
	cfg := roots(t)
	s := open(t, cfg)
	for _, end := range []func() error{func() error { return s.Wait(t.Context()) }, s.Close} {
		importLayer(t, s, id("layer"), "", layerTar(t, manyNames(2000)...))
		if err := s.DeleteLayer(t.Context(), id("layer"), store.DeleteOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(filepath.Join(cfg.GraphRoot, "overlay", id("layer"))); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the layer's directory is in its place after the answer: %v", err)
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if left := staged(t, cfg); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
}

// What a process doesn't finish is garbage to the next one, which removes it when it
// opens the store.
func TestDeletionThatIsCalledOff(t *testing.T) {
	cfg := roots(t)
	s := open(t, cfg)
	importLayer(t, s, id("layer"), "", layerTar(t, manyNames(5000)...))
	if err := s.DeleteLayer(t.Context(), id("layer"), store.DeleteOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Wait(over); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatalf("the error was told before: %v", err)
	}
	next := open(t, cfg)
	if _, err := allLayers(next); err != nil {
		t.Fatal(err)
	}
	if left := staged(t, cfg); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	noGarbage(t, next)
}
