package overlay

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

// maxLowerFile bounds what is read of lower and lower-layers: as many of the longest IDs
// as can be stacked.
const maxLowerFile = (mount.MaxLower + 1) * (drivers.MaxIDLength + 1)

// parents returns the IDs of all layers beneath the one in dir, nearest first: from
// lower-layers, or for layers made by containers/storage before 1.63 from lower.
func (d *Driver) parents(ctx context.Context, dir string) ([]string, error) {
	ids, err := readLowerLayers(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return d.parentsByLink(ctx, dir)
	}
	return ids, err
}

// readLowerLayers returns the IDs in the lower-layers file.
func readLowerLayers(dir string) ([]string, error) {
	path := filepath.Join(dir, "lower-layers")
	data, err := readSmall(path, maxLowerFile)
	if err != nil {
		return nil, err
	}
	ids := strings.Split(string(data), ":")
	for _, id := range ids {
		if !isID(id) {
			return nil, fmt.Errorf("%s: %w: %q is no layer ID", path, errdefs.ErrCorrupt, id)
		}
	}
	return ids, nil
}

func (d *Driver) parentsByLink(ctx context.Context, dir string) ([]string, error) {
	links, err := readLower(dir)
	if err != nil {
		return nil, err
	}
	return d.resolveLinks(ctx, dir, links)
}

// resolveLinks finds the layers that the short names in the lower file of the layer in
// dir stand for.
func (d *Driver) resolveLinks(ctx context.Context, dir string, links []string) (ids []string, err error) {
	ids = make([]string, len(links))
	for i, link := range links {
		if ids[i], err = d.resolveLink(ctx, link); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(dir, "lower"), err)
		}
	}
	return ids, nil
}

// readLower returns the short names in the lower file; a layer without one has no parent.
func readLower(dir string) ([]string, error) {
	path := filepath.Join(dir, "lower")
	data, err := readSmall(path, maxLowerFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	links := strings.Split(string(data), ":")
	for i, entry := range links {
		link, ok := strings.CutPrefix(entry, linkDir+"/")
		if !ok || !validLink(link) {
			return nil, fmt.Errorf("%s: %w: %q is no link name", path, errdefs.ErrCorrupt, entry)
		}
		links[i] = link
	}
	return links, nil
}

// chain is what a child of a layer has beneath it, in both forms that are written down.
// The slices start with the layer itself.
type chain struct {
	ids   []string
	links []string
}

// chainOf describes the layer id, which lies in dir, and everything beneath it.
func (d *Driver) chainOf(ctx context.Context, id, dir string) (chain, error) {
	link, err := readLink(dir)
	if err != nil {
		return chain{}, err
	}
	links, err := readLower(dir)
	if err != nil {
		return chain{}, err
	}
	ids, err := readLowerLayers(dir)
	if errors.Is(err, fs.ErrNotExist) {
		ids, err = d.resolveLinks(ctx, dir, links)
	}
	if err != nil {
		return chain{}, err
	}
	if len(links) != len(ids) {
		// Only one of the two files is there, or they disagree; IDs are what the layers
		// are known by.
		if links, err = d.linksOf(ids); err != nil {
			return chain{}, fmt.Errorf("layer %s: %w", id, err)
		}
	}
	return chain{ids: append([]string{id}, ids...), links: append([]string{link}, links...)}, nil
}

// linksOf reads the short names of layers.
func (d *Driver) linksOf(ids []string) ([]string, error) {
	homes, err := d.openHomes()
	if err != nil {
		return nil, err
	}
	defer homes.close()
	links := make([]string, len(ids))
	for i, id := range ids {
		home, err := d.holding(homes, id)
		if err != nil {
			return nil, err
		}
		if links[i], err = readLink(filepath.Join(home.path, id)); err != nil {
			return nil, err
		}
	}
	return links, nil
}

// lowerFile is the content of lower, lowerLayersFile that of lower-layers. Neither ends
// with a newline.
func (c chain) lowerFile() string {
	return linkDir + "/" + strings.Join(c.links, ":"+linkDir+"/")
}

func (c chain) lowerLayersFile() string { return strings.Join(c.ids, ":") }

// lowers returns the directories beneath the diff of the layer in dir, nearest first: its
// own older generations, then each parent's diff followed by that parent's older
// generations. A parent that is gone is errdefs.ErrCorrupt.
func (d *Driver) lowers(ctx context.Context, dir string) ([]string, error) {
	ids, err := d.parents(ctx, dir)
	if err != nil {
		return nil, err
	}
	return d.lowersOf(dir, ids)
}

// lowersOf is lowers for a layer whose parents are known.
func (d *Driver) lowersOf(dir string, ids []string) ([]string, error) {
	homes, err := d.homesFor(len(ids))
	if err != nil {
		return nil, err
	}
	defer homes.close()
	dirs := homes.appendGenerations(nil, homes.of(dir), filepath.Base(dir))
	for _, id := range ids {
		home, err := d.holding(homes, id)
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
func (d *Driver) homesFor(layers int) (openHomes, error) {
	if layers > 2 || len(d.homes.Others) > 0 {
		return d.openHomes()
	}
	var homes openHomes
	for _, path := range d.homes.Own {
		homes = append(homes, openHome{path, unix.AT_FDCWD})
	}
	return homes, nil
}

func (d *Driver) openHomes() (openHomes, error) {
	var homes openHomes
	for i, path := range d.homes.All() {
		fd, err := openat.At(unix.AT_FDCWD, path, unix.O_PATH|unix.O_DIRECTORY)
		if errors.Is(err, unix.ENOENT) && i >= len(d.homes.Own) {
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
func (d *Driver) holding(h openHomes, id string) (openHome, error) {
	for _, home := range h {
		err := home.look(id + "/diff")
		if err != nil && !errors.Is(err, unix.ENOENT) {
			_, err = d.content(filepath.Join(home.path, id))
		}
		if err == nil {
			return home, nil
		}
		if !errors.Is(err, unix.ENOENT) {
			return openHome{}, fmt.Errorf("parent layer %s: %w", id, err)
		}
	}
	return openHome{}, fmt.Errorf("parent layer %s: %w", id,
		openat.Damaged(filepath.Join(h[0].path, id, "diff"), "its files are gone"))
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
