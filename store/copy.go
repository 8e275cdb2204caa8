package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/shalestore/shale/archive"
	"github.com/shalestore/shale/archive/apply"
	"github.com/shalestore/shale/archive/diff"
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/internal/openat"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store/internal/roots"
	"golang.org/x/sys/unix"
)

// Location is a path on the host, or in a layer.
type Location struct {
	// Layer is an ID, name or unique ID prefix; "" for the host.
	Layer string
	// Path begins at the layer's root directory, which no symbolic link in the layer
	// leads out of.
	Path string
}

func (l Location) String() string {
	if l.Layer == "" {
		return l.Path
	}
	return l.Layer + ":" + l.Path
}

// CopyOptions says how files are copied.
type CopyOptions struct {
	// Owner, when not nil, is the owner of all copies, as the layer's users see it.
	Owner *apply.Owner
}

// Copy copies a file, or a directory with all that is in it, between the host and layers,
// or between layers. Owners are translated from the mapping of the layer copied from to
// that of the layer copied to; times, modes and extended attributes are kept.
//
// A file gets the target's name, or keeps its own if the target ends in a slash. A
// directory's content goes into the target, which is made if it is missing. Layers are
// mounted meanwhile. An error leaves what was copied by then.
func (s *Store) Copy(ctx context.Context, from, to Location, opts CopyOptions) (err error) {
	r, err := s.Roots(ctx)
	if err != nil {
		return err
	}
	target, err := visit(ctx, r, to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.leave(ctx)) }()
	source, err := visit(ctx, r, from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.leave(ctx)) }()
	if err := copyBetween(ctx, source, target, opts); err != nil {
		return fmt.Errorf("copy %s to %s: %w", from, to, err)
	}
	return nil
}

// visited is a location whose layer, if any, is mounted.
type visited struct {
	roots   *roots.Roots
	layer   string
	mapping idtools.Mapping
	root    int // an O_PATH descriptor of the layer's root directory, or AT_FDCWD
	path    string
}

func visit(ctx context.Context, r *roots.Roots, at Location) (*visited, error) {
	if at.Path == "" {
		return nil, fmt.Errorf("copy: %w: an empty path", errdefs.ErrInvalid)
	}
	v := &visited{roots: r, root: unix.AT_FDCWD, path: at.Path}
	if at.Layer == "" {
		return v, nil
	}
	layer, container, err := layerAndContainer(ctx, r, at.Layer)
	if err != nil {
		return nil, err
	}
	wanted := drivers.MountOptions{}
	if container != nil {
		if wanted, err = containerMount(*container, MountOptions{}, r.Config.DisableVolatile); err != nil {
			return nil, err
		}
	}
	mounted, err := mountLayer(ctx, r, layer.ID, wanted)
	if err != nil {
		return nil, err
	}
	v.layer, v.mapping = layer.ID, layer.Mapping()
	if v.root, err = openat.At(unix.AT_FDCWD, mounted, unix.O_PATH|unix.O_DIRECTORY); err != nil {
		return nil, errors.Join(&os.PathError{Op: "open", Path: mounted, Err: err}, v.leave(ctx))
	}
	return v, nil
}

// layerAndContainer finds a layer, and the container that it belongs to, if any.
func layerAndContainer(ctx context.Context, r *roots.Roots, ref string) (layer layers.Layer,
	owner *containers.Container, err error) {
	err = r.ViewLayers(ctx, func(l *layers.ReadTx, c *containers.ReadTx) error {
		if layer, err = l.Lookup(ref); err != nil {
			return err
		}
		found, err := c.ByLayer(layer.ID)
		if err == nil {
			owner = &found
		} else if errors.Is(err, errdefs.ErrNotFound) {
			err = nil
		}
		return err
	})
	return layer, owner, err
}

func (v *visited) leave(ctx context.Context) error {
	if v.layer == "" {
		return nil
	}
	if v.root >= 0 {
		unix.Close(v.root)
	}
	ctx, cancel := roots.UndoContext(ctx)
	defer cancel()
	_, err := v.roots.Layers.Unmount(ctx, v.layer, false)
	return err
}

// open opens a path of the location. In a layer, its links are followed as from within.
func (v *visited) open(path string, flags int) (int, error) {
	open := openat.At
	if v.layer != "" {
		open = openat.InRoot
	}
	fd, err := open(v.root, path, flags)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

// makeDir opens a directory, having made it and its parents where they are missing.
func (v *visited) makeDir(path string) (int, error) {
	uid, gid, err := v.mapping.RootPair()
	if err != nil {
		return -1, err
	}
	fd, err := v.open(path, unix.O_PATH|unix.O_DIRECTORY)
	if !errors.Is(err, os.ErrNotExist) || path == filepath.Dir(path) {
		return fd, err
	}
	parent, err := v.makeDir(filepath.Dir(path))
	if err != nil {
		return -1, err
	}
	defer unix.Close(parent)
	name := filepath.Base(path)
	if err := unix.Mkdirat(parent, name, 0o755); err != nil && err != unix.EEXIST {
		return -1, &os.PathError{Op: "mkdir", Path: path, Err: err}
	} else if err == nil && v.layer != "" {
		if err := unix.Fchownat(parent, name, int(uid), int(gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return -1, &os.PathError{Op: "chown", Path: path, Err: err}
		}
	}
	return v.open(path, unix.O_PATH|unix.O_DIRECTORY)
}

func copyBetween(ctx context.Context, from, to *visited, opts CopyOptions) error {
	source, err := from.open(from.path, unix.O_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(source)
	var st unix.Stat_t
	if err := unix.Fstat(source, &st); err != nil {
		return err
	}
	// A name like a whiteout's is that of a file here.
	packing := diff.Options{IDMap: from.mapping, Literal: true}
	unpacking := apply.Options{IDMap: to.mapping, Owner: opts.Owner, Whiteouts: archive.LiteralWhiteouts}
	target, pack := to.path, func(w io.Writer) error {
		return diff.WriteTree(ctx, w, openat.ProcPath(source), "", packing)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
	case unix.S_IFREG:
		name := filepath.Base(target)
		if target = filepath.Dir(target); strings.HasSuffix(to.path, "/") {
			target, name = filepath.Clean(to.path), filepath.Base(from.path)
		}
		pack = func(w io.Writer) error { return diff.WriteFile(w, source, name, packing) }
	default:
		return fmt.Errorf("%s: %w: neither a file nor a directory", from.path, errdefs.ErrUnsupported)
	}
	dir, err := to.makeDir(filepath.Clean(target))
	if err != nil {
		return err
	}
	defer unix.Close(dir)

	r, w := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := pack(w)
		w.CloseWithError(err)
		packed <- err
	}()
	_, err = apply.Tar(ctx, openat.ProcPath(dir), r, nil, unpacking)
	r.CloseWithError(err)
	if perr := <-packed; err == nil {
		err = perr
	}
	return err
}
