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

// Write makes the item durable under key in the directory dir, which it creates with mode
// 0700 when missing. A reader sees the old bytes or the new ones. The caller holds the
// lock of the owner's records.
func Write(dir, key string, data []byte) error {
	name, err := FileName(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("data item %q: %w", key, err)
	}
	if err := atomicfile.Write(filepath.Join(dir, name), 0o600, true, data); err != nil {
		return fmt.Errorf("data item %q: %w", key, err)
	}
	return nil
}

// Read returns the item's bytes. A missing item is errdefs.ErrNotFound; one beyond
// MaxSize, or that is no regular file, errdefs.ErrInvalid.
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
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if os.IsNotExist(err) {
		return nil, fmt.Errorf("%w: %w", errdefs.Missing{Kind: errdefs.DataItem, Ref: key}, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("data item %q: %w", key, err)
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("data item %q: not a regular file: %w", key, errdefs.ErrInvalid)
	}
	return f, nil
}

// Size returns the size of an item in bytes without opening it; errdefs.ErrNotFound when
// it is missing, errdefs.ErrInvalid when it is no file.
func Size(dir, key string) (int64, error) {
	name, err := FileName(key)
	if err != nil {
		return 0, err
	}
	info, err := os.Lstat(filepath.Join(dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return 0, errdefs.Missing{Kind: errdefs.DataItem, Ref: key}
	}
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, fmt.Errorf("not a regular file: %w", errdefs.ErrInvalid)
	}
	return info.Size(), nil
}
