// Package bigdata names, writes and reads the data items that layers, images and
// containers carry beside their records.
//
// An item is a file in the directory of its owner: overlay-images/<id>/<file name of the
// key>. The directory and the file names are shared with containers/storage, whose rule
// for names has a quirk that must be kept.
package bigdata

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/atomicfile"
	"github.com/shalestore/shale/internal/openat"
	"golang.org/x/sys/unix"
)

// MaxSize is the largest item, in bytes, that is read into memory. Manifests, configs and
// signatures stay far below it.
const MaxSize = 256 << 20

// FileName returns the file name for key. It is the key itself when that consists of
// lower-case letters, digits and dots, else "=" and the key in base64.
//
// The quirk: containers/storage stops looking after it has consumed the first unfit rune,
// and takes the key as it is when nothing is left. A key whose only unfit rune is its
// last one therefore keeps its name ("abcX" is the file abcX).
//
// A key that has no usable name, because it is empty or its name would be a path, is
// refused with errdefs.ErrInvalid.
func FileName(key string) (string, error) {
	name := key
	if i := strings.IndexFunc(key, unfit); i >= 0 {
		if _, size := utf8.DecodeRuneInString(key[i:]); i+size < len(key) {
			name = "=" + base64.StdEncoding.EncodeToString([]byte(key))
		}
	}
	if name == "" || name == "." || name == ".." || len(name) > 255 || strings.ContainsAny(name, "/\x00") {
		return "", fmt.Errorf("data item %q: no file can be named after this key: %w", key, errdefs.ErrInvalid)
	}
	return name, nil
}

func unfit(r rune) bool {
	return r != '.' && (r < '0' || r > '9') && (r < 'a' || r > 'z')
}

// beneathHome cuts the directory of an owner in two: the one with all of its kind, and
// its name there, which no link may have.
func beneathHome(dir string) (home, name string) { return filepath.Dir(dir), filepath.Base(dir) }

// Write makes the item durable under key in the directory dir, which it creates with mode
// 0700 when missing. A reader sees the old bytes or the new ones. The caller holds the
// lock of the owner's records.
func Write(dir, key string, data []byte) error {
	name, err := FileName(key)
	if err != nil {
		return err
	}
	if err := openat.MakeDirs(beneathHome(dir)); err != nil {
		return fmt.Errorf("data item %q: %w", key, err)
	}
	if err := atomicfile.Write(filepath.Join(dir, name), 0o600, true, data); err != nil {
		return fmt.Errorf("data item %q: %w", key, err)
	}
	return nil
}

// Read returns the item's bytes. A missing item is errdefs.ErrNotFound; one beyond
// MaxSize errdefs.ErrInvalid. Where the item or its directory is something else, a link
// among others, that is errdefs.ErrCorrupt.
func Read(dir, key string) ([]byte, error) {
	f, err := Open(dir, key)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("data item %q: %w", key, err)
	}
	if st.Size() > MaxSize {
		return nil, fmt.Errorf("data item %q: %d bytes, more than %d: %w", key, st.Size(), MaxSize, errdefs.ErrInvalid)
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxSize))
	if err != nil {
		return nil, fmt.Errorf("data item %q: %w", key, err)
	}
	return data, nil
}

// Open opens the item for reading. What is open stays readable, whole, when the item is
// replaced or removed meanwhile.
func Open(dir, key string) (*os.File, error) {
	name, err := FileName(key)
	if err != nil {
		return nil, err
	}
	home, owner := beneathHome(dir)
	f, err := openat.Reader(home, filepath.Join(owner, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", errdefs.Missing{Kind: errdefs.DataItem, Ref: key}, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("data item %q: %w", key, err)
	}
	return f, nil
}

// Size returns the size of an item in bytes; errdefs.ErrNotFound when it is missing,
// errdefs.ErrCorrupt when it is no file.
func Size(dir, key string) (int64, error) {
	name, err := FileName(key)
	if err != nil {
		return 0, err
	}
	home, owner := beneathHome(dir)
	var st unix.Stat_t
	fd, err := openat.File(home, filepath.Join(owner, name), unix.O_PATH, &st)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, errdefs.Missing{Kind: errdefs.DataItem, Ref: key}
	}
	if err != nil {
		return 0, err
	}
	return st.Size, unix.Close(fd)
}
