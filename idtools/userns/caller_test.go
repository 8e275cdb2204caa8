package userns_test

import (
	"errors"
	"testing"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools/userns"
)

func TestCallerOf(t *testing.T) {
	for _, tt := range []struct {
		uid, gid         string
		wantUID, wantGID uint32
		ok               bool
	}{
		{"1000", "100", 1000, 100, true},
		{"1000", "", 1000, 1000, true},
		{"0", "0", 0, 0, true},
		{"4294967294", "5", 4294967294, 5, true},
		{"-1", "0", 0, 0, false},
		{"4294967295", "0", 0, 0, false},
		{"4294967296", "0", 0, 0, false},
		{"9223372036854775808", "0", 0, 0, false},
		{"1000", "x", 0, 0, false},
		{" 1", "1", 0, 0, false},
	} {
		env := map[string]string{userns.EnvConfigured: "done", userns.EnvRootlessUID: tt.uid,
			userns.EnvRootlessGID: tt.gid}
		c, err := userns.CallerOf(func(name string) (string, bool) { v, ok := env[name]; return v, ok })
		if (err == nil) != tt.ok || tt.ok && c != (userns.Caller{UID: tt.wantUID, GID: tt.wantGID, Configured: true}) {
			t.Errorf("%q, %q give %+v, %v", tt.uid, tt.gid, c, err)
		}
		if err != nil && !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%v is not ErrInvalid", err)
		}
	}
}
