package drivertest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/testutil"
)

// What an interrupted operation left under the ID gives way.
func leftovers(b *bench) {
	b.create("base", "", "old=1")
	s := b.stage("", drivers.StageOptions{}, "new=1")
	b.must(s.Commit(b.ctx, "base"))
	b.exists(b.stat("base").Content, "new", "!old")
	b.must(s.Discard())
	b.exists(b.stat("base").Content, "new", "!old")
	b.layers("base")
	b.noLeftovers()
}

func parentGone(b *bench) {
	b.create("base", "", "f=1")
	s := b.stage("base", drivers.StageOptions{})
	b.remove("base")
	b.wantError(s.Commit(b.ctx, "child"), errdefs.ErrNotFound, "commit on a parent that is gone")
	b.unknown("child")
	b.must(s.Discard())

	b.create("base", "", "f=1")
	s = b.stage("base", drivers.StageOptions{})
	b.remove("base")
	b.create("base", "", "other=1")
	b.wantError(s.Commit(b.ctx, "child"), errdefs.ErrNotFound, "commit on a parent that is another layer now")
	b.must(s.Discard())
	b.layers("base")
	b.noLeftovers()
}

func discard(b *bench) {
	s := b.stage("", drivers.StageOptions{}, "a/b=1")
	b.must(s.Discard())
	b.must(s.Discard())
	b.layers()
	b.noLeftovers()
	b.wantError(s.Commit(b.ctx, "late"), errdefs.ErrInvalid, "commit after discard")
	b.unknown("late")
}

func committedTwice(b *bench) {
	s := b.stage("", drivers.StageOptions{}, "f=1")
	b.must(s.Commit(b.ctx, "one"))
	if err := s.Commit(b.ctx, "two"); err == nil {
		b.Error("one staged layer became two")
	}
	b.layers("one")
	b.exists(b.stat("one").Content, "f")
	b.must(s.Discard())
	b.exists(b.stat("one").Content, "f")
	b.noLeftovers()
}

func recoverSpares(b *bench) {
	r, ok := b.driver.(drivers.Recoverer)
	if !ok {
		b.Skip("this driver has nothing to recover")
	}
	s := b.stage("", drivers.StageOptions{}, "f=1")
	b.create("gone", "")
	trash, err := b.driver.Delete(b.ctx, "gone")
	b.must(err)
	b.must(r.Recover(b.ctx))
	b.must(b.open().(drivers.Recoverer).Recover(b.ctx))
	b.commit(s, "base")
	b.exists(b.stat("base").Content, "f")
	b.must(trash.Empty(b.ctx))
	b.noLeftovers()
}

func unknownLayers(b *bench) {
	_, err := b.driver.Stat(b.ctx, "nobody")
	b.wantError(err, errdefs.ErrNotFound, "stat")
	_, err = b.driver.Usage(b.ctx, "nobody")
	b.wantError(err, errdefs.ErrNotFound, "usage")
	_, err = b.driver.Mounts(b.ctx, "nobody", drivers.MountOptions{})
	b.wantError(err, errdefs.ErrNotFound, "mounts")
	_, err = b.driver.Stage(b.ctx, "nobody", drivers.StageOptions{})
	b.wantError(err, errdefs.ErrNotFound, "stage on it")
	b.noLeftovers()
}

// An ID must never be a path.
func hostileIDs(b *bench) {
	outside := filepath.Join(filepath.Dir(b.place.Root), "victim")
	testutil.Tree(b, filepath.Dir(b.place.Root), "victim/f=1")
	before := testutil.Snapshot(b, outside)
	b.create("base", "", "f=1")
	for _, id := range []string{"", ".", "..", "../victim", "../../victim", "../../../victim", "/etc", outside,
		"base/..", "base/", "./base", "a/b", "a\x00b", "a:b", "a,b",
		".hidden", "-f", "a\nb", strings.Repeat("x", 300), "é"} {
		what := fmt.Sprintf("%q", id)
		_, err := b.driver.Stat(b.ctx, id)
		b.wantError(err, errdefs.ErrInvalid, "stat "+what)
		_, err = b.driver.Usage(b.ctx, id)
		b.wantError(err, errdefs.ErrInvalid, "usage "+what)
		_, err = b.driver.Mounts(b.ctx, id, drivers.MountOptions{})
		b.wantError(err, errdefs.ErrInvalid, "mounts "+what)
		_, err = b.driver.Delete(b.ctx, id)
		b.wantError(err, errdefs.ErrInvalid, "delete "+what)
		if id != "" { // which means no parent, and no content
			_, err = b.driver.Stage(b.ctx, id, drivers.StageOptions{})
			b.wantError(err, errdefs.ErrInvalid, "stage on "+what)
			_, err = b.driver.Stage(b.ctx, "", drivers.StageOptions{Content: id})
			b.wantError(err, errdefs.ErrInvalid, "stage with content of "+what)
		}
		s := b.stage("", drivers.StageOptions{})
		b.wantError(s.Commit(b.ctx, id), errdefs.ErrInvalid, "commit "+what)
		_, err = s.Replace(b.ctx, id)
		b.wantError(err, errdefs.ErrInvalid, "replace "+what)
		b.must(s.Discard())
	}
	b.layers("base")
	b.noLeftovers()
	testutil.SameTree(b, before, testutil.Snapshot(b, outside))
}

