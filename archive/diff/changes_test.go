package diff

import (
	"errors"
	"strings"
	"testing"

	"github.com/shalestore/shale/errdefs"
)

// A list that would take the memory of its host is an error instead.
func TestChangeListsAreBounded(t *testing.T) {
	var l changeList
	path := strings.Repeat("x", 1<<20)
	for range changesMax >> 20 {
		if err := l.add(path, Added); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.add(path, Added); !errors.Is(err, errdefs.ErrInvalid) {
		t.Error(err)
	}
	if err := l.enter(path, Modified, false, false); err != nil { // nothing that is listed
		t.Error(err)
	}
}
