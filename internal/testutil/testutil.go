// Package testutil is what Shale's tests stand on: real file systems on loop devices,
// trees from short descriptions, whole-tree comparison, the two binaries under test, and
// a way to run a test as somebody else.
//
// Nothing here is for production code. Every helper that needs something of the machine
// skips with the name of what is missing, so that a run's skips read as a list of what to
// install.
package testutil

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Root skips the test unless it runs with uid 0 and may mount, which is the case as the
// host's root and, for most of what tests do, as root of a user namespace (see InUserNS).
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts and foreign owners")
	}
	if !mayMount() {
		t.Skip("needs CAP_SYS_ADMIN: root of this container may not mount")
	}
}

// HostRoot skips the test unless it runs as root of the initial user namespace, who alone
// may make devices, set trusted attributes and give files to anyone.
func HostRoot(t testing.TB) {
	t.Helper()
	Root(t)
	if !OnHost() {
		t.Skip("needs the host's root: devices, trusted attributes, any owner")
	}
}

// OnHost reports whether the process runs in the initial user namespace, where the
// devices are.
func OnHost() bool {
	data, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(data)), " ") == "0 0 4294967295"
}

func mayMount() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if unix.Capget(&header, &sets[0]) != nil {
		return false
	}
	return sets[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}

// Tool returns the path of a program on the host and skips the test when it is not
// installed. The Debian package is named in the skip.
func Tool(t testing.TB, name, debianPackage string) string {
	t.Helper()
	path, err := lookTool(name)
	if err != nil {
		t.Skipf("needs %s: apt-get install %s", name, debianPackage)
	}
	return path
}

// lookTool also looks where Debian keeps an administrator's tools: they are not in an
// ordinary user's PATH.
func lookTool(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	var err error
	for _, dir := range []string{"/usr/sbin/", "/sbin/", "/usr/local/sbin/"} {
		var path string
		if path, err = exec.LookPath(dir + name); err == nil {
			return path, nil
		}
	}
	return "", err
}
