package store

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/containers"
	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/images"
	"github.com/shalestore/shale/internal/openat"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/mount"
	"github.com/shalestore/shale/store/internal/roots"
	"golang.org/x/sys/unix"
)

// AutoUserns asks for a user namespace with IDs that no other container has.
type AutoUserns struct {
	// Size is how many IDs the container gets; 0 for as many as its image seems to need,
	// within the store's bounds (storage.conf's auto-userns-min-size and
	// auto-userns-max-size).
	Size int
	// InitialSize is the least that the container gets when Size is 0.
	InitialSize int
	// PasswdFile and GroupFile are files on the host to read instead of the image's, when
	// the container will have others; "" for none.
	PasswdFile, GroupFile string
	// Additional are maps that become part of the container's as they are.
	Additional idtools.Mapping
}

const (
	// autoUser owns the ranges in /etc/subuid and /etc/subgid that containers of root
	// get, unless storage.conf names another.
	autoUser = "containers"
	// nobody is an ID that images have without using it. Counted, it would make every
	// container take 65,536 IDs.
	nobody = 65534
	// maxUserFile is how much is read of a passwd or group file.
	maxUserFile = 1 << 20
	// autoTries is how often a range is chosen anew because others took it while the
	// container was made.
	autoTries = 16
)

// errTaken says that somebody has a container with some of our IDs now.
var errTaken = errors.New("another container has taken these IDs")

// createInFreeRange is createContainer with IDs of the store's choice. No lock is held
// from the choice to the record; but there, under userns.lock, it is made sure that they
// are still free, and others (containers/storage chooses and records under that lock) see
// ours.
func createInFreeRange(ctx context.Context, r *roots.Roots, opts ContainerOptions) (containers.Container, error) {
	for range autoTries {
		var err error
		if opts.IDMap, err = chooseIDs(ctx, r, opts); err != nil {
			return containers.Container{}, fmt.Errorf("new container: automatic user namespace: %w", err)
		}
		created, err := createContainer(ctx, r, opts)
		if !errors.Is(err, errTaken) {
			return created, err
		}
	}
	return containers.Container{},
		fmt.Errorf("new container: automatic user namespace: %w: other containers took the IDs %d times",
			errdefs.ErrBusy, autoTries)
}

// chooseIDs finds IDs that no container has.
func chooseIDs(ctx context.Context, r *roots.Roots, opts ContainerOptions) (m idtools.Mapping, err error) {
	uids, gids, err := availableIDs(r.Config)
	if err != nil {
		return m, err
	}
	size := opts.AutoUserns.Size
	if size <= 0 {
		if size, err = neededIDs(ctx, r, opts); err != nil {
			return m, err
		}
	}
	used, err := usedIDs(ctx, r)
	if err != nil {
		return m, err
	}
	if m.UIDs, err = idtools.Allocate(uids, used.UIDs, size, opts.AutoUserns.Additional.UIDs); err != nil {
		return m, fmt.Errorf("users: %w", err)
	}
	if m.GIDs, err = idtools.Allocate(gids, used.GIDs, size, opts.AutoUserns.Additional.GIDs); err != nil {
		return m, fmt.Errorf("groups: %w", err)
	}
	return m, nil
}

// availableIDs are root's to give to containers: those of a user that stands for them;
// and in a user namespace, all that it has but 0.
func availableIDs(cfg config.Config) (uids, gids []idtools.Range, err error) {
	if !cfg.Rootless {
		user := cmp.Or(cfg.AutoUserns.User, autoUser)
		if uids, err = idtools.ReadRanges("/etc/subuid", user); err != nil {
			return nil, nil, err
		}
		if gids, err = idtools.ReadRanges("/etc/subgid", user); err != nil {
			return nil, nil, err
		}
		if len(uids) == 0 || len(gids) == 0 {
			return nil, nil, errdefs.Missing{Kind: errdefs.SubIDs, Ref: user, Why: fmt.Sprintf(
				"add a line such as %q to /etc/subuid and /etc/subgid", user+":2147483647:2147483648")}
		}
		return uids, gids, nil
	}
	own, err := idtools.NamespaceMapping()
	if err != nil {
		return nil, nil, err
	}
	inside := func(maps []idtools.Map) (ranges []idtools.Range) {
		for _, m := range maps {
			if m.ContainerID == 0 {
				m.ContainerID, m.Size = 1, m.Size-1
			}
			if m.Size > 0 {
				ranges = append(ranges, idtools.Range{Start: uint32(m.ContainerID), Size: uint32(m.Size)})
			}
		}
		return ranges
	}
	return inside(own.UIDs), inside(own.GIDs), nil
}

// usedIDs are the maps of all containers together.
func usedIDs(ctx context.Context, r *roots.Roots) (used idtools.Mapping, err error) {
	err = r.Containers.View(ctx, func(c *containers.ReadTx) error {
		all, err := c.All()
		used = mapsOf(all)
		return err
	})
	return used, err
}

