package idtools

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/shalestore/shale/errdefs"
)

// NotPermitted is errdefs.ErrUnsupported for the kernel's refusal of a user namespace,
// with the setting that forbids it.
func NotPermitted(err error) error { return notPermitted(err, "/proc/sys") }

// notPermitted looks for the settings below sysctls, a directory such as /proc/sys.
func notPermitted(err error, sysctls string) error {
	var reasons []string
	for _, s := range []struct{ name, forbids string }{
		{"user.max_user_namespaces", "0"},
		{"kernel.unprivileged_userns_clone", "0"},             // Debian and its kin
		{"kernel.apparmor_restrict_unprivileged_userns", "1"}, // Ubuntu since 23.10
	} {
		value, readErr := os.ReadFile(filepath.Join(sysctls, strings.ReplaceAll(s.name, ".", "/")))
		if readErr == nil && strings.TrimSpace(string(value)) == s.forbids {
			reasons = append(reasons, fmt.Sprintf("the sysctl %s is %s", s.name, s.forbids))
		}
	}
	if _, statErr := os.Stat("/proc/self/ns/user"); statErr != nil {
		reasons = append(reasons, "this kernel has no user namespaces, or /proc is not mounted")
	}
	if reasons == nil {
		reasons = []string{"a security module, a seccomp filter, a chroot or the depth of namespaces may forbid it"}
	}
	return fmt.Errorf("user namespace: %w: %w (%s)", errdefs.ErrUnsupported, err, strings.Join(reasons, "; "))
}
