package ident_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/ident"
)

func TestNew(t *testing.T) {
	a, b := ident.New(), ident.New()
	if a == b || !ident.IsDrawn(a) || ident.Validate(a) != nil {
		t.Fatalf("New gave %q and %q", a, b)
	}
}

func TestValidate(t *testing.T) {
	for _, id := range []string{"Base1", "a", "0", "build-7_x.y", strings.Repeat("a", 128)} {
		if err := ident.Validate(id); err != nil {
			t.Errorf("%q refused: %v", id, err)
		}
	}
	for _, id := range []string{"", ".", "..", "../x", "a/b", "/a", "-a", ".a", "a\x00", "a b", "a:b", "tmp",
		"layers.json", "layers.lock",
		"x.tar-split.gz", "é", strings.Repeat("a", 129)} {
		if err := ident.Validate(id); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%q: %v, want ErrInvalid", id, err)
		}
	}
}
