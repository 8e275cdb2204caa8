package overlay

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/openat"
	"golang.org/x/sys/unix"
)

// linkLength is how many characters a short name has: few enough that containers/storage
// before 1.63 could mount 128 lowers by them.
const linkLength = 26

// newLink makes a short name out of 130 random bits.
func newLink() string {
	random := make([]byte, (linkLength*5+7)/8)
	rand.Read(random) // never fails (crypto/rand, Go 1.24)
	return base32.StdEncoding.EncodeToString(random)[:linkLength]
}

func validLink(link string) bool {
	if len(link) != linkLength {
		return false
	}
	for i := range len(link) {
		if c := link[i]; !('A' <= c && c <= 'Z' || '2' <= c && c <= '7') {
			return false
		}
	}
	return true
}

// readLink returns the short name of the layer in dir.
func readLink(dir string) (string, error) {
	data, err := readSmall(filepath.Join(dir, "link"), linkLength+1)
	if err != nil {
		return "", err
	}
	if link := string(data); validLink(link) {
		return link, nil
	}
	return "", fmt.Errorf("%s: %w: it should hold %d letters and digits", filepath.Join(dir, "link"),
		errdefs.ErrCorrupt, linkLength)
}

// linkTarget is what the symlink of a layer points at.
func linkTarget(id string) string { return "../" + id + "/diff" }

// links is a home's directory of short names, open.
type links struct {
	path string
	fd   int
}

func openLinks(home string) (links, error) {
	fd, err := openat.Open(home, linkDir, unix.O_PATH|unix.O_DIRECTORY)
	return links{filepath.Join(home, linkDir), fd}, err
}

func (l links) close() { unix.Close(l.fd) }

// read returns what the symlink of a short name holds.
func (l links) read(link string) (string, error) { return openat.ReadlinkIn(l.fd, l.path, link) }

// leadsTo reports whether a short name is that of layer id.
func (l links) leadsTo(link, id string) bool {
	target, err := l.read(link)
	return err == nil && target == linkTarget(id)
}

func (l links) make(link, id string) error {
	if err := unix.Symlinkat(linkTarget(id), l.fd, link); err != nil {
		return &os.PathError{Op: "symlink", Path: filepath.Join(l.path, link), Err: err}
	}
	return nil
}

func (l links) remove(link string) error {
	if err := unix.Unlinkat(l.fd, link, 0); err != nil && err != unix.ENOENT {
		return &os.PathError{Op: "remove", Path: filepath.Join(l.path, link), Err: err}
	}
	return nil
}

// readSymlink reads the symlink of a short name.
func readSymlink(home, link string) (string, error) {
	return openat.Readlink(home, filepath.Join(linkDir, link))
}

// resolveLink finds the layer that a short name stands for: by its symlink, or, when that
// is missing, by asking every layer for its name. containers/storage loses such links in
// power cuts.
func (d *Driver) resolveLink(ctx context.Context, link string) (string, error) {
	if !validLink(link) {
		return "", fmt.Errorf("%w: %q is no link name", errdefs.ErrCorrupt, link)
	}
	for _, home := range d.homes.All() {
		target, err := readSymlink(home, link)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		id, ok := linkedID(target)
		if !ok {
			return "", fmt.Errorf("%w: %s points at %q", errdefs.ErrCorrupt, filepath.Join(home, linkDir, link), target)
		}
		return id, nil
	}
	for _, home := range d.homes.All() {
		ids, err := d.homes.ListIn(home)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		for _, id := range ids {
			if err := ctx.Err(); err != nil {
				return "", err
			}
			if found, err := readLink(filepath.Join(home, id)); err == nil && found == link {
				return id, nil
			}
		}
	}
	return "", fmt.Errorf("%w: no layer has the link name %s", errdefs.ErrCorrupt, link)
}

// linkedID takes the ID out of a symlink's target, which must have the one form that
// there is.
func linkedID(target string) (string, bool) {
	id, ok := strings.CutPrefix(target, "../")
	if !ok {
		return "", false
	}
	id, ok = strings.CutSuffix(id, "/diff")
	return id, ok && isID(id)
}

// Leftovers are the short names that lead to no layer, or to one that has another name by
// now, and that are no layer's own. A crash leaves them, and so does containers/storage
// in an image store. The caller holds the layer lock, under which every name is made.
func (d *Driver) Leftovers(ctx context.Context) (paths []string, err error) {
	for _, home := range d.homes.Own {
		entries, err := openat.List(home, linkDir)
		if err != nil {
			return nil, err
		}
		var suspects []string
		for _, entry := range entries {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if validLink(entry.Name) && !inUse(home, entry.Name) {
				suspects = append(suspects, entry.Name)
			}
		}
		if len(suspects) == 0 {
			continue
		}
		owned, err := d.ownNames(ctx, home)
		if err != nil {
			return nil, err
		}
		for _, link := range suspects {
			if !owned[link] { // else it is damaged, and for Rewrite
				paths = append(paths, filepath.Join(home, linkDir, link))
			}
		}
	}
	return paths, nil
}

// inUse is true as well where it can't be told: a layer may have lost the file that says
// its name.
func inUse(home, link string) bool {
	target, err := readSymlink(home, link)
	if err != nil {
		return true
	}
	id, ok := linkedID(target)
	if !ok {
		return true
	}
	found, err := readLink(filepath.Join(home, id))
	if errors.Is(err, fs.ErrNotExist) {
		_, err := os.Lstat(filepath.Join(home, id))
		return !errors.Is(err, fs.ErrNotExist)
	}
	return err != nil || found == link
}

// ownNames are the short names that layers say are theirs.
func (d *Driver) ownNames(ctx context.Context, home string) (map[string]bool, error) {
	ids, err := d.homes.ListIn(home)
	if err != nil {
		return nil, err
	}
	own := make(map[string]bool, len(ids))
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if link, err := readLink(filepath.Join(home, id)); err == nil {
			own[link] = true
		}
	}
	return own, nil
}

// readSmall reads a file of at most limit bytes; a longer one is errdefs.ErrCorrupt.
// Whoever wrote it, it is a regular file or it isn't read.
func readSmall(path string, limit int) ([]byte, error) {
	dir, name := filepath.Split(path)
	home, id := filepath.Split(filepath.Clean(dir))
	fd, err := openat.Open(home, filepath.Join(id, name), unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	// What is no regular file gives nothing that makes sense, or an error; thanks to
	// O_NONBLOCK at once.
	data := make([]byte, min(limit, 4<<10)+1)
	for done := 0; ; {
		n, err := unix.Read(fd, data[done:])
		if err == unix.EINTR {
			continue
		}
		if err == unix.EISDIR || err == unix.EINVAL || err == unix.EAGAIN {
			return nil, openat.Damaged(path, openat.ErrNotRegular.Error())
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		short := n < len(data)-done
		done += n
		switch {
		case done > limit:
			return nil, fmt.Errorf("%s: %w: longer than %d bytes", path, errdefs.ErrCorrupt, limit)
		case short: // the end of a regular file
			return data[:done], nil
		default:
			data = append(data, make([]byte, min(len(data), limit+1-done))...)
		}
	}
}
