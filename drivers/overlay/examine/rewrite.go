package examine

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/drivers/overlay/internal/files"
	"github.com/shalestore/shale/internal/openat"
	"github.com/shalestore/shale/internal/step"
	"github.com/shalestore/shale/internal/tempdir"
	"github.com/shalestore/shale/quota"
	"golang.org/x/sys/unix"
)

// Rewrite makes anew what Examine finds wrong, except what is Lost, for a layer that has
// the layers of the list beneath it, which must be sound. Each file and directory is made
// aside and renamed in, so that a crash leaves the old or the new one. What it does is
// durable. The caller holds the layer lock exclusively.
func (c *Checker) Rewrite(ctx context.Context, id string, lower []string) (err error) {
	defer drivers.Describe(&err, "overlay: rewrite layer %s", id)
	if !c.overlay {
		return nil
	}
	dir, home, err := c.homes.FindOwn(id)
	if err != nil {
		return err
	}
	temp, err := tempdir.New(filepath.Join(home, drivers.TempDirs))
	if err != nil {
		return err
	}
	r := rewriting{dir: dir, temp: temp}
	err = r.all(ctx, c, id, home, lower)
	if cerr := temp.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return drivers.SyncDirs(filepath.Join(home, files.LinkDir), dir)
}

// rewriting is the repair of one layer.
type rewriting struct {
	dir  string
	temp *tempdir.Dir
}

func (r rewriting) all(ctx context.Context, c *Checker, id, home string, lower []string) error {
	link, err := files.ReadLink(r.dir)
	if err != nil || c.anothers(home, link, id) {
		if link, err = nameOf(id, home); err != nil {
			return err
		}
		if err := r.file("link", link); err != nil {
			return err
		}
		step.Reached(ctx, "overlay: short name written")
	}
	symlink := filepath.Join(home, files.LinkDir, link)
	if target, err := files.ReadSymlink(home, link); err != nil || target != files.LinkTarget(id) {
		aside := r.temp.Addition()
		if err := os.Symlink(files.LinkTarget(id), aside); err != nil {
			return err
		}
		if err := r.place(aside, symlink); err != nil {
			return err
		}
		step.Reached(ctx, "overlay: short name led to its layer")
	}
	list := files.Chain{IDs: lower}
	if list.Links, err = c.homes.LinksOf(lower); err != nil {
		return err
	}
	lists := []struct{ name, content string }{{"lower", list.LowerFile()}, {"lower-layers", list.LowerLayersFile()}}
	if len(lower) == 0 {
		lists[0].content, lists[1].content = "", ""
	}
	for _, list := range lists {
		if err := r.list(list.name, list.content); err != nil {
			return err
		}
		step.Reached(ctx, "overlay: "+list.name+" rewritten")
	}
	dirs := []string{"work", "empty"}
	if len(lower) > 0 {
		dirs = dirs[:1]
	}
	for _, name := range dirs {
		if err := r.directory(name); err != nil {
			return err
		}
	}
	return nil
}

// anothers reports whether a short name leads to another layer, which is there.
func (c *Checker) anothers(home, link, id string) bool {
	target, err := files.ReadSymlink(home, link)
	if err != nil {
		return false
	}
	other, ok := files.LinkedID(target)
	if !ok || other == id {
		return false
	}
	_, _, err = c.homes.Find(other)
	return err == nil
}

// nameOf finds a short name that leads to the layer already, or makes a new one.
func nameOf(id, home string) (string, error) {
	entries, err := openat.List(home, files.LinkDir)
	if err != nil {
		return "", err
	}
	for _, entry := range entries {
		target, err := files.ReadSymlink(home, entry.Name)
		if err == nil && target == files.LinkTarget(id) && files.ValidLink(entry.Name) {
			return entry.Name, nil
		}
	}
	return files.NewLink(), nil
}

// list makes the file have that content, or not exist when there is none.
func (r rewriting) list(name, content string) error {
	path := filepath.Join(r.dir, name)
	found, err := files.ReadSmall(path, files.MaxLowerFile)
	switch {
	case content == "" && errors.Is(err, fs.ErrNotExist), err == nil && string(found) == content && content != "":
		return nil
	case content == "":
		return r.temp.Take(path)
	}
	return r.file(name, content)
}

func (r rewriting) file(name, content string) error {
	aside := r.temp.Addition()
	f, err := openat.CreateFile(aside)
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return r.place(aside, filepath.Join(r.dir, name))
}

// place renames what was made aside over what is there, whatever that is. A layer with
// limits takes in only what is of its project.
func (r rewriting) place(aside, path string) error {
	if _, err := quota.Join(aside, filepath.Dir(path)); err != nil {
		return err
	}
	err := unix.Rename(aside, path)
	if err == unix.EISDIR || err == unix.ENOTDIR || err == unix.EEXIST || err == unix.ENOTEMPTY {
		if err := r.temp.Take(path); err != nil {
			return err
		}
		err = unix.Rename(aside, path)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: aside, New: path, Err: err}
	}
	return nil
}

func (r rewriting) directory(name string) error {
	path := filepath.Join(r.dir, name)
	if info, err := os.Lstat(path); err == nil && info.IsDir() {
		return nil
	}
	aside := r.temp.Addition()
	var diff unix.Stat_t
	if err := unix.Lstat(filepath.Join(r.dir, "diff"), &diff); err != nil {
		diff.Uid, diff.Gid = 0, 0 // it is lost
	}
	if err := os.Mkdir(aside, 0o700); err != nil {
		return err
	}
	if err := os.Lchown(aside, int(diff.Uid), int(diff.Gid)); err != nil {
		return err
	}
	if err := os.Chmod(aside, 0o700); err != nil {
		return err
	}
	return r.place(aside, path)
}
