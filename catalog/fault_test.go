package catalog_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/layers"
	"golang.org/x/sys/unix"
)

func TestDamageIsRefusedAndLeftAlone(t *testing.T) {
	for _, tt := range []struct{ name, data, want string }{
		{"cut short", `[{"id":"a",` + stamped + `},{"id":"b`,
			"byte 53 (line 1): expected the end of a string, the file ends there"},
		{"zeros after a power cut", strings.Repeat("\x00", 100),
			`byte 0 (line 1): expected an array of records, found "\x00`},
		{"on the third line", "[\n{\"id\":\"a\"},\n{\"id\":}\n]", `byte 20 (line 3): expected a value, found "}`},
		{"not an array", `{"id":"a"}`, "byte 0 (line 1): expected an array"},
		{"two arrays", `[][]`, "byte 2 (line 1): expected nothing after the array"},
		{"ID of the wrong type", `[{"id":7}]`, "byte 7 (line 1): expected a string as the ID"},
		{"too deep", `[{"id":"a","x":` + strings.Repeat("[", 5000), "less nesting"},
		{"field of the wrong type", `[{"id":"a","created":1}]`, `layer "a"`},
		{"names of the wrong type", `[{"id":"a","names":"n",` + stamped + `}]`, `layer "a"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			put(t, dir, "layers.json", tt.data)
			put(t, dir, "volatile-layers.json", `[{"id":"v",`+stamped+`}]`)
			c := layerCatalog(dir)
			for range 2 {
				err := c.View(context.Background(), func(tx *readTx) error { _, err := tx.All(); return err })
				var corrupt errdefs.CorruptFile
				if !errors.Is(err, errdefs.ErrCorrupt) || !strings.Contains(err.Error(), tt.want) ||
					!errors.As(err, &corrupt) || corrupt.Path != filepath.Join(dir, "layers.json") ||
					!strings.Contains(err.Error(), corrupt.Path) || !strings.Contains(err.Error(), "left as it is") {
					t.Errorf("View: %v, want %q", err, tt.want)
				}
				err = c.Update(context.Background(), func(tx *writeTx) error {
					if _, err := tx.All(); err != nil {
						return err
					}
					return tx.Insert(layers.Layer{ID: "n"}, 0)
				})
				if !errors.Is(err, errdefs.ErrCorrupt) {
					t.Errorf("Update: %v, want ErrCorrupt", err)
				}
			}
			if got := content(t, dir, "layers.json"); got != tt.data {
				t.Errorf("the file was changed to %q", got)
			}
			// Once it is repaired all is well, without a new process.
			put(t, dir, "layers.json", `[]`)
			view(t, c, func(tx *readTx) error { _, err := tx.Get("v"); return err })
		})
	}
}

func TestNoRegularFile(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, "layers.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := layerCatalog(dir).View(context.Background(), func(*readTx) error { return nil })
	if !errors.Is(err, errdefs.ErrCorrupt) || !strings.Contains(err.Error(), "regular file") {
		t.Errorf("a FIFO: %v", err)
	}
}
