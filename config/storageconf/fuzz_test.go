package storageconf

import (
	"errors"
	"math"
	"testing"

	"github.com/pelletier/go-toml/v2"
	"github.com/shalestore/shale/errdefs"
)

// Whatever a file holds, it gives a sound configuration or an error of the right class,
// and every entry has a line that the file has.
func FuzzStorageConf(f *testing.F) {
	for _, s := range []string{
		"", "# nothing\n", "[storage]\ndriver = \"overlay\"\ngraphroot = \"$HOME/x\"\n",
		"[storage.options.overlay]\nsize = \"10G\"\nforce_mask = \"shared\"\nmountopt = \"nodev,context=\\\"a," +
			"b\\\"\"\n",
		"storage = {options = {pull_options = {convert_images = \"true\"}}}",
		"storage.driver_priority = [\"vfs\", {append = true}]",
		"[storage.options]\nforce_mask = 0o755\nauto-userns-min-size = 1_000\n",
		"[[storage]]\n", "[storage.driver]\n", "\"a.b\".'c' = '''\n\n'''\nx = 1\n",
		"a = [[[[[{b = [1.5, 1979-05-27]}]]]]]\n",
		"[storage]\n\"driver\\u0000\" = 1\n", "\xff", "\ufeff[storage]\r\ndriver='vfs'\r\n",
		"[storage]\ndriver = \"vfs\" # c\n[storage]\n", "x = \"\"\"", "{",
		"[storage.options.overlay]\ninodes = \"18446744073709551616\"\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > maxFile {
			return
		}
		lines := 1
		for _, b := range data {
			if b == '\n' {
				lines++
			}
		}
		entries, warnings, err := parse("file", data)
		if err != nil {
			if !errors.Is(err, errdefs.ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		var whole map[string]any
		if err := toml.Unmarshal(data, &whole); err != nil {
			t.Fatalf("accepted what is no TOML: %v", err)
		}
		l := loader{env: Environment{Lookup: func(string) (string, bool) {
			return "", false
		}}, cfg: Settings{Origins: map[string]Origin{}}, entries: map[string]entry{}}
		for _, e := range entries {
			if e.origin.Line < 1 || e.origin.Line > lines {
				t.Fatalf("%s is said to be on line %d of %d", e.key.name, e.origin.Line, lines)
			}
			l.merge(e)
		}
		for _, w := range warnings {
			if w.Origin.Line < 1 || w.Origin.Line > lines {
				t.Fatalf("%s: the file has %d lines", w, lines)
			}
		}
		for _, step := range []func() error{l.setDriver, l.setRoots, l.setImageStore, l.setOthers, func() error {
			l.cfg.options = l.fileOptions()
			return l.cfg.decodeOptions()
		}} {
			if err := step(); err != nil {
				if !errors.Is(err, errdefs.ErrInvalid) && !errors.Is(err, errdefs.ErrUnsupported) {
					t.Fatal(err)
				}
				return
			}
		}
		c := l.cfg
		if c.GraphRoot == "" || c.GraphRoot[0] != '/' || c.RunRoot == "" || c.RunRoot[0] != '/' ||
			c.Overlay.Size > math.MaxInt64 ||
			c.Overlay.ForceMask != nil && *c.Overlay.ForceMask > 0o777 || c.AutoUserns.MinSize > c.AutoUserns.MaxSize {
			t.Fatalf("%+v", c)
		}
		c.List()
	})
}
