package mount_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/mount"
	"golang.org/x/sys/unix"
)

func TestParseOptions(t *testing.T) {
	for _, c := range []struct {
		in   []string
		attr uint64
		data []string
		bad  bool
	}{
		{nil, 0, nil, false},
		{[]string{""}, 0, nil, false},
		{[]string{"nodev", "metacopy=on"}, unix.MOUNT_ATTR_NODEV, []string{"metacopy=on"}, false},
		{[]string{"nodev,nosuid,noexec,ro"}, unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC |
			unix.MOUNT_ATTR_RDONLY, nil, false},
		{[]string{"ro", "rw"}, 0, nil, false},
		{[]string{"noatime", "relatime"}, unix.MOUNT_ATTR_RELATIME, nil, false},
		{[]string{"noatime", "strictatime"}, unix.MOUNT_ATTR_STRICTATIME, nil, false},
		{[]string{"strictatime", "nostrictatime"}, 0, nil, false},
		{[]string{"defaults", "sync", "xino=off"}, 0, []string{"sync", "xino=off"}, false},
		{[]string{"nodev", `context="system_u:object_r:t:s0:c1,c2"`, "xino=on"}, unix.MOUNT_ATTR_NODEV,
			[]string{"context=system_u:object_r:t:s0:c1,c2", "xino=on"}, false},
		{[]string{`nodev,fscontext="a:b:c:s0:c1,c2",rootcontext=a:b:c:s0`}, unix.MOUNT_ATTR_NODEV,
			[]string{"fscontext=a:b:c:s0:c1,c2", "rootcontext=a:b:c:s0"}, false},
		{[]string{`context="a,upperdir=/etc`}, 0, nil, true},
		{[]string{`context="a"b"`}, 0, nil, true},
		{[]string{`xino="on"`}, 0, nil, true},
		{[]string{"bind"}, 0, nil, true},
		{[]string{"nodev,remount"}, 0, nil, true},
		{[]string{"shared"}, 0, nil, true},
		{[]string{"lowerdir=/etc"}, 0, nil, true},
		{[]string{"metacopy=on,upperdir=/etc"}, 0, nil, true},
		{[]string{"lowerdir+=/etc"}, 0, nil, true},
		{[]string{"workdir=/etc"}, 0, nil, true},
	} {
		attr, data, err := mount.ParseOptions(c.in)
		if c.bad {
			if !errors.Is(err, errdefs.ErrInvalid) {
				t.Errorf("%q: %v", c.in, err)
			}
			continue
		}
		if err != nil || attr != c.attr || !slices.Equal(data, c.data) {
			t.Errorf("%q: %#x %q %v, want %#x %q", c.in, attr, data, err, c.attr, c.data)
		}
	}
}

func TestOptionsAreSafeToJoin(t *testing.T) {
	s := mount.Spec{
		Lower: []string{"/a,b", "/c:d", `/e\f`},
		Upper: "/u,p:p", Work: "/w",
		Data: []string{"metacopy=on", "userxattr", "context=system_u:object_r:container_file_t:s0:c1,c2"},
		Attr: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NODEV,
	}
	want := []string{`lowerdir=/a\,b:/c\:d:/e\\f`, `upperdir=/u\,p:p`, "workdir=/w", "metacopy=on", "userxattr",
		`context="system_u:object_r:container_file_t:s0:c1,c2"`, "ro", "nodev"}
	if got := s.Options(); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
