package fsck

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/shalestore/shale/catalog"
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/internal/lockfile"
	"github.com/shalestore/shale/layers"
)

// readRecords reports files of records that can't be read.
func (c *checker) readRecords(ctx context.Context) error {
	for _, records := range []struct {
		kind    string
		read    func() error
		salvage func(context.Context) ([]catalog.Salvaged, error)
	}{
		{"layers", func() error {
			return c.Layers.Inspect(ctx, func(tx *layers.ReadTx) error { return readAll(tx.All, tx.Contradictions) })
		}, c.Layers.Salvage},
		{"mounts", func() error {
			return c.Layers.Inspect(ctx, func(tx *layers.ReadTx) error {
				return tx.MountTable().View(ctx, func(mounts *catalog.MountsTx) error {
					_,
						err := mounts.All()
					return err
				})
			})
		}, func(ctx context.Context) (saved []catalog.Salvaged, err error) {
			err = c.Layers.Inspect(ctx, func(tx *layers.ReadTx) error {
				saved, err = tx.MountTable().Salvage(ctx)
				return err
			})
			return saved, err
		}},
		{"images", func() error {
			return c.Images.View(ctx, func(tx *images.ReadTx) error { return readAll(tx.All, tx.Contradictions) })
		}, c.Images.Salvage},
		{"containers", func() error {
			return c.Containers.View(ctx, func(tx *containers.ReadTx) error {
				return readAll(tx.All,
					tx.Contradictions)
			})
		}, c.Containers.Salvage},
	} {
		if records.kind == "mounts" && len(c.Of(KindRecords)) > 0 {
			continue // it lies under the lock of the layers, whose records can't be read
		}
		err := records.read()
		if errors.Is(err, errdefs.ErrCorrupt) {
			f := c.add(KindRecords, records.kind, RemedySalvage, "%v", err)
			f.fix = func(ctx context.Context) (string, error) {
				saved, err := records.salvage(ctx)
				var did []string
				for _, file := range saved {
					did = append(did, fmt.Sprintf("%s: kept %d that can be read; what the file was is in %s", file.Path,
						file.Kept, file.Copy))
				}
				return strings.Join(did, "; "), err
			}
		} else if err != nil {
			return err
		}
	}
	return nil
}

func readAll[R any](all func() ([]R, error), contradictions func() ([]catalog.Contradiction, error)) error {
	if _, err := all(); err != nil {
		return err
	}
	_, err := contradictions()
	return err
}

// contradictions reports names and IDs that several records have.
func (c *checker) contradictions(l *layers.ReadTx, i *images.ReadTx, k *containers.ReadTx) error {
	settle := c.edit("", func(l *layers.WriteTx, i *images.WriteTx, k *containers.WriteTx) error {
		return errors.Join(l.Settle(), i.Settle(), k.Settle())
	})
	for _, records := range []struct {
		kind Kind
		list func() ([]catalog.Contradiction, error)
	}{{KindLayer, l.Contradictions}, {KindImage, i.Contradictions}, {KindContainer, k.Contradictions}} {
		all, err := records.list()
		if err != nil {
			return err
		}
		for _, found := range all {
			f := c.add(records.kind, found.ID, RemedyRecord, "%s", found.What)
			f.fix = func(ctx context.Context) (string, error) {
				_, err := settle(ctx)
				return "settled in the record: " + found.What, err
			}
		}
	}
	return nil
}

// edit is a remedy that changes records.
func (c *checker) edit(did string,
	change func(*layers.WriteTx, *images.WriteTx, *containers.WriteTx) error) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) { return did, c.UpdateAll(ctx, change) }
}

// homes are the directories with the records of a kind and with what belongs to its
// objects: in the graph root, in the image store, if there is one, and in the run root.
func (c *checker) homes(kind string) (homes []string) {
	for _, root := range []string{c.Config.GraphRoot, c.Config.ImageStore, c.Config.RunRoot} {
		if root != "" {
			homes = append(homes, filepath.Join(root, c.Driver.Name()+"-"+kind))
		}
	}
	return homes
}

// lostKinds are the kinds of which a file of records was damaged, which a repair knows,
// is missing, or has nothing in it, not even "[]". Programs take that for a list without
// records (format, section 2), but none writes it; a file system that lost power may
// leave it. That a file is missing, and wasn't just never written, the token of the last
// writer tells in its lock; and where the lock is gone too, that there are images or
// containers tells that there were layers.
func (c *checker) lostKinds() (lost []string, err error) {
	for _, kind := range []string{"layers", "images", "containers"} {
		gone := slices.Contains(c.damaged, kind)
		missing := !c.Config.TransientStore
		for _, home := range c.homes(kind) {
			for _, name := range []string{kind + ".json", "volatile-" + kind + ".json"} {
				info, err := os.Lstat(filepath.Join(home, name))
				if err != nil && !errors.Is(err, os.ErrNotExist) {
					return nil, err
				}
				gone = gone || err == nil && info.Mode().IsRegular() && info.Size() == 0 && name == kind+".json"
				missing = missing && err != nil
			}
		}
		token, err := os.Lstat(filepath.Join(c.homes(kind)[0], kind+".lock"))
		written := err == nil && token.Size() > 0
		if kind == "layers" {
			written = written || c.hasRecords("images") || c.hasRecords("containers")
		}
		if gone || missing && written {
			lost = append(lost, kind)
		}
	}
	return lost, nil
}

// hasRecords reports whether a file of records of the kind is longer than an empty list.
func (c *checker) hasRecords(kind string) bool {
	return slices.ContainsFunc(c.homes(kind), func(home string) bool {
		info, err := os.Lstat(filepath.Join(home, kind+".json"))
		return err == nil && info.Size() > int64(len("[]\n"))
	})
}

// checkTokens looks into the lock files. Readers tell by the 64 bytes in them whether
// what they remember is still true (format, section 4.2); a file that was never written
// to is empty.
func (c *checker) checkTokens() error {
	graph, run, split := c.Config.GraphRoot, c.Config.RunRoot, c.Config.ImageStore
	home := func(root, kind string) string { return filepath.Join(root, c.Driver.Name()+"-"+kind) }
	containers := graph
	if c.Config.TransientStore {
		containers = run
	}
	locks := []string{
		c.StorageLock(),
		filepath.Join(home(graph, "layers"), "layers.lock"),
		filepath.Join(home(run, "layers"), "mountpoints.lock"),
		filepath.Join(home(graph, "images"), "images.lock"),
		filepath.Join(home(containers, "containers"), "containers.lock"),
	}
	if split != "" {
		locks = append(locks, filepath.Join(home(split, "layers"), "layers.lock"),
			filepath.Join(home(split, "images"), "images.lock"))
	}
	for _, path := range locks {
		sound, err := soundLock(path)
		if err != nil {
			return err
		}
		if !sound {
			c.add(KindFile, path, RemedyToken, "the token of the last writer is damaged").fix = writeToken(path)
		}
	}
	return nil
}

func writeToken(path string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		lock, err := lockfile.Acquire(ctx, path, lockfile.Exclusive)
		if err == nil {
			_, err = lock.Touch()
			err = errors.Join(err, lock.Release())
		}
		return "wrote a new token", err
	}
}

// soundLock reports whether a lock file can hold a token: nothing, or 64 bytes and
// perhaps more, which nobody reads. A missing file has none. Whoever finds less reads it
// as a token that nobody wrote.
func soundLock(path string) (bool, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return info.Mode().IsRegular() && (info.Size() == 0 || info.Size() >= int64(len(lockfile.Token{}))), nil
}
