package drivers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/shalestore/shale/errdefs"
)

// Place is where a store lies. A driver keeps its layers in Root/<name>, and what may be
// lost at a reboot in RunRoot/<name>.
type Place struct {
	Root    string // the graph root, absolute
	RunRoot string // absolute
	// ImageStore is a second root for the layers of images (storage.conf's imagestore);
	// "" when they lie in Root too.
	ImageStore string
	// ReadOnly are the roots of other stores (storage.conf's additionalimagestores),
	// searched in this order after the store's own. Layers may stand on theirs; nothing
	// of them is changed, and what isn't there is no error.
	ReadOnly []string
}

// Factory opens a driver. Whoever puts one in a Registry has given it the driver's own
// settings already.
type Factory struct {
	// Name is what the driver is called in storage.conf, and its directory in the graph
	// root.
	Name string
	// Aliases are other names for it, which are accepted but never used for directories.
	Aliases []string
	// Open opens the driver at a place, making its directories when they are missing.
	// When it makes them it also finds out whether the driver can work there, and returns
	// errdefs.ErrUnsupported, leaving nothing behind, when it can't.
	Open func(ctx context.Context, at Place) (Driver, error)
}

// Registry knows the drivers that a program has. It doesn't change once made.
type Registry struct{ factories []Factory }

// NewRegistry returns a registry of exactly these drivers.
func NewRegistry(factories ...Factory) *Registry {
	return &Registry{factories: slices.Clone(factories)}
}

// Names lists the drivers in the order in which they were given.
func (r *Registry) Names() []string {
	names := make([]string, len(r.factories))
	for i, f := range r.factories {
		names[i] = f.Name
	}
	return names
}

// Choice says which driver is wanted.
type Choice struct {
	// Name is the driver to use whatever else may be there; "" leaves it to the rest.
	Name string
	// Priority is storage.conf's driver_priority: the drivers that may be chosen, the
	// best first. Empty means overlay, btrfs, zfs.
	Priority []string
}

// Choose opens a driver as storage.conf(5) has it:
//
//  1. the one that was asked for by name;
//  2. else the one whose directory the graph root holds already, and it must work: to
//     pick another would hide the layers that are there. Several are an error, since only
//     a person knows which is meant;
//  3. else the first of the priority list that works here.
//
// vfs takes part in 2 and 3 only when the priority list names it, because it copies whole
// layers. Errors are errdefs.ErrInvalid for an unknown name and for several directories,
// errdefs.ErrUnsupported when no driver can work, and name what was tried and what to do.
func (r *Registry) Choose(ctx context.Context, c Choice, at Place) (Driver, error) {
	if c.Name != "" {
		return r.Open(ctx, c.Name, at)
	}
	priority := c.Priority
	if len(priority) == 0 {
		priority = []string{"overlay", "btrfs", "zfs"}
	}
	prior, err := r.prior(at.Root, priority)
	if err != nil {
		return nil, err
	}
	if prior != "" {
		d, err := r.Open(ctx, prior, at)
		if err != nil {
			return nil, fmt.Errorf("%s has layers of the %s driver: %w", at.Root, prior, err)
		}
		return d, nil
	}
	var tried []string
	for _, name := range priority {
		f, known := r.find(name)
		if !known {
			tried = append(tried, name+": this program has no such driver")
			continue
		}
		d, err := f.Open(ctx, at)
		if err == nil {
			return d, nil
		}
		if !errors.Is(err, errdefs.ErrUnsupported) {
			return nil, fmt.Errorf("storage driver %s: %w", name, err)
		}
		tried = append(tried, name+": "+err.Error())
	}
	return nil, errdefs.Unsupported{What: "choose a storage driver for " + at.Root, Cure: strings.Join(tried, "; ") +
		`; driver = "vfs" in storage.conf works anywhere, at the price of a full copy per layer`}
}

// Open opens the driver of that name or alias.
func (r *Registry) Open(ctx context.Context, name string, at Place) (Driver, error) {
	f, known := r.find(name)
	if !known {
		return nil, fmt.Errorf("storage driver %q: %w: this program has %s", name, errdefs.ErrInvalid,
			strings.Join(r.Names(), ", "))
	}
	d, err := f.Open(ctx, at)
	if err != nil {
		return nil, fmt.Errorf("storage driver %s: %w", f.Name, err)
	}
	return d, nil
}

func (r *Registry) find(name string) (Factory, bool) {
	for _, f := range r.factories {
		if f.Name == name || slices.Contains(f.Aliases, name) {
			return f, true
		}
	}
	return Factory{}, false
}

// prior finds the driver that the graph root was used with, "" for none. A directory's
// mere existence tells, as it does for containers/storage, and its drivers count even
// where we have none of that name.
func (r *Registry) prior(root string, priority []string) (string, error) {
	candidates := []string{"btrfs", "zfs"}
	for _, f := range r.factories {
		candidates = append(append(candidates, f.Name), f.Aliases...)
	}
	slices.Sort(candidates)
	var found []string
	for _, name := range slices.Compact(candidates) {
		if name == "vfs" && !slices.Contains(priority, name) {
			continue
		}
		if st, err := os.Stat(filepath.Join(root, name)); err == nil && st.IsDir() {
			found = append(found, name)
		}
	}
	chosen := ""
	for _, name := range priority {
		if slices.Contains(found, name) {
			chosen = name
			break
		}
	}
	if chosen == "" {
		return "", nil
	}
	if len(found) > 1 {
		return "",
			fmt.Errorf(
				"choose a storage driver for %s: %w: it has directories of several drivers (%s); set driver in "+
					"storage.conf, or remove those that aren't used",
				root, errdefs.ErrInvalid, strings.Join(found, ", "))
	}
	return chosen, nil
}
