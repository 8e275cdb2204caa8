package overlay_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shalestore/shale/drivers/overlay/examine"
	"github.com/shalestore/shale/internal/testutil"
)

// What is wrong with a layer's small files is named and made anew; the layer mounts again
// as it did, and so does the one on top of it.
func TestExamineAndRewrite(t *testing.T) {
	testutil.Root(t)
	for name, damage := range map[string]func(root string) error{
		"nothing": func(string) error { return nil },
		"link gone": func(root string) error {
			return os.Remove(filepath.Join(root, "overlay/base/link"))
		},
		"link a directory": func(root string) error {
			path := filepath.Join(root, "overlay/child/link")
			return firstError(os.Remove(path), os.Mkdir(path, 0o700))
		},
		"link another's": func(root string) error {
			base, err := os.ReadFile(filepath.Join(root, "overlay/base/link"))
			return firstError(err, os.WriteFile(filepath.Join(root, "overlay/child/link"), base, 0o644))
		},
		"all short names gone": func(root string) error {
			return firstError(os.RemoveAll(filepath.Join(root, "overlay/l")),
				os.Mkdir(filepath.Join(root, "overlay/l"), 0o755))
		},
		"lists gone": func(root string) error {
			return firstError(os.Remove(filepath.Join(root, "overlay/child/lower")),
				os.Remove(filepath.Join(root, "overlay/child/lower-layers")))
		},
		"lists nonsense": func(root string) error {
			return firstError(os.WriteFile(filepath.Join(root, "overlay/child/lower"), []byte("../../etc"), 0o644),
				os.WriteFile(filepath.Join(root, "overlay/child/lower-layers"), []byte("a/b"), 0o644))
		},
		"directories gone": func(root string) error {
			return firstError(os.Remove(filepath.Join(root, "overlay/child/work")),
				os.Remove(filepath.Join(root, "overlay/base/empty")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			root, d := freshStore(t)
			must(t, damage(root))
			beneath := map[string][]string{"base": nil, "child": {"base"}}
			flaws := 0
			look := func() (text string) {
				flaws = 0
				for _, id := range []string{"base", "child"} {
					found, err := examine.Of(d).Examine(t.Context(), id, [][]string{beneath[id]})
					must(t, err)
					for _, f := range found {
						flaws++
						text += fmt.Sprintf("%s: %s: %s\n", id, strings.TrimPrefix(f.Path, root), f.What)
						if f.Lost {
							t.Errorf("%s is lost: %s", id, f.What)
						}
					}
				}
				return text
			}
			if text := look(); (flaws == 0) != (name == "nothing") {
				t.Errorf("found:\n%s", text)
			}
			for _, id := range []string{"base", "child"} {
				must(t, examine.Of(d).Rewrite(t.Context(), id, beneath[id]))
			}
			if text := look(); flaws > 0 {
				t.Errorf("after rewriting:\n%s", text)
			}
			info, err := d.Stat(t.Context(), "child")
			if err != nil || len(info.Lower) != 1 || info.Lower[0] != filepath.Join(root, "overlay/base/diff") {
				t.Errorf("%+v, %v", info, err)
			}
			if left, err := examine.Of(d).Leftovers(t.Context()); err != nil || len(left) > 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// A layer whose content is gone is lost, and a mistaken asker is told what the files say.
func TestExamineTellsTheRest(t *testing.T) {
	testutil.Root(t)
	root, d := freshStore(t)
	found, err := examine.Of(d).Examine(t.Context(), "child", [][]string{{"other"}})
	if err != nil || len(found) != 1 || len(found[0].Lower) != 1 || found[0].Lower[0] != "base" {
		t.Errorf("%+v, %v", found, err)
	}
	found, err = examine.Of(d).Examine(t.Context(), "base", [][]string{{"child"}})
	if err != nil || len(found) != 1 || found[0].Lower == nil || len(found[0].Lower) != 0 {
		t.Errorf("%+v, %v", found, err)
	}
	must(t, os.RemoveAll(filepath.Join(root, "overlay/child/diff")))
	for _, id := range []string{"child", "nothing"} {
		found, err = examine.Of(d).Examine(t.Context(), id, [][]string{{"base"}})
		if err != nil || len(found) != 1 || !found[0].Lost {
			t.Errorf("%s: %+v, %v", id, found, err)
		}
	}
}
