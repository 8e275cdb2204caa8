package fsck_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/shalestore/shale/internal/lockfile"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/store/fsck"
)

// Who reads has nothing to wait for from a check, nor it from them; and while it reads
// content it holds no lock at all.
func TestCheckKeepsNobodyWaiting(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	p := newPatient(t, "overlay")
	var readers []*lockfile.Lock
	for _, name := range []string{"overlay-layers/layers.lock", "overlay-images/images.lock",
		"overlay-containers/containers.lock"} {
		lock, err := lockfile.Acquire(ctx, p.path(name), lockfile.Shared)
		p.must(err)
		readers = append(readers, lock)
	}
	imported := false
	report, err := fsck.Check(ctx, p.open(), fsck.CheckOptions{Progress: func(done, total int64) {
		if done > total {
			t.Errorf("%d of %d bytes", done, total)
		}
		if imported {
			return
		}
		imported = true
		for _, lock := range readers {
			p.must(lock.Release())
		}
		s := p.open()
		_, err := s.ImportLayer(ctx, layers.CreateOptions{ID: id("new"), Parent: "base"},
			bytes.NewReader(layerTar(t, "etc/", "etc/hosts", "new")), nil)
		p.must(err)
		_, err = s.DeleteImage(ctx, id("two"), store.DeleteOptions{}) // with its layer, which is perhaps being read
		p.must(err)
	}})
	if err != nil || !report.Empty() || !imported {
		t.Fatalf("%v, %v; imported: %v", report.Findings, err, imported)
	}
}
