// Package dedupe has files of the same content share their blocks, on file systems that
// can: btrfs, XFS with reflink.
package dedupe

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"syscall"

	"github.com/shalestore/shale/errdefs"
	"golang.org/x/sys/unix"
)

// By says what makes two files worth comparing. The kernel compares them byte by byte in
// any case, so that it only decides how much is compared in vain.
type By int

// Files are alike that have the same size; and also the same CRC-64; or SHA-256.
const (
	Size By = iota
	CRC
	SHA256
)

// maxRange is how much the kernel compares at once (16 MiB on btrfs and XFS,
// ioctl_fideduperange(2)).
const maxRange = 16 << 20

// Dirs has equal regular files in these directories share their blocks, and returns how
// many bytes the files share, those included that they shared before. Nothing but where
// data lies changes. Files that vanish or change meanwhile are passed over. A file system
// that can't share blocks is errdefs.ErrUnsupported.
func Dirs(ctx context.Context, dirs []string, by By) (shared int64, err error) {
	roots := make([]*os.Root, len(dirs))
	defer func() {
		for _, root := range roots {
			if root != nil {
				root.Close()
			}
		}
	}()
	sizes := map[size][]file{}
	for i, dir := range dirs {
		if roots[i], err = os.OpenRoot(dir); err != nil {
			return 0, err
		}
		if err := collect(ctx, roots[i], sizes); err != nil {
			return 0, fmt.Errorf("%s: %w", dir, err)
		}
	}
	order := slices.SortedFunc(maps.Keys(sizes), func(a, b size) int {
		if a.bytes != b.bytes {
			// the largest first: they are worth most if there is an end before the end
			return int(min(max(b.bytes-a.bytes, -1), 1))
		}
		return int(min(max(int64(a.dev)-int64(b.dev), -1), 1))
	})
	for _, size := range order {
		n, err := group(ctx, sizes[size], by)
		shared += n
		if err != nil {
			return shared, err
		}
	}
	return shared, nil
}

// size is what files must have in common to be compared at all.
type size struct {
	dev   uint64
	bytes int64
}

type file struct {
	root *os.Root
	name string
	ino  uint64
}

// collect sorts the files of a directory by size. Hard links share everything already and
// count once.
func collect(ctx context.Context, root *os.Root, sizes map[size][]file) error {
	seen := map[uint64]bool{}
	return fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || !d.Type().IsRegular() {
			return gone(err)
		}
		info, err := d.Info()
		if err != nil {
			return gone(err)
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok || info.Size() == 0 || seen[st.Ino] {
			return nil
		}
		if st.Nlink > 1 {
			seen[st.Ino] = true
		}
		key := size{st.Dev, info.Size()}
		sizes[key] = append(sizes[key], file{root, name, st.Ino})
		return nil
	})
}

func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// group has those of the files share their blocks that are equal.
func group(ctx context.Context, files []file, by By) (shared int64, err error) {
	if len(files) < 2 {
		return 0, nil
	}
	alike := map[[sha256.Size]byte][]file{}
	for _, f := range files {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		sum, err := f.sum(by)
		if err != nil {
			if gone(err) == nil {
				continue
			}
			return 0, err
		}
		alike[sum] = append(alike[sum], f)
	}
	for _, candidates := range alike {
		for len(candidates) > 1 {
			n, others, err := share(ctx, candidates[0], candidates[1:])
			shared += n
			if err != nil {
				return shared, err
			}
			candidates = others
		}
	}
	return shared, nil
}

func (f file) sum(by By) (sum [sha256.Size]byte, err error) {
	if by == Size {
		return sum, nil
	}
	in, err := f.root.Open(f.name)
	if err != nil {
		return sum, err
	}
	defer in.Close()
	if by == SHA256 {
		h := sha256.New()
		_, err = io.Copy(h, in)
		h.Sum(sum[:0])
		return sum, err
	}
	h := crc64.New(crc64.MakeTable(crc64.ECMA))
	_, err = io.Copy(h, in)
	binary.LittleEndian.PutUint64(sum[:], h.Sum64())
	return sum, err
}

// share gives the first file's blocks to all that equal it, and returns those that don't.
func share(ctx context.Context, first file, rest []file) (shared int64, others []file, err error) {
	source, err := first.root.Open(first.name)
	if err != nil {
		return 0, rest, gone(err)
	}
	defer source.Close()
	info, err := source.Stat()
	if err != nil {
		return 0, rest, err
	}
	for _, f := range rest {
		if f.ino == first.ino {
			continue
		}
		n, equal, err := shareWith(ctx, source, info.Size(), f)
		shared += n
		if err != nil {
			return shared, nil, fmt.Errorf("%s/%s: %w", f.root.Name(), f.name, err)
		}
		if !equal {
			others = append(others, f)
		}
	}
	return shared, others, nil
}

func shareWith(ctx context.Context, source *os.File, size int64, f file) (shared int64, equal bool, err error) {
	target, err := f.root.Open(f.name)
	if err != nil {
		return 0, true, gone(err)
	}
	defer target.Close()
	for at := int64(0); at < size; {
		if err := ctx.Err(); err != nil {
			return shared, false, err
		}
		request := unix.FileDedupeRange{
			Src_offset: uint64(at), Src_length: uint64(min(size-at, maxRange)),
			Info: []unix.FileDedupeRangeInfo{{Dest_fd: int64(target.Fd()), Dest_offset: uint64(at)}},
		}
		err := unix.IoctlFileDedupeRange(int(source.Fd()), &request)
		if err == nil && request.Info[0].Status < 0 {
			err = unix.Errno(-request.Info[0].Status)
		}
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EOPNOTSUPP || err == unix.ENOTTY || err == unix.EINVAL && at == 0:
			return shared, false, fmt.Errorf("share blocks: %w by this file system: %w", errdefs.ErrUnsupported, err)
		case err == unix.ETXTBSY: // being executed, or a swap file
			return shared, true, nil
		case err != nil:
			return shared, false, fmt.Errorf("share blocks: %w", err)
		case request.Info[0].Status == unix.FILE_DEDUPE_RANGE_DIFFERS:
			return shared, false, nil
		case request.Info[0].Bytes_deduped == 0:
			return shared, true, nil // the tail that is less than a block
		}
		shared += int64(request.Info[0].Bytes_deduped)
		at += int64(request.Info[0].Bytes_deduped)
	}
	return shared, true, nil
}
