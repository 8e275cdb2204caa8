package userns_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"github.com/shalestore/shale/idtools/userns"
	"golang.org/x/sys/unix"
)

// An owner outside of the map is told by its ID, with the IDs that there are and the
// command that gives more.
func TestOutsideMap(t *testing.T) {
	dir := t.TempDir()
	files := idtools.SubIDFiles{SubUID: filepath.Join(dir, "subuid"), SubGID: filepath.Join(dir, "subgid")}
	if err := errors.Join(os.WriteFile(files.SubUID, []byte("# used\nann:100000:65536\nbob:165536:65536\n"), 0o600),
		os.WriteFile(files.SubGID, []byte("ann:100000:65536\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	one := []idtools.Map{{HostID: 1 << 30, Size: 1}}
	many := append(one, idtools.Map{ContainerID: 1, HostID: 100000, Size: 65536})
	for _, tt := range []struct {
		uid, gid uint32
		m        idtools.Mapping
		says     string
		cure     string
	}{
		{1516583083, 5, idtools.Mapping{UIDs: many, GIDs: many},
			"user ID 1516583083 isn't among those of this user namespace, 0-65536",
			"usermod --add-subuids 231072-1516748618 1073741824"},
		{0, 12, idtools.Mapping{UIDs: one, GIDs: one}, "group ID 12 isn't among those of this user namespace, 0",
			"usermod --add-subgids 165536-165547 1073741824"},
		{4294967000, 0, idtools.Mapping{UIDs: many, GIDs: many}, "user ID 4294967000", ""},
	} {
		err := error(idtools.OutsideMap{UID: tt.uid, GID: tt.gid, Map: tt.m})
		if !errors.Is(err, errdefs.ErrUnsupported) || !errors.Is(err, unix.EINVAL) ||
			!strings.HasSuffix(err.Error(), tt.says) && !strings.Contains(err.Error(), tt.says+",") &&
				!strings.Contains(err.Error(), tt.says+" ") {
			t.Errorf("%d:%d: %v", tt.uid, tt.gid, err)
		}
		var outside idtools.OutsideMap
		if !errors.As(err, &outside) {
			t.Fatalf("%d:%d: %T", tt.uid, tt.gid, err)
		}
		if got := userns.Usermod(outside, files); got != tt.cure {
			t.Errorf("%d:%d: %q, want %q", tt.uid, tt.gid, got, tt.cure)
		}
	}
	// In the initial namespace every ID is one, and another error stays what it is.
	if err := idtools.ExplainOwner(0, 0, unix.EINVAL); err != unix.EINVAL { //nolint:errorlint // unwrapped it must be
		t.Errorf("a mapped owner: %v", err)
	}
	if err := idtools.ExplainOwner(1<<31, 0, unix.EPERM); err != unix.EPERM { //nolint:errorlint // unwrapped it must be
		t.Errorf("another error: %v", err)
	}
}
