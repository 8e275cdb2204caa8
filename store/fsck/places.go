package fsck

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/internal/fsat"
	"github.com/shalestore/shale/internal/ident"
	"github.com/shalestore/shale/layers"
)

// misplaced reports what is in the place of a directory or a file of the format and is
// something else: a link, which would lead out of the store, a pipe, at which a reader
// would wait for ever, a file where a directory should be. It only looks at names and
// types, so that it serves a store that nothing else should be asked about. Only the
// roots and the drivers' homes may be links.
//
// Where it is in the way of the records, everything else has to wait, and blocked says
// so.
func misplaced(cfg config.Config) (found Report, blocked bool, err error) {
	p := places{seen: map[string]bool{}}
	for _, root := range []string{cfg.GraphRoot, cfg.ImageStore, cfg.RunRoot} {
		p.root(root)
	}
	p.blocked = !p.Empty()
	p.readOnly = true
	for _, root := range cfg.AdditionalImageStores {
		p.root(root)
	}
	return p.Report, p.blocked, p.err
}

// places is a look at where everything should be.
type places struct {
	Report
	seen     map[string]bool
	readOnly bool // in another store
	blocked  bool
	err      error
}

func (p *places) root(root string) {
	if root == "" || p.seen[root] {
		return
	}
	p.seen[root] = true
	for _, lock := range []string{"storage.lock", "userns.lock"} {
		p.file(filepath.Join(root, lock))
	}
	for _, driver := range []string{"overlay", "vfs"} {
		for _, kind := range []string{"layers", "images", "containers"} {
			p.records(filepath.Join(root, driver+"-"+kind), kind)
		}
	}
	overlay := filepath.Join(root, "overlay")
	for _, dir := range p.entries(overlay, "l", "tempdirs", "staging") {
		for _, name := range []string{"link", "lower", "lower-layers"} {
			p.file(filepath.Join(dir, name))
		}
		p.directory(filepath.Join(dir, "merged"))
	}
	p.directory(filepath.Join(root, "vfs/dir"))
	p.entries(filepath.Join(root, "vfs/dir"))
}

// records looks at the directory that has the records of a kind, and at what is named
// after its objects.
func (p *places) records(home, kind string) {
	if !p.directory(home) {
		return
	}
	before := len(p.Findings)
	for _, name := range []string{kind + ".json", "volatile-" + kind + ".json", kind + ".lock", "mountpoints.json",
		"mountpoints.lock", "footprints.json", "importing.lock"} {
		p.file(filepath.Join(home, name))
	}
	p.blocked = p.blocked || len(p.Findings) > before
	p.entries(home, "tmp")
}

// entries looks at the directories in home that have one of the names, or that of an ID,
// and at tar-split files. It returns the directories that are named as an ID.
func (p *places) entries(home string, names ...string) (dirs []string) {
	entries, err := os.ReadDir(home)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		if info, serr := os.Stat(home); serr == nil && !info.IsDir() || errors.Is(serr, fs.ErrNotExist) {
			p.wrong(home, info, "directory")
			return nil
		}
		p.err = errors.Join(p.err, err)
	}
	for _, e := range entries {
		path := filepath.Join(home, e.Name())
		id, tarSplit := strings.CutSuffix(e.Name(), layers.TarSplitSuffix)
		switch {
		case slices.Contains(names, e.Name()):
			p.directory(path)
		case !ident.IsDrawn(id):
		case tarSplit && !e.Type().IsRegular():
			p.file(path)
		case !tarSplit && e.IsDir():
			dirs = append(dirs, path)
		case !tarSplit:
			p.directory(path)
		}
	}
	return dirs
}

// directory reports whether there is a directory at path. What is missing is for others
// to miss.
func (p *places) directory(path string) bool {
	info, err := os.Lstat(path)
	if err == nil && !info.IsDir() {
		p.wrong(path, info, "directory")
	}
	return err == nil && info.IsDir()
}

func (p *places) file(path string) {
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		p.wrong(path, info, "file")
	}
}

func (p *places) wrong(path string, info fs.FileInfo, want string) {
	what := "nothing that can be reached"
	if info != nil {
		what = typeName(info.Mode())
	}
	f := p.add(KindFile, path, RemedyAside, "%s is in the place of a %s", what, want)
	f.inOther(p.readOnly)
	f.fix = func(context.Context) (string, error) {
		aside, err := moveAside(path)
		if err == nil && want == "directory" && !ident.IsDrawn(filepath.Base(path)) {
			err = os.Mkdir(path, 0o700)
		}
		return "moved it to " + aside, err
	}
}

func typeName(mode fs.FileMode) string {
	switch mode.Type() {
	case 0:
		return "a file"
	case fs.ModeDir:
		return "a directory"
	case fs.ModeSymlink:
		return "a symlink"
	case fs.ModeNamedPipe:
		return "a named pipe"
	case fs.ModeSocket:
		return "a socket"
	}
	return "a device"
}

// moveAside gives what is at path a name that nobody looks for, and returns it.
func moveAside(path string) (string, error) {
	for n := 0; ; n++ {
		aside := path + ".damaged"
		if n > 0 {
			aside = fmt.Sprintf("%s.%d", aside, n)
		}
		if _, err := os.Lstat(aside); errors.Is(err, fs.ErrNotExist) {
			return aside, errors.Join(os.Rename(path, aside), fsat.SyncDir(filepath.Dir(path)))
		} else if err != nil {
			return "", err
		}
	}
}