func cancelled(b *bench) {
	b.create("base", "", "f=1")
	s := b.stage("", drivers.StageOptions{})
	ctx, cancel := context.WithCancel(b.ctx)
	cancel()
	b.wantError(s.Commit(ctx, "late"), context.Canceled, "commit")
	b.unknown("late")
	_, err := b.driver.Delete(ctx, "base")
	b.wantError(err, context.Canceled, "delete")
	_, err = b.driver.Stage(ctx, "", drivers.StageOptions{Content: "base"})
	b.wantError(err, context.Canceled, "copy content")
	_, err = b.driver.Usage(ctx, "base")
	b.wantError(err, context.Canceled, "usage")
	b.commit(s, "late")
	b.layers("base", "late")
	b.noLeftovers()
}

// Only Commit and Delete are one at a time; everything else may go on beside them.
func concurrently(b *bench) {
	b.create("base", "", "f=1")
	var lock sync.Mutex
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for round := range 10 {
				id := fmt.Sprintf("w%d-%d", worker, round)
				if err := oneLife(b, &lock, id); err != nil {
					b.Errorf("layer %s: %v", id, err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.layers("base")
	b.noLeftovers()
}

func oneLife(b *bench, lock *sync.Mutex, id string) error {
	s, err := b.driver.Stage(b.ctx, "base", drivers.StageOptions{})
	if err != nil {
		return err
	}
	defer func() { _ = s.Discard() }()
	if err := os.WriteFile(filepath.Join(s.Content(), "own"), []byte(id), 0o644); err != nil {
		return err
	}
	lock.Lock()
	err = s.Commit(b.ctx, id)
	lock.Unlock()
	if err != nil {
		return err
	}
	info, err := b.driver.Stat(b.ctx, id)
	if err != nil {
		return err
	}
	if data, err := os.ReadFile(filepath.Join(info.Content, "own")); err != nil || string(data) != id {
		return fmt.Errorf("content %q, %w", data, err)
	}
	if _, err := b.driver.List(b.ctx); err != nil {
		return err
	}
	if _, err := b.driver.Usage(b.ctx, id); err != nil {
		return err
	}
	lock.Lock()
	trash, err := b.driver.Delete(b.ctx, id)
	lock.Unlock()
	if err != nil {
		return err
	}
	return trash.Empty(b.ctx)
}

func status(b *bench) {
	first, second := b.driver.Status(b.ctx), b.driver.Status(b.ctx)
	if fmt.Sprint(first) != fmt.Sprint(second) {
		b.Errorf("status changed from %v to %v", first, second)
	}
	seen := map[string]bool{}
	for _, p := range first {
		if p.Name == "" || seen[p.Name] {
			b.Errorf("status line %+v is empty or comes twice", p)
		}
		seen[p.Name] = true
	}
	b.noLeftovers()
}

func home(b *bench) {
	h, ok := b.driver.(drivers.MountHome)
	if !ok {
		b.Skip("this driver has no home to prepare")
	}
	prepared := func(want bool) {
		b.Helper()
		got, err := b.open().(drivers.MountHome).HomePrepared() // another process; this one may remember
		b.must(err)
		if got != want {
			b.Errorf("home prepared: %t, want %t", got, want)
		}
	}
	prepared(false)
	b.must(h.PrepareHome(b.ctx))
	prepared(true)
	b.must(h.PrepareHome(b.ctx))
	b.create("base", "", "f=1")
	_, unmount := b.mounted("base", drivers.MountOptions{})
	b.wantError(h.ReleaseHome(b.ctx), errdefs.ErrInUse, "release the home of a mounted layer")
	prepared(true)
	unmount()
	b.must(h.ReleaseHome(b.ctx))
	prepared(false)
	b.must(h.ReleaseHome(b.ctx))
	if mounts, err := testutil.MountsBelow(b.place.Root); err != nil || len(mounts) > 0 {
		b.Errorf("still mounted: %v (%v)", mounts, err)
	}
	b.layers("base")
}
