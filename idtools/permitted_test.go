package idtools

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shalestore/shale/errdefs"
	"golang.org/x/sys/unix"
)

// The setting that forbids user namespaces is named; those that allow them are not.
func TestNotPermitted(t *testing.T) {
	for _, tt := range []struct{ name, value, want string }{
		{"user/max_user_namespaces", "0\n", "sysctl user.max_user_namespaces is 0"},
		{"user/max_user_namespaces", "15000\n", "security module"},
		{"kernel/unprivileged_userns_clone", "0\n", "sysctl kernel.unprivileged_userns_clone is 0"},
		{"kernel/apparmor_restrict_unprivileged_userns", "1\n",
			"sysctl kernel.apparmor_restrict_unprivileged_userns is 1"},
		{"kernel/apparmor_restrict_unprivileged_userns", "0\n", "security module"},
	} {
		sysctls := t.TempDir()
		path := filepath.Join(sysctls, tt.name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(tt.value), 0o600); err != nil {
			t.Fatal(err)
		}
		err := notPermitted(unix.EPERM, sysctls)
		if !strings.Contains(err.Error(), tt.want) || !errors.Is(err, unix.EPERM) ||
			!errors.Is(err, errdefs.ErrUnsupported) {
			t.Errorf("%s = %s: %v", tt.name, tt.value, err)
		}
	}
}
