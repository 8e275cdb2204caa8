package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"golang.org/x/sys/unix"
)

// Examine looks at the small files of a layer: that its content is there, that its short
// name leads to it, and that both lists of what lies beneath it say what they should. It
// doesn't look into the content. A missing merged directory is nothing: releases of
// containers/storage before 1.50 remove it with every unmount.
func (d *Driver) Examine(ctx context.Context, id string, lower [][]string) (_ []drivers.Flaw, err error) {
	defer drivers.Describe(&err, Name)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	dir, home, err := d.homes.Find(id)
	if errors.Is(err, errdefs.ErrNotFound) {
		return []drivers.Flaw{{Path: filepath.Join(d.homes.Own[0], id), What: "the layer's directory is missing",
			Lost: true}}, nil
	}
	if err != nil {
		return nil, err
	}
	e := examination{driver: d, dir: dir, home: home}
	e.content()
	e.shortName(id)
	e.lower(ctx, lower)
	e.directory("work")
	if len(lower[0]) == 0 && !e.stacked() {
		e.directory("empty")
	}
	return e.flaws, e.err
}

// examination is the look at one layer.
type examination struct {
	driver    *Driver
	dir, home string
	flaws     []drivers.Flaw
	err       error
}

func (e *examination) flaw(name, format string, args ...any) {
	e.flaws = append(e.flaws, drivers.Flaw{Path: filepath.Join(e.dir, name), What: fmt.Sprintf(format, args...)})
}

// content makes sure that there is a diff. In a layer from an additional layer store it
// is a symlink into that.
func (e *examination) content() {
	var st unix.Stat_t
	err := unix.Lstat(filepath.Join(e.dir, "diff"), &st)
	if err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
		if _, aerr := os.Lstat(filepath.Join(e.dir, "additionallayer")); aerr == nil {
			return
		}
	}
	if err == unix.ENOENT || err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		what := "the layer's content is missing"
		if err == nil {
			what = "the layer's content is no directory"
		}
		e.flaw("diff", "%s", what)
		e.flaws[len(e.flaws)-1].Lost = true
		return
	}
	e.failed("diff", err)
}

// failed keeps an error of looking, as opposed to a flaw found.
func (e *examination) failed(name string, err error) {
	if err != nil {
		e.err = errors.Join(e.err, fmt.Errorf("overlay: %s: %w", filepath.Join(e.dir, name), err))
	}
}

func (e *examination) shortName(id string) {
	link, err := readLink(e.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.flaw("link", "the file with the layer's short name is missing")
		return
	case errors.Is(err, errdefs.ErrCorrupt):
		e.flaw("link", "it holds no short name")
		return
	case err != nil:
		e.failed("link", err)
		return
	}
	symlink := filepath.Join(e.home, linkDir, link)
	target, err := readSymlink(e.home, link)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.flaws = append(e.flaws, drivers.Flaw{Path: symlink, What: "the layer's short name is missing"})
	case errors.Is(err, unix.EINVAL):
		e.flaws = append(e.flaws, drivers.Flaw{Path: symlink, What: "the layer's short name is no symlink"})
	case err != nil:
		e.failed("link", err)
	case target != linkTarget(id):
		e.flaws = append(e.flaws, drivers.Flaw{Path: symlink, What: fmt.Sprintf("the layer's short name leads to %q",
			target)})
	}
}

// lower compares the two lists of parents with those that may be. Releases before 1.63
// write lower alone.
func (e *examination) lower(ctx context.Context, right [][]string) {
	byID, idErr := e.list(ctx, "lower-layers")
	byLink, linkErr := e.list(ctx, "lower")
	fits := func(ids []string) bool {
		return slices.ContainsFunc(right, func(r []string) bool { return slices.Equal(r, ids) })
	}
	none := errors.Is(idErr, fs.ErrNotExist) && errors.Is(linkErr, fs.ErrNotExist)
	if none && len(right[0]) > 0 && e.isBase() {
		e.flaw("empty", "it is that of a layer without a parent, and the layer has %s beneath it", shortened(right[0]))
		e.flaws[len(e.flaws)-1].Lower = []string{}
		return
	}
	if len(right[0]) > 0 && errors.Is(linkErr, fs.ErrNotExist) {
		e.flaw("lower", "the list of the layers beneath is missing")
	}
	if idErr == nil && linkErr == nil && slices.Equal(byID, byLink) && !fits(byID) && e.exist(byID) {
		e.flaw("lower-layers", "%s", e.mismatch(byID, right[0]))
		e.flaws[len(e.flaws)-1].Lower = byID
		return
	}
	for _, file := range []struct {
		name string
		ids  []string
		err  error
	}{{"lower-layers", byID, idErr}, {"lower", byLink, linkErr}} {
		switch {
		case errors.Is(file.err, fs.ErrNotExist):
		case file.name == "lower" && errors.Is(file.err, errdefs.ErrCorrupt) && idErr == nil && fits(byID) &&
			e.onlyStale():
			// A short name is never used twice, so that layer isn't the one that this one
			// was made on.
			e.flaw(file.name, "a layer beneath was made anew, perhaps with other content: %v", file.err)
		case errors.Is(file.err, errdefs.ErrCorrupt):
			e.flaw(file.name, "the list of the layers beneath is damaged: %v", file.err)
		case file.err != nil:
			e.failed(file.name, file.err)
		case !fits(file.ids):
			e.flaw(file.name, "%s", e.mismatch(file.ids, right[0]))
		}
	}
}

// onlyStale reports whether the short names in lower are such, whatever layers they stand
// for.
func (e *examination) onlyStale() bool {
	_, err := readLower(e.dir)
	return err == nil
}

// list reads one of the lists as IDs.
func (e *examination) list(ctx context.Context, name string) ([]string, error) {
	if _, err := os.Lstat(filepath.Join(e.dir, name)); err != nil {
		return nil, err
	}
	if name == "lower" {
		return e.driver.parentsByLink(ctx, e.dir)
	}
	return e.driver.parents(ctx, e.dir)
}

// stacked reports whether the driver has anything beneath the layer.
func (e *examination) stacked() bool {
	_, err := os.Lstat(filepath.Join(e.dir, "lower"))
	return err == nil
}

// isBase tells by the lower directory that only layers without a parent are made with.
func (e *examination) isBase() bool {
	_, err := os.Lstat(filepath.Join(e.dir, "empty"))
	return err == nil
}

func (e *examination) exist(ids []string) bool {
	return !slices.ContainsFunc(ids, func(id string) bool { _, _, err := e.driver.homes.Find(id); return err != nil })
}

func (e *examination) mismatch(found, want []string) string {
	if len(want) == 0 {
		return fmt.Sprintf("it lists layers beneath, %s, and the layer has no parent", shortened(found))
	}
	return fmt.Sprintf("it lists %s as the layers beneath, which are %s", shortened(found), shortened(want))
}

// shortened is a list of IDs for people.
func shortened(ids []string) string {
	var short []string
	for _, id := range ids[:min(len(ids), 4)] {
		short = append(short, id[:min(len(id), 12)])
	}
	if len(ids) > 4 {
		short = append(short, fmt.Sprintf("and %d more", len(ids)-4))
	}
	return strings.Join(short, ", ")
}

func (e *examination) directory(name string) {
	var st unix.Stat_t
	switch err := unix.Lstat(filepath.Join(e.dir, name), &st); {
	case err == unix.ENOENT:
		e.flaw(name, "the directory is missing")
	case err != nil:
		e.failed(name, err)
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		e.flaw(name, "it is no directory")
	}
}