func mapsOf(all []containers.Container) (used idtools.Mapping) {
	for _, c := range all {
		used.UIDs = append(used.UIDs, c.UIDMap...)
		used.GIDs = append(used.GIDs, c.GIDMap...)
	}
	return used
}

// stillFree is errTaken when a container has any of the IDs.
func stillFree(c *containers.WriteTx, m idtools.Mapping) error {
	all, err := c.All()
	if err != nil {
		return err
	}
	if used := mapsOf(all); idtools.Overlap(m.UIDs, used.UIDs) || idtools.Overlap(m.GIDs, used.GIDs) {
		return errTaken
	}
	return nil
}

// neededIDs estimates how many IDs an image needs: more than the highest owner of its
// files, and than the highest in its lists of users and groups.
func neededIDs(ctx context.Context, r *roots.Roots, opts ContainerOptions) (int, error) {
	size := max(int(r.Config.AutoUserns.MinSize), opts.AutoUserns.InitialSize, 1)
	var content []string // where the lists may be: the image as a whole, or each of its layers
	var top string
	if opts.Image != "" {
		err := r.ViewImages(ctx, func(l *layers.ReadTx, i *images.ReadTx) error {
			image, err := i.Lookup(opts.Image)
			if err != nil || image.TopLayer == "" {
				return err
			}
			for id := image.TopLayer; id != ""; {
				layer, err := l.Get(id)
				if err != nil {
					return fmt.Errorf("image %s: %w", image.ID, err)
				}
				for _, owner := range append(layer.UIDs, layer.GIDs...) {
					size = max(size, int(owner)+1)
				}
				id = layer.Parent
			}
			info, err := r.Driver.Stat(ctx, image.TopLayer)
			top, content = image.TopLayer, append([]string{info.Content}, info.Lower...)
			return err
		})
		if err != nil {
			return 0, err
		}
		if root := detachedRoot(ctx, r.Driver, top); root != nil {
			defer root.Close()
			content = []string{fmt.Sprintf("/proc/self/fd/%d", root.Fd())}
		}
	}
	for _, list := range []struct {
		given, path string
		fields      []int
	}{{opts.AutoUserns.PasswdFile, "etc/passwd", []int{2, 3}}, {opts.AutoUserns.GroupFile, "etc/group", []int{2}}} {
		file, err := openUserFile(list.given, list.path, content)
		if err != nil {
			return 0, err
		}
		if file != nil {
			size = max(size, highestID(file, list.fields)+1)
			file.Close()
		}
	}
	if most := int(r.Config.AutoUserns.MaxSize); most > 0 && size > most {
		return 0, fmt.Errorf("%w: the image needs %d IDs, and auto-userns-max-size allows %d", errdefs.ErrInvalid, size,
			most)
	}
	return size, nil
}

// detachedRoot is what a layer shows, links from one layer beneath into another included,
// in a mount that nobody else sees; nil where there are no such mounts.
func detachedRoot(ctx context.Context, driver drivers.Driver, layer string) *os.File {
	if layer == "" {
		return nil
	}
	specs, err := driver.Mounts(ctx, layer, drivers.MountOptions{ReadOnly: true})
	if err != nil || len(specs) != 1 {
		return nil
	}
	root, err := mount.Detached(ctx, specs[0])
	if err != nil {
		return nil
	}
	return root
}

// openUserFile opens a list of users or groups: the one that was given, else the first in
// the directories. Where these are single layers, the nearest first, it isn't looked at
// whether one above has deleted it: this is for an estimate. It returns nil when there is
// none.
func openUserFile(given, path string, content []string) (*os.File, error) {
	if given != "" {
		return os.Open(given)
	}
	for _, dir := range content {
		root, err := openat.At(unix.AT_FDCWD, dir, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: dir, Err: err}
		}
		fd, err := openat.RegularInRoot(root, path, unix.O_RDONLY)
		unix.Close(root)
		if errors.Is(err, unix.EAGAIN) {
			return nil, &os.PathError{Op: "open", Path: filepath.Join(dir, path), Err: err}
		}
		if err != nil {
			continue
		}
		file := os.NewFile(uintptr(fd), filepath.Join(dir, path))
		if info, err := file.Stat(); err == nil && info.Size() <= maxUserFile {
			return file, nil
		}
		file.Close()
	}
	return nil, nil
}

// highestID is the highest number in the given fields of a file like passwd(5), without
// nobody's; -1 when there is none.
func highestID(file *os.File, fields []int) int {
	highest := -1
	for lines := bufio.NewScanner(file); lines.Scan(); {
		parts := strings.Split(lines.Text(), ":")
		if parts[0] == "nobody" || parts[0] == "nogroup" {
			continue
		}
		for _, n := range fields {
			if n >= len(parts) {
				continue
			}
			if id, err := strconv.ParseUint(parts[n], 10, 32); err == nil && id != nobody {
				highest = max(highest, int(id))
			}
		}
	}
	return highest
}
