package overlay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/drivers/overlay/internal/files"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/fsat"
	"github.com/shalestore/shale/internal/openat"
	"github.com/shalestore/shale/internal/step"
	"github.com/shalestore/shale/mount"
	"github.com/shalestore/shale/quota"
	"golang.org/x/sys/unix"
)

// Stage builds the whole directory of a new layer in the home's tempdirs, so that one
// rename makes it a layer.
//
// Its small files are not synced: they lie on the file system of Content, whose syncfs by
// the caller covers them.
func (d *Driver) Stage(ctx context.Context, parent string, opts drivers.StageOptions) (drivers.Staged, error) {
	s, err := d.stage(ctx, parent, nil, opts)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (d *Driver) stage(ctx context.Context, parent string, stagedParent *staged,
	opts drivers.StageOptions) (*staged, error) {
	if d.opts.UseComposefs {
		return nil, errdefs.Unsupported{Setting: "use_composefs", By: "by this driver",
			Cure: "remove it from storage.conf"}
	}
	if opts.Writable && d.opts.ForceMask != nil && d.opts.MountProgram == "" {
		return nil, errdefs.Unsupported{Setting: "force_mask", By: "for writable layers without a mount program",
			Cure: "set mount_program too"}
	}
	quotas, limits, err := d.bounds(opts)
	if err != nil {
		return nil, fmt.Errorf("overlay: %w", err)
	}
	home := d.homes.For(opts.Writable)
	aside, err := drivers.NewAside(filepath.Join(home, drivers.TempDirs))
	if err != nil {
		return nil, fmt.Errorf("overlay: %w", err)
	}
	s := &staged{Aside: aside, driver: d, home: home, parent: parent, stagedParent: stagedParent,
		link: files.NewLink(), quota: quotas, limits: limits}
	err = s.build(ctx, opts)
	if err = s.beyondLimits(err); err != nil {
		_ = s.Discard()
		return nil, fmt.Errorf("overlay: stage a layer: %w", err)
	}
	return s, nil
}

// staged is a layer's directory in tempdirs.
type staged struct {
	*drivers.Aside
	driver *Driver
	home   string // where it is meant to go
	link   string

	parent     string
	parentLink string // proves at Commit that parent is still the same layer
	lower      files.Chain
	// stagedParent is the parent while it isn't in place; nil for one that was at Stage.
	stagedParent *staged

	quota  *quota.Home // nil where nothing is counted
	limits quota.Limits
	// joined: the directory is in the project of the layer that it replaces; ownProject:
	// in one that no other has.
	joined, ownProject bool
}

// Content is the staged diff.
func (s *staged) Content() string { return filepath.Join(s.Path(), "diff") }

func (s *staged) build(ctx context.Context, opts drivers.StageOptions) error {
	uid, gid, err := opts.IDMap.RootPair()
	if err != nil {
		return err
	}
	outer := attributes{uid: uid, gid: gid, mode: 0o700}
	root := attributes{uid: uid, gid: gid, mode: 0o555}
	if s.parent != "" {
		parentRoot, err := s.findLower(ctx)
		if err != nil {
			return err
		}
		if len(s.lower.IDs) > mount.MaxLower {
			return fmt.Errorf("on top of %s: %w: it has %d layers beneath it, and the kernel mounts at most %d",
				s.parent, errdefs.ErrInvalid, len(s.lower.IDs)-1, mount.MaxLower)
		}
		s.parentLink = s.lower.Links[0]
		if root, err = rootAttributes(parentRoot); err != nil {
			return err
		}
		if !opts.Shift.IsIdentity() && s.driver.opts.MountProgram == "" {
			if root.uid, root.gid, err = opts.Shift.ToHost(root.uid, root.gid); err != nil {
				return fmt.Errorf("owner of the root directory: %w", err)
			}
		}
	}
	onDisk := root
	if mask := s.driver.opts.ForceMask; mask != nil {
		onDisk = attributes{uid: outer.uid, gid: outer.gid, mode: uint32(mask.Perm())}
	}

	plain, err := outer.settle(s.Path())
	if err != nil {
		return err
	}
	if err := s.project(ctx, opts.Replaces); err != nil {
		return err
	}
	if err := makeDir(s.Content(), onDisk); err != nil {
		return err
	}
	if s.driver.opts.ForceMask != nil {
		if err := root.override(s.Content()); err != nil {
			return err
		}
	}
	private := attributes{uid: onDisk.uid, gid: onDisk.gid, mode: 0o700}
	dirs, files := []string{"work", "merged"}, map[string]string{"link": s.link}
	if s.parent == "" {
		dirs = append(dirs, "empty")
	} else {
		files["lower"], files["lower-layers"] = s.lower.LowerFile(), s.lower.LowerLayersFile()
	}
	plain = plain && private == outer
	for _, name := range dirs {
		if plain, err = makeDirLike(filepath.Join(s.Path(), name), private, plain); err != nil {
			return err
		}
	}
	if err := writeFiles(s.Path(), files); err != nil {
		return err
	}
	if opts.Content != "" {
		return s.copyContent(ctx, opts.Content)
	}
	return nil
}

// copyContent fills the layer with what another layer itself holds, its older generations
// included.
func (s *staged) copyContent(ctx context.Context, id string) error {
	dir, _, err := s.driver.homes.Find(id)
	if err != nil {
		return fmt.Errorf("content of %w", err)
	}
	if shown, err := files.ReadAdditional(dir); err != nil || shown != "" {
		return errors.Join(errdefs.OtherStore{Kind: errdefs.Layer, ID: id, Store: shown,
			Why: "an additional layer store"}, err)
	}
	generations, err := s.driver.homes.Generations(dir)
	if err != nil {
		return err
	}
	for _, from := range generations {
		to := filepath.Join(s.Path(), filepath.Base(from))
		if to != s.Content() {
			if err := os.Mkdir(to, 0o700); err != nil {
				return err
			}
		}
		if err := fsat.CopyTree(ctx, from, to); err != nil {
			return fmt.Errorf("copy the content of layer %s: %w", id, err)
		}
	}
	return nil
}

// Commit makes the staged directory the layer id.
//
// The order is: what lies at id from an interrupted operation goes away, the symlink
// l/LINK is made, the directory is renamed in. A crash after the first step leaves
// nothing; after the second, a symlink that leads nowhere, which nobody reads and
// Leftovers lists; after the third, a whole layer without a record. Were the symlink made
// last, a crash could leave a layer that releases of containers/storage before 1.63 can't
// use as a parent.
func (s *staged) Commit(ctx context.Context, id string) (err error) {
	defer drivers.Describe(&err, "overlay: commit layer %s", id)
	if err := s.ready(ctx, id); err != nil {
		return err
	}
	links, err := files.OpenLinks(s.home)
	if err != nil {
		return err
	}
	defer links.Close()
	if err := s.sameParent(links); err != nil {
		return err
	}
	if s.driver.taken(id) {
		if err := s.MakeRoom(ctx, s.driver, id); err != nil {
			return err
		}
	}
	if err := s.renewLimits(); err != nil {
		return err
	}
	if err := links.Make(s.link, id); err != nil {
		return err
	}
	step.Reached(ctx, "overlay: short name made")
	if err := s.Place(ctx, s.driver, id, filepath.Join(s.home, id), links.Path, s.home); err != nil {
		return errors.Join(err, links.Remove(s.link))
	}
	s.ownProject = false // it is the layer's now
	return nil
}

// ready refuses what can't be committed whatever is on disk.
func (s *staged) ready(ctx context.Context, id string) error {
	if err := s.driver.homes.Validate(id); err != nil {
		return err
	}
	return s.Ready(ctx)
}

// sameParent checks that the parent is the very layer that it was at Stage: a layer's
// short name is never used twice.
func (s *staged) sameParent(links files.Links) error {
	if s.parent == "" {
		return nil
	}
	if links.LeadsTo(s.parentLink, s.parent) {
		return nil
	}
	// Its symlink is lost, or in another home.
	dir, _, err := s.driver.homes.Find(s.parent)
	if err != nil {
		return fmt.Errorf("parent %w", err)
	}
	if link, err := files.ReadLink(dir); err != nil || link != s.parentLink {
		return fmt.Errorf("parent layer %s: %w: it was deleted and made anew meanwhile", s.parent, errdefs.ErrNotFound)
	}
	return nil
}

// Replace exchanges the staged diff with the layer's, in one step.
func (s *staged) Replace(ctx context.Context, id string) (_ drivers.Trash, err error) {
	defer drivers.Describe(&err, "overlay: replace the content of layer %s", id)
	if err := s.ready(ctx, id); err != nil {
		return nil, err
	}
	dir, home, err := s.driver.homes.FindOwn(id)
	if err != nil {
		return nil, err
	}
	if shown, err := files.ReadAdditional(dir); err != nil || shown != "" {
		return nil, errors.Join(errdefs.OtherStore{Kind: errdefs.Layer, ID: id, Store: shown,
			Why: "an additional layer store"}, err)
	}
	if home != s.home {
		return nil, fmt.Errorf("%w: the layer lies in %s and was staged for %s", errdefs.ErrInvalid, home, s.home)
	}
	return s.Exchange(ctx, s.driver, s.Content(), filepath.Join(dir, "diff"))
}

// writeFile makes one of a layer's small files, 0644 whatever the umask.
func writeFile(path, content string) error {
	return writeFiles(filepath.Dir(path), map[string]string{filepath.Base(path): content})
}

// writeFiles is writeFile of several in the same place. When the first comes with the
// right mode, so do the others.
func writeFiles(dir string, files map[string]string) error {
	asIs := false
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := writeNew(path, content, &asIs); err != nil {
			return &os.PathError{Op: "write", Path: path, Err: err}
		}
	}
	return nil
}

// writeNew makes a file. asIs says that a new file comes with the mode it is asked for,
// and is set when this one did.
func writeNew(path, content string, asIs *bool) error {
	const mode = 0o644
	fd, err := openat.Create(unix.AT_FDCWD, path, unix.O_WRONLY, mode)
	if err != nil {
		return err
	}
	n, err := unix.Write(fd, []byte(content))
	if err == nil && n < len(content) {
		err = io.ErrShortWrite // a full disk
	}
	var st unix.Stat_t
	if err == nil && !*asIs {
		err = unix.Fstat(fd, &st)
		*asIs = st.Mode&0o7777 == mode
	}
	if err == nil && !*asIs {
		err = unix.Fchmod(fd, mode)
	}
	if cerr := unix.Close(fd); err == nil {
		err = cerr
	}
	return err
}
