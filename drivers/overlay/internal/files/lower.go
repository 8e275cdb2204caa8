package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/openat"
	"github.com/shalestore/shale/mount"
	"golang.org/x/sys/unix"
)

// MaxLowerFile bounds what is read of lower and lower-layers: as many of the longest IDs
// as can be stacked.
const MaxLowerFile = (mount.MaxLower + 1) * (drivers.MaxIDLength + 1)

// Parents returns the IDs of all layers beneath the one in dir, nearest first: from
// lower-layers, or for layers made by containers/storage before 1.63 from lower.
func (h Homes) Parents(ctx context.Context, dir string) ([]string, error) {
	ids, err := readLowerLayers(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return h.ParentsByLink(ctx, dir)
	}
	return ids, err
}

// readLowerLayers returns the IDs in the lower-layers file.
func readLowerLayers(dir string) ([]string, error) {
	path := filepath.Join(dir, "lower-layers")
	data, err := ReadSmall(path, MaxLowerFile)
	if err != nil {
		return nil, err
	}
	ids := strings.Split(string(data), ":")
	for _, id := range ids {
		if !IsID(id) {
			return nil, fmt.Errorf("%s: %w: %q is no layer ID", path, errdefs.ErrCorrupt, id)
		}
	}
	return ids, nil
}

// ParentsByLink is Parents from lower alone.
func (h Homes) ParentsByLink(ctx context.Context, dir string) ([]string, error) {
	links, err := ReadLower(dir)
	if err != nil {
		return nil, err
	}
	return h.resolveLinks(ctx, dir, links)
}

// resolveLinks finds the layers that the short names in the lower file of the layer in
// dir stand for.
func (h Homes) resolveLinks(ctx context.Context, dir string, links []string) (ids []string, err error) {
	ids = make([]string, len(links))
	for i, link := range links {
		if ids[i], err = h.resolveLink(ctx, link); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(dir, "lower"), err)
		}
	}
	return ids, nil
}

// ReadLower returns the short names in the lower file; a layer without one has no parent.
func ReadLower(dir string) ([]string, error) {
	path := filepath.Join(dir, "lower")
	data, err := ReadSmall(path, MaxLowerFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	links := strings.Split(string(data), ":")
	for i, entry := range links {
		link, ok := strings.CutPrefix(entry, LinkDir+"/")
		if !ok || !ValidLink(link) {
			return nil, fmt.Errorf("%s: %w: %q is no link name", path, errdefs.ErrCorrupt, entry)
		}
		links[i] = link
	}
	return links, nil
}

// Chain is what a child of a layer has beneath it, in both forms that are written down.
// The slices start with the layer itself.
type Chain struct {
	IDs   []string
	Links []string
}

// ChainOf describes the layer id, which lies in dir, and everything beneath it.
func (h Homes) ChainOf(ctx context.Context, id, dir string) (Chain, error) {
	link, err := ReadLink(dir)
	if err != nil {
		return Chain{}, err
	}
	links, err := ReadLower(dir)
	if err != nil {
		return Chain{}, err
	}
	ids, err := readLowerLayers(dir)
	if errors.Is(err, fs.ErrNotExist) {
		ids, err = h.resolveLinks(ctx, dir, links)
	}
	if err != nil {
		return Chain{}, err
	}
	if len(links) != len(ids) {
		// Only one of the two files is there, or they disagree; IDs are what the layers
		// are known by.
		if links, err = h.LinksOf(ids); err != nil {
			return Chain{}, fmt.Errorf("layer %s: %w", id, err)
		}
	}
	return Chain{IDs: append([]string{id}, ids...), Links: append([]string{link}, links...)}, nil
}

// LinksOf reads the short names of layers.
func (h Homes) LinksOf(ids []string) ([]string, error) {
	homes, err := h.openHomes()
	if err != nil {
		return nil, err
	}
	defer homes.close()
	links := make([]string, len(ids))
	for i, id := range ids {
		home, err := h.holding(homes, id)
		if err != nil {
			return nil, err
		}
		if links[i], err = ReadLink(filepath.Join(home.path, id)); err != nil {
			return nil, err
		}
	}
	return links, nil
}

// LowerFile is the content of lower, LowerLayersFile that of lower-layers. Neither ends
// with a newline.
func (c Chain) LowerFile() string {
	return LinkDir + "/" + strings.Join(c.Links, ":"+LinkDir+"/")
}

func (c Chain) LowerLayersFile() string { return strings.Join(c.IDs, ":") }

// Lowers returns the directories beneath the diff of the layer in dir, nearest first: its
// own older generations, then each parent's diff followed by that parent's older
// generations. A parent that is gone is errdefs.ErrCorrupt.
func (h Homes) Lowers(ctx context.Context, dir string) ([]string, error) {
	ids, err := h.Parents(ctx, dir)
	if err != nil {
		return nil, err
	}
	return h.LowersOf(dir, ids)
}

// LowersOf is Lowers for a layer whose parents are known.
func (h Homes) LowersOf(dir string, ids []string) ([]string, error) {
	homes, err := h.homesFor(len(ids))
	if err != nil {
		return nil, err
	}
	defer homes.close()
	dirs := homes.appendGenerations(nil, homes.of(dir), filepath.Base(dir))
	for _, id := range ids {
		home, err := h.holding(homes, id)
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", filepath.Base(dir), err)
		}
		dirs = homes.appendGenerations(append(dirs, home.path+"/"+id+"/diff"), home, id)
	}
	return dirs, nil
}

