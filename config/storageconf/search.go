package storageconf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/shalestore/shale/errdefs"
	"golang.org/x/sys/unix"
)

// maxFile bounds a configuration file. Those of distributions have about 8 KiB, nearly
// all of it comments.
const maxFile = 256 << 10

// confVariable names the one main file to read.
const confVariable = "CONTAINERS_STORAGE_CONF"

// search lists the files to read, the weakest first (storage format, section 13.1).
func (env Environment) search(file string) ([]string, error) {
	var files []string
	if file == "" {
		file = env.get(confVariable)
	}
	if file != "" {
		files = append(files, file) // no drop-ins then
	} else {
		var err error
		if files, err = env.searchPath(); err != nil {
			return nil, err
		}
	}
	if over := env.get(confVariable + "_OVERRIDE"); over != "" {
		files = append(files, over)
	}
	return files, nil
}

// searchPath returns the first main file that exists and the drop-ins that apply.
func (env Environment) searchPath() ([]string, error) {
	const name = "containers/storage"
	vendor := filepath.Join(env.Root, "/usr/share", name)
	admin := filepath.Join(env.Root, "/etc", name)
	mains := []string{admin + ".conf", vendor + ".conf"}
	// From weak to strong: a drop-in hides those of the same name in weaker directories.
	var dirs []string
	for _, base := range []string{vendor, admin} {
		dirs = append(dirs, base+".conf.d")
		if uid := env.Caller.UID; uid == 0 {
			dirs = append(dirs, base+".rootful.conf.d")
		} else {
			own := base + ".rootless.conf.d"
			dirs = append(dirs, own, filepath.Join(own, strconv.FormatUint(uint64(uid), 10)))
		}
	}
	// Where the home directory can't be told, as for an unlisted user in a container,
	// there are no files of the user.
	if user, err := env.base("XDG_CONFIG_HOME", ".config"); err == nil {
		mains = append([]string{filepath.Join(user, name) + ".conf"}, mains...)
		dirs = append(dirs, filepath.Join(user, name)+".conf.d")
	} else if errors.Is(err, errdefs.ErrInvalid) {
		return nil, err
	}

	var files []string
	for _, main := range mains {
		if _, err := os.Stat(main); err == nil {
			files = append(files, main)
			break
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	dropins := map[string]string{}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if !e.IsDir() && strings.HasSuffix(e.Name(), ".conf") {
				dropins[e.Name()] = filepath.Join(dir, e.Name())
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(dropins)) {
		files = append(files, dropins[name])
	}
	return files, nil
}

// readFile reads a configuration file: a regular one, of bounded size. /dev/null stands
// for an empty file, as people use it to keep the host's configuration out.
func readFile(path string) ([]byte, error) {
	// O_NONBLOCK so that a FIFO under that name can't hold us.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, &os.PathError{Op: "fstat", Path: path, Err: err}
	}
	null := st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3)
	if st.Mode&unix.S_IFMT != unix.S_IFREG && !null {
		return nil, fmt.Errorf("%s: %w: not a regular file", path, errdefs.ErrInvalid)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: %w: longer than %d bytes", path, errdefs.ErrInvalid, maxFile)
	}
	// some editors write a byte order mark, and containers/storage takes it
	return bytes.TrimPrefix(data, []byte("\ufeff")), nil
}
