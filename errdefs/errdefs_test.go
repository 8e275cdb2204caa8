package errdefs_test

import (
	"context"
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

// Each detailed error is of one class, keeps what caused it, and says all that it knows.
func TestDetailedErrors(t *testing.T) {
	classes := []error{errdefs.ErrNotFound, errdefs.ErrDuplicateID, errdefs.ErrDuplicateName, errdefs.ErrInUse,
		errdefs.ErrBusy, errdefs.ErrInvalid, errdefs.ErrCorrupt, errdefs.ErrReadOnly, errdefs.ErrUnsupported}
	for _, tt := range []struct {
		err   error
		class error
		text  string
	}{
		{errdefs.Missing{Kind: errdefs.Layer, Ref: "x", Why: "gone"}, errdefs.ErrNotFound,
			`layer "x": not known: gone`},
		{errdefs.Duplicate{Kind: errdefs.Layer, Holder: "x"}, errdefs.ErrDuplicateID,
			`layer "x": that ID is already in use`},
		{errdefs.Duplicate{Kind: errdefs.Image, Name: "n", Holder: "x"}, errdefs.ErrDuplicateName,
			`image name "n": that name is already in use by x`},
		{errdefs.InUse{Kind: errdefs.Layer, ID: "x", By: errdefs.Image, ByID: "y"}, errdefs.ErrInUse,
			"layer x: in use by image y"},
		{errdefs.InUse{Kind: errdefs.Layer, ID: "x", By: errdefs.Mount, ByID: "x"}, errdefs.ErrInUse,
			"layer x: in use: it is mounted"},
		{errdefs.InUse{Kind: errdefs.Layer, ID: "x", By: errdefs.Mount, ByID: "y"}, errdefs.ErrInUse,
			"layer x: in use: y is mounted"},
		{errdefs.OtherStore{Kind: errdefs.Layer, ID: "x", Store: "/srv"}, errdefs.ErrReadOnly,
			"layer x: read-only: it is in the store /srv"},
		{errdefs.CorruptFile{Path: "/f", At: "byte 3", Err: unix.EIO}, errdefs.ErrCorrupt,
			"/f is damaged at byte 3; it was left as it is: input/output error"},
		{errdefs.Locked{Path: "/l", PID: 7, Err: context.Canceled}, errdefs.ErrBusy,
			"lock /l: busy: held by process 7: context canceled"},
		{errdefs.Unsupported{Setting: "size", By: "by vfs", Cure: "remove it"}, errdefs.ErrUnsupported,
			"setting size: not supported by vfs: remove it"},
		{errdefs.AttributeTooLarge{Name: "user.a", Size: 9}, errdefs.ErrInvalid,
			`set attribute "user.a": invalid: 9 bytes are more than the file system holds`},
	} {
		err := fmt.Errorf("wrapped: %w", tt.err)
		for _, class := range classes {
			if errors.Is(err, class) != (errors.Is(class, tt.class)) {
				t.Errorf("%v: is %v: %t", err, class, errors.Is(err, class))
			}
		}
		if tt.err.Error() != tt.text {
			t.Errorf("%q, want %q", tt.err, tt.text)
		}
	}
	var corrupt errdefs.CorruptFile
	err := fmt.Errorf("layers: %w", errdefs.CorruptFile{Path: "/f", Err: unix.EIO})
	if !errors.Is(err, unix.EIO) || !errors.As(err, &corrupt) || corrupt.Path != "/f" {
		t.Errorf("lost a cause: %v", err)
	}
}
