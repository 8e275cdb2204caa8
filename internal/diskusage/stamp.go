package diskusage

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Stamp tells one file at a path from another, or from what it was before: by its inode,
// its change time, which nobody can set back, and its size. It doesn't follow a symlink.
// What isn't there has the stamp "-".
func Stamp(path string) (string, error) {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	if err == unix.ENOENT {
		return "-", nil
	}
	if err != nil {
		return "", &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	return StampOf(&st), nil
}

// StampOf is Stamp for what lstat(2) has said.
func StampOf(st *unix.Stat_t) string {
	b := strconv.AppendUint(nil, st.Ino, 36)
	for _, n := range []int64{st.Ctim.Sec, st.Ctim.Nsec, st.Size} {
		b = strconv.AppendInt(append(b, '.'), n, 36)
	}
	return string(b)
}
