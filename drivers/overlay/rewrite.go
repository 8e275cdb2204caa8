package overlay

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/internal/openat"
	"github.com/shalestore/shale/internal/step"
	"github.com/shalestore/shale/internal/tempdir"
	"github.com/shalestore/shale/quota"
	"golang.org/x/sys/unix"
)

// Rewrite makes a layer's small files and directories anew where they aren't right. Each
// is made aside and renamed in, so that a crash leaves the old or the new one.
func (d *Driver) Rewrite(ctx context.Context, id string, lower []string) (err error) {
	defer drivers.Describe(&err, "overlay: rewrite layer %s", id)
	dir, home, err := d.homes.FindOwn(id)
	if err != nil {
		return err
	}
	temp, err := tempdir.New(filepath.Join(home, drivers.TempDirs))
	if err != nil {
		return err
	}
	r := rewriting{dir: dir, temp: temp}
	err = r.all(ctx, d, id, home, lower)
	if cerr := temp.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return drivers.SyncDirs(filepath.Join(home, linkDir), dir)
}

// rewriting is the repair of one layer.
type rewriting struct {
	dir  string
	temp *tempdir.Dir
}

func (r rewriting) all(ctx context.Context, d *Driver, id, home string, lower []string) error {
	link, err := readLink(r.dir)
	if err != nil || d.anothers(home, link, id) {
		if link, err = nameOf(id, home); err != nil {
			return err
		}
		if err := r.file("link", link); err != nil {
			return err
		}
		step.Reached(ctx, "overlay: short name written")
	}
	symlink := filepath.Join(home, linkDir, link)
	if target, err := readSymlink(home, link); err != nil || target != linkTarget(id) {
		aside := r.temp.Addition()
		if err := os.Symlink(linkTarget(id), aside); err != nil {
			return err
		}
		if err := r.place(aside, symlink); err != nil {
			return err
		}
		step.Reached(ctx, "overlay: short name led to its layer")
	}
	c := chain{ids: lower}
	if c.links, err = d.linksOf(lower); err != nil {
		return err
	}
	lists := []struct{ name, content string }{{"lower", c.lowerFile()}, {"lower-layers", c.lowerLayersFile()}}
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
func (d *Driver) anothers(home, link, id string) bool {
	target, err := readSymlink(home, link)
	if err != nil {
		return false
	}
	other, ok := linkedID(target)
	if !ok || other == id {
		return false
	}
	_, _, err = d.homes.Find(other)
	return err == nil
}

// nameOf finds a short name that leads to the layer already, or makes a new one.
func nameOf(id, home string) (string, error) {
	entries, err := openat.List(home, linkDir)
	if err != nil {
		return "", err
	}
	for _, entry := range entries {
		target, err := readSymlink(home, entry.Name)
		if err == nil && target == linkTarget(id) && validLink(entry.Name) {
			return entry.Name, nil
		}
	}
	return newLink(), nil
}

// list makes the file have that content, or not exist when there is none.
func (r rewriting) list(name, content string) error {
	path := filepath.Join(r.dir, name)
	found, err := readSmall(path, maxLowerFile)
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
	if err := writeFile(aside, content); err != nil {
		return err
	}
	f, err := openat.Reader(filepath.Split(aside))
	if err != nil {
		return err
	}
	err = f.Sync()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
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
	if err := makeDir(aside, ownerOf(filepath.Join(r.dir, "diff"))); err != nil {
		return err
	}
	return r.place(aside, path)
}
