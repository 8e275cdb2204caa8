package examine

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
	"github.com/shalestore/shale/drivers/overlay/internal/files"
	"github.com/shalestore/shale/errdefs"
	"golang.org/x/sys/unix"
)

// Examine lists what is wrong with the small files of a layer: whether its content is
// there, whether its short name leads to it, and whether both lists of what lies beneath
// it say what they should. lower holds the lists of IDs, nearest first, of which one may
// rightly lie beneath it; there is at least one, which is empty for a base layer. The
// caller holds the layer lock, shared at least. Errors are those of looking only.
//
// It doesn't look into the content. A missing merged directory is nothing: releases of
// containers/storage before 1.50 remove it with every unmount.
func (c *Checker) Examine(ctx context.Context, id string, lower [][]string) (_ []Flaw, err error) {
	defer drivers.Describe(&err, "%s", c.driver.Name())
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !c.overlay {
		_, err := c.driver.Stat(ctx, id)
		return missing("", err)
	}
	dir, home, err := c.homes.Find(id)
	if err != nil {
		return missing(filepath.Join(c.homes.Own[0], id), err)
	}
	e := examination{homes: c.homes, dir: dir, home: home}
	e.content()
	e.shortName(id)
	e.lower(ctx, lower)
	e.directory("work")
	if len(lower[0]) == 0 && !e.stacked() {
		e.directory("empty")
	}
	return e.flaws, e.err
}

// missing makes a flaw of the error that a layer isn't there.
func missing(path string, err error) ([]Flaw, error) {
	if errors.Is(err, errdefs.ErrNotFound) {
		return []Flaw{{Path: path, What: "the layer's directory is missing", Lost: true}}, nil
	}
	return nil, err
}

// examination is the look at one layer.
type examination struct {
	homes     files.Homes
	dir, home string
	flaws     []Flaw
	err       error
}

func (e *examination) flaw(name, format string, args ...any) {
	e.flaws = append(e.flaws, Flaw{Path: filepath.Join(e.dir, name), What: fmt.Sprintf(format, args...)})
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
	link, err := files.ReadLink(e.dir)
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
	symlink := filepath.Join(e.home, files.LinkDir, link)
	target, err := files.ReadSymlink(e.home, link)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.flaws = append(e.flaws, Flaw{Path: symlink, What: "the layer's short name is missing"})
	case errors.Is(err, unix.EINVAL):
		e.flaws = append(e.flaws, Flaw{Path: symlink, What: "the layer's short name is no symlink"})
	case err != nil:
		e.failed("link", err)
	case target != files.LinkTarget(id):
		e.flaws = append(e.flaws, Flaw{Path: symlink, What: fmt.Sprintf("the layer's short name leads to %q",
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
	_, err := files.ReadLower(e.dir)
	return err == nil
}

// list reads one of the lists as IDs.
func (e *examination) list(ctx context.Context, name string) ([]string, error) {
	if _, err := os.Lstat(filepath.Join(e.dir, name)); err != nil {
		return nil, err
	}
	if name == "lower" {
		return e.homes.ParentsByLink(ctx, e.dir)
	}
	return e.homes.Parents(ctx, e.dir)
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
	return !slices.ContainsFunc(ids, func(id string) bool { _, _, err := e.homes.Find(id); return err != nil })
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
