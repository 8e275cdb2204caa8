package vfs

import (
	"errors"
	"fmt"

	"github.com/opencontainers/selinux/go-selinux/label"
	"golang.org/x/sys/unix"
)

// shareLabel gives a new layer's directory the SELinux label of files that all containers
// share, where SELinux is on and the file system has labels: what is made in it takes
// over its type. No mount could do that here, nor give a container a label of its own.
func shareLabel(dir string) error {
	_, files, err := label.InitLabels([]string{"level:s0"})
	if err != nil {
		return fmt.Errorf("SELinux label of %s: %w", dir, err)
	}
	if err := label.SetFileLabel(dir, files); err != nil && !errors.Is(err, unix.ENOTSUP) {
		return err
	}
	return nil
}