// openHome is a home with a descriptor, since looking into hundreds of layers from there
// takes half the time that it takes from the root directory; or with AT_FDCWD.
type openHome struct {
	path string
	fd   int
}

type openHomes []openHome

// homesFor is openHomes for looking into so many layers: for a few it doesn't pay.
func (h Homes) homesFor(layers int) (openHomes, error) {
	if layers > 2 || len(h.Others) > 0 {
		return h.openHomes()
	}
	var homes openHomes
	for _, path := range h.Own {
		homes = append(homes, openHome{path, unix.AT_FDCWD})
	}
	return homes, nil
}

func (h Homes) openHomes() (openHomes, error) {
	var homes openHomes
	for i, path := range h.All() {
		fd, err := openat.At(unix.AT_FDCWD, path, unix.O_PATH|unix.O_DIRECTORY)
		if errors.Is(err, unix.ENOENT) && i >= len(h.Own) {
			continue // a read-only store without layers of this driver
		}
		if err != nil {
			homes.close()
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
		homes = append(homes, openHome{path, fd})
	}
	return homes, nil
}

func (h openHomes) close() {
	for _, home := range h {
		if home.fd != unix.AT_FDCWD {
			unix.Close(home.fd)
		}
	}
}

// look is nil if there is a directory in the home by that name, and no link on the way.
func (h openHome) look(name string) error {
	if h.fd == unix.AT_FDCWD {
		return openat.IsDir(h.path, name)
	}
	fd, err := openat.Beneath(h.fd, name, unix.O_PATH|unix.O_DIRECTORY)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// of is the home in which a layer's directory lies.
func (h openHomes) of(dir string) openHome {
	for _, home := range h {
		if home.path == filepath.Dir(dir) {
			return home
		}
	}
	return h[0]
}

// holding is the home with a layer's diff, which may be a symlink into an additional
// layer store.
func (h Homes) holding(in openHomes, id string) (openHome, error) {
	for _, home := range in {
		err := home.look(id + "/diff")
		if err != nil && !errors.Is(err, unix.ENOENT) {
			_, err = h.Content(filepath.Join(home.path, id))
		}
		if err == nil {
			return home, nil
		}
		if !errors.Is(err, unix.ENOENT) {
			return openHome{}, fmt.Errorf("parent layer %s: %w", id, err)
		}
	}
	return openHome{}, fmt.Errorf("parent layer %s: %w", id,
		openat.Damaged(filepath.Join(in[0].path, id, "diff"), "its files are gone"))
}

// appendGenerations appends a layer's diff1, diff2 and so on, as many as there are.
func (h openHomes) appendGenerations(dirs []string, home openHome, id string) []string {
	for n := 1; ; n++ {
		generation := id + "/diff" + strconv.Itoa(n)
		if home.look(generation) != nil {
			return dirs
		}
		dirs = append(dirs, home.path+"/"+generation)
	}
}

// Generations returns the layer's own diff and its older generations, as many as there
// are.
func (h Homes) Generations(dir string) ([]string, error) {
	homes, err := h.openHomes()
	if err != nil {
		return nil, err
	}
	defer homes.close()
	return homes.appendGenerations([]string{filepath.Join(dir, "diff")}, homes.of(dir), filepath.Base(dir)), nil
}
