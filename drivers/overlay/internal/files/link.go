package files

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

// NewLink makes a short name out of 130 random bits.
func NewLink() string {
	random := make([]byte, (linkLength*5+7)/8)
	rand.Read(random) // never fails (crypto/rand, Go 1.24)
	return base32.StdEncoding.EncodeToString(random)[:linkLength]
}

// ValidLink reports whether a name can be a short name.
func ValidLink(link string) bool {
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

// ReadLink returns the short name of the layer in dir.
func ReadLink(dir string) (string, error) {
	data, err := ReadSmall(filepath.Join(dir, "link"), linkLength+1)
	if err != nil {
		return "", err
	}
	if link := string(data); ValidLink(link) {
		return link, nil
	}
	return "", fmt.Errorf("%s: %w: it should hold %d letters and digits", filepath.Join(dir, "link"),
		errdefs.ErrCorrupt, linkLength)
}

// LinkTarget is what the symlink of a layer points at.
func LinkTarget(id string) string { return "../" + id + "/diff" }

// Links is a home's directory of short names, open.
type Links struct {
	Path string
	fd   int
}

// OpenLinks opens it; Close is the caller's.
func OpenLinks(home string) (Links, error) {
	fd, err := openat.Open(home, LinkDir, unix.O_PATH|unix.O_DIRECTORY)
	return Links{filepath.Join(home, LinkDir), fd}, err
}

// Close closes it.
func (l Links) Close() { unix.Close(l.fd) }

// Read returns what the symlink of a short name holds.
func (l Links) Read(link string) (string, error) { return openat.ReadlinkIn(l.fd, l.Path, link) }

// LeadsTo reports whether a short name is that of layer id.
func (l Links) LeadsTo(link, id string) bool {
	target, err := l.Read(link)
	return err == nil && target == LinkTarget(id)
}

// Make makes the short name of layer id.
func (l Links) Make(link, id string) error {
	if err := unix.Symlinkat(LinkTarget(id), l.fd, link); err != nil {
		return &os.PathError{Op: "symlink", Path: filepath.Join(l.Path, link), Err: err}
	}
	return nil
}

// Remove removes a short name, if it is there.
func (l Links) Remove(link string) error {
	if err := unix.Unlinkat(l.fd, link, 0); err != nil && err != unix.ENOENT {
		return &os.PathError{Op: "remove", Path: filepath.Join(l.Path, link), Err: err}
	}
	return nil
}

// ReadSymlink reads the symlink of a short name.
func ReadSymlink(home, link string) (string, error) {
	return openat.Readlink(home, filepath.Join(LinkDir, link))
}

// resolveLink finds the layer that a short name stands for: by its symlink, or, when that
// is missing, by asking every layer for its name. containers/storage loses such links in
// power cuts.
func (h Homes) resolveLink(ctx context.Context, link string) (string, error) {
	if !ValidLink(link) {
		return "", fmt.Errorf("%w: %q is no link name", errdefs.ErrCorrupt, link)
	}
	for _, home := range h.All() {
		target, err := ReadSymlink(home, link)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		id, ok := LinkedID(target)
		if !ok {
			return "", fmt.Errorf("%w: %s points at %q", errdefs.ErrCorrupt, filepath.Join(home, LinkDir, link), target)
		}
		return id, nil
	}
	for _, home := range h.All() {
		ids, err := h.ListIn(home)
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
			if found, err := ReadLink(filepath.Join(home, id)); err == nil && found == link {
				return id, nil
			}
		}
	}
	return "", fmt.Errorf("%w: no layer has the link name %s", errdefs.ErrCorrupt, link)
}

// LinkedID takes the ID out of a symlink's target, which must have the one form that
// there is.
func LinkedID(target string) (string, bool) {
	id, ok := strings.CutPrefix(target, "../")
	if !ok {
		return "", false
	}
	id, ok = strings.CutSuffix(id, "/diff")
	return id, ok && IsID(id)
}
