package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// kernelTasks are the least that the kernel must do for the same result: what no store
// can beat.
func kernelTasks() map[string]task {
	return map[string]task{
		"apply/kernel": kernelApply,
		"mount/kernel": kernelMount,
	}
}

// kernelApply makes the layer's files from memory, with two threads for the regular ones,
// by path and with their metadata. The names are trusted and nothing is hashed.
func kernelApply(_ context.Context, in input, watch *stopwatch) (output, error) {
	out := output{Tree: filepath.Join(in.Dir, "tree")}
	entries, err := readTar(in.Archive)
	if err != nil {
		return out, err
	}
	unix.Umask(0)
	if err := os.Mkdir(out.Tree, 0o755); err != nil {
		return out, err
	}
	return out, watch.time("apply", func() error {
		for _, e := range entries {
			if e.Typeflag == tar.TypeDir {
				if err := os.MkdirAll(filepath.Join(out.Tree, e.Name), 0o755); err != nil {
					return err
				}
			}
		}
		errs := make([]error, 2)
		var both sync.WaitGroup
		for half := range errs {
			both.Go(func() {
				for i, e := range entries {
					if i*2/len(entries) == half && e.Typeflag == tar.TypeReg {
						if err := e.write(out.Tree); err != nil {
							errs[half] = fmt.Errorf("%s: %w", e.Name, err)
							return
						}
					}
				}
			})
		}
		both.Wait()
		for _, e := range entries {
			if e.Typeflag != tar.TypeReg && e.Typeflag != tar.TypeDir {
				errs = append(errs, e.make(out.Tree))
			}
		}
		for i := len(entries) - 1; i >= 0; i-- { // a directory's time comes after its content
			if e := entries[i]; e.Typeflag == tar.TypeDir {
				errs = append(errs, e.describe(filepath.Join(out.Tree, e.Name)))
			}
		}
		return errors.Join(errs...)
	})
}

type entry struct {
	*tar.Header
	content []byte
}

func readTar(path string) ([]entry, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var all []entry
	for r := tar.NewReader(file); ; {
		h, err := r.Next()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		var content bytes.Buffer
		content.Grow(int(h.Size))
		if _, err := content.ReadFrom(r); err != nil {
			return nil, err
		}
		all = append(all, entry{h, content.Bytes()})
	}
}

func (e entry) write(root string) error {
	fd, err := unix.Open(filepath.Join(root, e.Name), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC,
		uint32(e.Mode&0o777))
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for data := e.content; len(data) > 0; {
		n, err := unix.Write(fd, data)
		if err != nil {
			return err
		}
		data = data[n:]
	}
	if e.Uid != 0 || e.Gid != 0 {
		if err := unix.Fchown(fd, e.Uid, e.Gid); err != nil {
			return err
		}
	}
	if e.Mode&0o7000 != 0 {
		if err := unix.Fchmod(fd, uint32(e.Mode&0o7777)); err != nil {
			return err
		}
	}
	for key, value := range e.PAXRecords {
		if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			if err := unix.Fsetxattr(fd, name, []byte(value), 0); err != nil {
				return err
			}
		}
	}
	return unix.UtimesNanoAt(fd, "", e.times(), unix.AT_EMPTY_PATH)
}

func (e entry) times() []unix.Timespec {
	at := unix.NsecToTimespec(e.ModTime.UnixNano())
	return []unix.Timespec{at, at}
}

// make makes what is neither a regular file nor a directory.
func (e entry) make(root string) error {
	path := filepath.Join(root, e.Name)
	var err error
	switch e.Typeflag {
	case tar.TypeLink:
		return os.Link(filepath.Join(root, e.Linkname), path)
	case tar.TypeSymlink:
		err = os.Symlink(e.Linkname, path)
	case tar.TypeChar:
		err = unix.Mknod(path, unix.S_IFCHR|uint32(e.Mode&0o7777),
			int(unix.Mkdev(uint32(e.Devmajor), uint32(e.Devminor))))
	case tar.TypeBlock:
		err = unix.Mknod(path, unix.S_IFBLK|uint32(e.Mode&0o7777),
			int(unix.Mkdev(uint32(e.Devmajor), uint32(e.Devminor))))
	case tar.TypeFifo:
		err = unix.Mkfifo(path, uint32(e.Mode&0o7777))
	default:
		return fmt.Errorf("%s: an entry of type %q", e.Name, e.Typeflag)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", e.Name, err)
	}
	if err := os.Lchown(path, e.Uid, e.Gid); err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, e.times(), unix.AT_SYMLINK_NOFOLLOW)
}

func (e entry) describe(path string) error {
	if err := os.Lchown(path, e.Uid, e.Gid); err != nil {
		return err
	}
	if err := unix.Chmod(path, uint32(e.Mode&0o7777)); err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, e.times(), 0)
}

// kernelMount mounts so many lowers with fsopen(2) and nothing around it.
func kernelMount(_ context.Context, in input, watch *stopwatch) (output, error) {
	dir := func(name string, i int) string { return filepath.Join(in.Dir, fmt.Sprint(name, i)) }
	for i := range in.Count {
		if err := os.MkdirAll(dir("lower", i), 0o755); err != nil {
			return output{}, err
		}
	}
	for _, name := range []string{"upper", "work", "target"} {
		if err := os.MkdirAll(dir(name, 0), 0o755); err != nil {
			return output{}, err
		}
	}
	for range in.Times {
		if err := watch.time("mount", func() error {
			fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
			if err != nil {
				return err
			}
			defer unix.Close(fs)
			for i := range in.Count {
				if err := unix.FsconfigSetString(fs, "lowerdir+", dir("lower", i)); err != nil {
					return err
				}
			}
			if err := errors.Join(unix.FsconfigSetString(fs, "upperdir", dir("upper", 0)),
				unix.FsconfigSetString(fs, "workdir", dir("work", 0)),
				unix.FsconfigCreate(fs)); err != nil {
				return err
			}
			mnt, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(mnt)
			return unix.MoveMount(mnt, "", unix.AT_FDCWD, dir("target", 0), unix.MOVE_MOUNT_F_EMPTY_PATH)
		}); err != nil {
			return output{}, err
		}
		if err := watch.time("unmount", func() error {
			return unix.Unmount(dir("target", 0),
				unix.MNT_DETACH)
		}); err != nil {
			return output{}, err
		}
	}
	return output{}, nil
}
