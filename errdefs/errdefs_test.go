package errdefs_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/shalestore/shale/errdefs"
	"golang.org/x/sys/unix"
)

// A wrapped error keeps both its class and the kernel's errno, which is what callers
// branch on.
func TestClassAndErrnoSurviveWrapping(t *testing.T) {
	err := fmt.Errorf("layer %s: %w: %w", "abc", errdefs.ErrReadOnly, unix.EROFS)
	if !errors.Is(err, errdefs.ErrReadOnly) || !errors.Is(err, unix.EROFS) {
		t.Fatalf("lost a class: %v", err)
	}
	if errors.Is(err, errdefs.ErrNotFound) {
		t.Fatal("classes must differ")
	}
}
