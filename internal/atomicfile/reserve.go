package atomicfile

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/openat"
	"golang.org/x/sys/unix"
)

// A reserve is a file with blocks and no content, which stands by for the next content of
// another file. On a disk without a free block or inode that content is written into the
// reserve, and then the two names are exchanged, which needs no room in the directories:
// what the file was is its next reserve. All other steps, and so what a crash can leave,
// are those of any other replacement.
//
// Blocks that are set aside are written in place by ext4, XFS and tmpfs, and by Btrfs as
// well (fallocate(2), FALLOC_FL_KEEP_SIZE). But Btrfs needs a block for whatever else is
// written in place, such as a lock's token: there the reserve has to be given up, which
// gives it to whoever is first, and made again afterwards.

// reservePath is where the reserve of a file is: shale/reserve in the root that the
// file's directory is in, where no other program looks.
func reservePath(path string) (root, name string) {
	dir := filepath.Dir(path)
	return filepath.Dir(dir), filepath.Join(reserveDir, filepath.Base(dir)+"."+filepath.Base(path))
}

const reserveDir = "shale/reserve"

// KeepReserve sees to it that the file at path, of so many bytes, has a reserve that
// could take twice as much. It returns what size the file can grow to before it has to be
// asked again: 0 after a failure, which is no reason not to go on.
func KeepReserve(path string, size int64) int64 {
	const least = 64 << 10
	root, name := reservePath(path)
	var st unix.Stat_t
	if unix.Lstat(filepath.Join(root, name), &st) == nil && st.Blocks*512 >= max(least, size+size/4) {
		return st.Blocks * 512 / 5 * 4
	}
	fd, err := openReserve(root, name)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	if unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 0, max(least, 2*size)) != nil {
		return 0
	}
	return max(least, 2*size) / 5 * 4
}

// openReserve opens a reserve, and makes it where it is missing. Links are not followed.
func openReserve(root, name string) (int, error) {
	fd, err := openat.CreateIn(root, name, unix.O_RDWR, 0o600)
	if errors.Is(err, unix.ENOENT) {
		if err := openat.MakeDirs(root, reserveDir); err != nil {
			return -1, err
		}
		fd, err = openat.CreateIn(root, name, unix.O_RDWR, 0o600)
	}
	if !errors.Is(err, unix.EEXIST) {
		return fd, err
	}
	var st unix.Stat_t
	fd, err = openat.File(root, name, unix.O_RDWR, &st)
	if err == nil && st.Nlink != 1 { // it must not be the file that it stands by for
		unix.Close(fd)
		return -1, errdefs.ErrInvalid
	}
	return fd, err
}

// PrepareInReserve is Prepare on a full disk: the content is written to the file's
// reserve.
func PrepareInReserve(path string, perm fs.FileMode, fill func(w *bufio.Writer) error) (*Next, error) {
	root, name := reservePath(path)
	fd, err := openReserve(root, name)
	if err != nil {
		return nil, fmt.Errorf("write %s: open its reserve: %w", path, err)
	}
	next := &Next{path: path, aside: filepath.Join(root, name), fd: fd, reserve: true}
	if err = next.complete(perm, fill); err == nil {
		var named unix.Stat_t
		if err = unix.Lstat(next.aside, &named); err == nil && (named.Ino != next.st.Ino || named.Dev != next.st.Dev) {
			err = &os.PathError{Op: "open", Path: next.aside, Err: unix.ELOOP}
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write %s: %w", path, err), next.Close())
	}
	return next, nil
}

// GiveUpReserve frees the blocks of a file's reserve for whatever is to be written next.
func GiveUpReserve(path string) error {
	fd, err := openReserve(reservePath(path))
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Ftruncate(fd, 0)
}

// IsFull reports whether an error says that there is no room: for a block or an inode, or
// within a quota.
func IsFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }
