package storageconf

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools/userns"
	"golang.org/x/sys/unix"
)

// Environment is the part of the world that decides which files are read and where a
// store lies by default.
type Environment struct {
	// Lookup reads a variable, like os.LookupEnv.
	Lookup func(name string) (value string, found bool)
	// Root is put before /etc and /usr/share when files are searched; "" for none. Paths
	// that variables give are taken as they are.
	Root string
	// Caller is the user as the host sees it, and Rootless tells that there are no powers
	// over the host.
	Caller   userns.Caller
	Rootless bool
	// CanWrite reports whether the user may make things in a directory, or may make it
	// when it isn't there; nil asks the kernel.
	CanWrite func(dir string) bool
}

// Process describes the environment of this process.
func Process() (Environment, error) {
	caller, err := userns.CallerOf(os.LookupEnv)
	if err != nil {
		return Environment{}, err
	}
	rootless, err := caller.Rootless()
	if err != nil {
		return Environment{}, err
	}
	return Environment{Lookup: os.LookupEnv, Caller: caller, Rootless: rootless}, nil
}

// findMountProgram is the path of fuse-overlayfs, found by PATH; "" when the host doesn't
// have it. It stands in for a mount_program that isn't set, where overlayfs doesn't work.
func findMountProgram() string {
	path, err := exec.LookPath("fuse-overlayfs")
	if err != nil || !filepath.IsAbs(path) {
		return ""
	}
	return path
}

// get is a variable's value, "" when it isn't there.
func (env Environment) get(name string) string {
	v, _ := env.Lookup(name)
	return v
}

// ownPaths reports whether the store belongs to the user rather than to the system. Root
// in a user namespace that a container engine made has the paths of root.
func (env Environment) ownPaths() bool { return env.Rootless && env.Caller.UID != 0 }

// canWrite is CanWrite. What fails for another reason than a missing right says so when
// it is used.
func (env Environment) canWrite(dir string) bool {
	if env.CanWrite != nil {
		return env.CanWrite(dir)
	}
	for {
		err := unix.Access(dir, unix.W_OK|unix.X_OK)
		if err != unix.ENOENT || dir == "/" {
			return err != unix.EACCES && err != unix.EPERM
		}
		dir = filepath.Dir(dir)
	}
}

// home is the user's home directory.
func (env Environment) home() (string, error) {
	if h := env.get("HOME"); h != "" {
		return h, nil
	}
	u, err := user.LookupId(strconv.FormatUint(uint64(env.Caller.UID), 10))
	if err != nil {
		return "", fmt.Errorf("home directory of user %d: HOME is not set: %w", env.Caller.UID, err)
	}
	return u.HomeDir, nil
}

// base is a directory of the XDG base directory specification: the variable, else a place
// under the home directory. The specification asks to disregard relative paths; we refuse
// them, since a store that is silently elsewhere looks like a store that was lost.
func (env Environment) base(variable, underHome string) (string, error) {
	dir := env.get(variable)
	if dir == "" {
		h, err := env.home()
		if err != nil {
			return "", err
		}
		return filepath.Join(h, underHome), nil
	}
	if !filepath.IsAbs(dir) {
		return "", wrong(Origin{Env: variable}, "path", "%q is not absolute", dir)
	}
	return filepath.Clean(dir), nil
}

// runtimeDir is where an ordinary user keeps what a reboot may erase.
func (env Environment) runtimeDir() (string, error) {
	if dir := env.get("XDG_RUNTIME_DIR"); dir != "" {
		resolved, err := filepath.EvalSymlinks(dir)
		if err != nil {
			return "", fmt.Errorf("environment XDG_RUNTIME_DIR: %w", err)
		}
		if !filepath.IsAbs(resolved) {
			return "", wrong(Origin{Env: "XDG_RUNTIME_DIR"}, "path", "%q is not absolute", dir)
		}
		return resolved, nil
	}
	uid := strconv.FormatUint(uint64(env.Caller.UID), 10)
	run := filepath.Join("/run/user", uid)
	if private(run) == nil {
		return run, nil
	}
	tmp := env.get("TMPDIR")
	if tmp == "" {
		tmp = "/tmp"
	}
	dir := filepath.Join(tmp, "storage-run-"+uid)
	// Made here and looked at afterwards: in a directory that everybody can write to,
	// whoever comes first owns the name.
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("directory for runtime files: %w", err)
	}
	if err := private(dir); err != nil {
		return "", fmt.Errorf("directory for runtime files: %w", err)
	}
	return dir, nil
}

// private returns nil when path is a directory of this user that nobody else can write
// to.
func private(path string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fmt.Errorf("%s: %w: not a directory", path, errdefs.ErrInvalid)
	case int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%s: %w: it belongs to user %d", path, errdefs.ErrInvalid, st.Uid)
	case st.Mode&0o722 != 0o700:
		return fmt.Errorf("%s: %w: its mode %04o lets others write to it", path, errdefs.ErrInvalid, st.Mode&0o7777)
	}
	return nil
}

// expand replaces $UID and any other variable in a path of a file, and resolves its
// symbolic links when it exists.
func (env Environment) expand(path string) string {
	path = strings.ReplaceAll(path, "$UID", strconv.FormatUint(uint64(env.Caller.UID), 10))
	path = os.Expand(path, env.get)
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		return resolved
	}
	return filepath.Clean(path)
}

// defaultRoots returns the graph root and the run root when nobody says otherwise.
func (env Environment) defaultGraphRoot() (string, error) {
	if !env.ownPaths() {
		return "/var/lib/containers/storage", nil
	}
	data, err := env.base("XDG_DATA_HOME", ".local/share")
	if err != nil {
		return "", err
	}
	return filepath.Join(data, "containers/storage"), nil
}

func (env Environment) defaultRunRoot() (string, error) {
	if !env.ownPaths() {
		return "/run/containers/storage", nil
	}
	dir, err := env.runtimeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "containers"), nil
}
