package userns

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/shalestore/shale/idtools"
	"golang.org/x/sys/unix"
)

// The variables by which the tools of this family tell their children that they run in a
// user namespace made for them, and for whom.
const (
	EnvConfigured  = "_CONTAINERS_USERNS_CONFIGURED"
	EnvRootlessUID = "_CONTAINERS_ROOTLESS_UID"
	EnvRootlessGID = "_CONTAINERS_ROOTLESS_GID"
	envIsolation   = "BUILDAH_ISOLATION" // how Buildah runs commands: in such a namespace, only "rootless" works
)

// Caller is the user for whom this process runs, as the host sees it: inside a user
// namespace that Podman, Buildah or Shale made, it is still the user who started them and
// not the root that the process seems to be.
type Caller struct {
	UID, GID uint32
	// Configured tells that a parent made a user namespace for this process and said so.
	Configured bool
}

// CallerOf reads what a parent said with lookup, which has the form of os.LookupEnv, and
// falls back to the IDs of the process. A value that is no ID is errdefs.ErrInvalid: to
// go on as somebody else would open somebody else's store.
func CallerOf(lookup func(string) (string, bool)) (Caller, error) {
	c := Caller{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	if v, _ := lookup(EnvConfigured); v != "" {
		c.Configured = true
	}
	if v, _ := lookup(EnvRootlessUID); v != "" {
		id, err := idtools.ParseID(v)
		if err != nil {
			return Caller{}, fmt.Errorf("environment %s: %w", EnvRootlessUID, err)
		}
		c.UID, c.GID = id, id
	}
	if v, _ := lookup(EnvRootlessGID); v != "" {
		id, err := idtools.ParseID(v)
		if err != nil {
			return Caller{}, fmt.Errorf("environment %s: %w", EnvRootlessGID, err)
		}
		c.GID = id
	}
	return c, nil
}

// Rootless reports whether the process lacks the powers of the host's root: it runs for
// another user, or without CAP_SYS_ADMIN, or in a user namespace that doesn't have every
// ID.
func (c Caller) Rootless() (bool, error) {
	if c.UID != 0 || c.Configured {
		return true, nil
	}
	admin, err := hasCapability(unix.CAP_SYS_ADMIN)
	if err != nil || !admin {
		return true, err
	}
	initial, err := idtools.EveryIDMapped()
	return !initial, err
}

// IsRootless is CallerOf and Caller.Rootless in one, for those who only want to know;
// what can't be found out counts as rootless.
func IsRootless(lookup func(string) (string, bool)) bool {
	c, err := CallerOf(lookup)
	if err != nil {
		return true
	}
	rootless, err := c.Rootless()
	return rootless || err != nil
}

// NeedsUserNamespace reports whether a store can't be worked on before Run has put the
// process into a user namespace: it may not mount, and nobody made a namespace for it
// yet.
func (c Caller) NeedsUserNamespace() (bool, error) {
	if os.Geteuid() == 0 && (c.UID != 0 || c.Configured) {
		return false, nil
	}
	admin, err := hasCapability(unix.CAP_SYS_ADMIN)
	return !admin, err
}

// Environ returns env, of the form of os.Environ, with what a child in a user namespace
// made for c is told. Podman and Buildah read the same variables, so that they don't make
// one more namespace.
func (c Caller) Environ(env []string) []string {
	env = append(env[:len(env):len(env)], EnvConfigured+"=done")
	if c.UID != 0 {
		env = append(env, fmt.Sprintf("%s=%d", EnvRootlessUID, c.UID), fmt.Sprintf("%s=%d", EnvRootlessGID, c.GID))
	}
	if !slices.ContainsFunc(env, func(v string) bool { return strings.HasPrefix(v, envIsolation+"=") }) {
		env = append(env, envIsolation+"=rootless")
	}
	return env
}

// hasCapability reports whether capability number n is in effect for this process.
func hasCapability(n uint) (bool, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false, fmt.Errorf("capabilities of this process: %w", err)
	}
	return data[n/32].Effective&(1<<(n%32)) != 0, nil
}
