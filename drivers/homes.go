package drivers

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/openat"
	"github.com/shalestore/shale/internal/tempdir"
	"golang.org/x/sys/unix"
)

// TempDirs is the directory of temporary directories in a home (section 6 of the storage
// format).
const TempDirs = "tempdirs"

// Homes are the directories in which a driver keeps its layers, one in each store, for
// drivers whose layers are directories.
type Homes struct {
	// Name is the driver's, and that of its directory in a store; Layers is the directory
	// of the layers in that, "" for itself.
	Name, Layers string
	// Own are the graph root's home and then the image store's, Others those of read-only
	// stores.
	Own, Others []string
	// Reserved tells which names in a home are no layers, nil for none.
	Reserved func(name string) bool
}

// NewHomes returns the homes of a driver at a place, whose roots must be absolute paths:
// else it is errdefs.ErrInvalid.
func NewHomes(name, layers string, at Place) (Homes, error) {
	h := Homes{Name: name, Layers: layers}
	for _, root := range slices.Concat([]string{at.Root, at.ImageStore}, at.ReadOnly) {
		if root != "" && !filepath.IsAbs(root) {
			return h, fmt.Errorf("%s: %w: the path is not absolute", root, errdefs.ErrInvalid)
		}
	}
	if at.Root == "" {
		return h, fmt.Errorf("graph root: %w: none given", errdefs.ErrInvalid)
	}
	h.Own = []string{filepath.Join(at.Root, name)}
	if at.ImageStore != "" {
		h.Own = append(h.Own, filepath.Join(at.ImageStore, name))
	}
	for _, root := range at.ReadOnly {
		h.Others = append(h.Others, filepath.Join(root, name))
	}
	return h, nil
}

// For is the home in which a new layer belongs.
func (h Homes) For(writable bool) string {
	if writable {
		return h.Own[0]
	}
	return h.Own[len(h.Own)-1]
}

// All is where layers are looked for, in this order.
func (h Homes) All() []string { return slices.Concat(h.Own, h.Others) }

// Dir is the place of a layer in a home.
func (h Homes) Dir(home, id string) string { return filepath.Join(home, h.Layers, id) }

// Validate is ValidateID, and refuses what is reserved.
func (h Homes) Validate(id string) error {
	if h.Reserved != nil && h.Reserved(id) {
		return fmt.Errorf("layer ID %q: %w: the %s driver uses that name itself", id, errdefs.ErrInvalid, h.Name)
	}
	return ValidateID(id)
}

// Find returns a layer's directory and the home that it is in.
func (h Homes) Find(id string) (dir, home string, err error) {
	if err := h.Validate(id); err != nil {
		return "", "", err
	}
	for _, home := range h.All() {
		if h.Layers != "" { // which is no link, whatever it says there
			if err := openat.IsDir(home, h.Layers); errors.Is(err, unix.ENOENT) {
				continue
			} else if err != nil {
				return "", "", fmt.Errorf("layer %s: %w", id, err)
			}
		}
		dir := h.Dir(home, id)
		var st unix.Stat_t
		switch err := unix.Lstat(dir, &st); {
		case err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR:
			return dir, home, nil
		case err == nil, err == unix.ENOENT:
		default:
			return "", "", fmt.Errorf("layer %s: stat %s: %w", id, dir, err)
		}
	}
	return "", "", fmt.Errorf("layer %s: %w to the %s driver in %s", id, errdefs.ErrNotFound, h.Name,
		strings.Join(h.All(), " and "))
}

// FindOwn is Find for what is going to be changed. A layer of a read-only store is
// errdefs.ErrReadOnly.
func (h Homes) FindOwn(id string) (dir, home string, err error) {
	dir, home, err = h.Find(id)
	if err == nil && slices.Contains(h.Others, home) {
		return "", "", errdefs.OtherStore{Kind: errdefs.Layer, ID: id, Store: filepath.Dir(home)}
	}
	return dir, home, err
}

// List is Driver.List.
func (h Homes) List(ctx context.Context) ([]string, error) {
	var all []string
	seen := map[string]bool{}
	for _, home := range h.Own {
		ids, err := h.ListIn(home)
		if err := errors.Join(ctx.Err(), err); err != nil {
			return nil, fmt.Errorf("%s: list layers: %w", h.Name, err)
		}
		for _, id := range ids {
			if !seen[id] {
				seen[id] = true
				all = append(all, id)
			}
		}
	}
	return all, nil
}

// ListIn lists the directories of a home that can be layers.
func (h Homes) ListIn(home string) ([]string, error) {
	entries, err := openat.List(home, h.Layers)
	if err != nil {
		return nil, err
	}
	ids := make([]string, 0, len(entries))
	for _, entry := range entries {
		if entry.IsDir() && h.Validate(entry.Name) == nil {
			ids = append(ids, entry.Name)
		}
	}
	return ids, nil
}

// Recover is Recoverer.Recover.
func (h Homes) Recover(ctx context.Context) error {
	var errs []error
	for _, home := range h.Own {
		if err := tempdir.Recover(ctx, filepath.Join(home, TempDirs)); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", h.Name, err))
		}
	}
	return errors.Join(errs...)
}

// Describe puts what was tried before an error, for use with defer.
func Describe(err *error, format string, args ...any) {
	if *err != nil {
		*err = fmt.Errorf(format+": %w", append(args, *err)...)
	}
}
