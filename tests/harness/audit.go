package harness

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Findings is what an audit of a root on disk, by the format and without asking any tool,
// comes to.
type Findings struct {
	// Broken is what must never be: a record without its data, a half-made layer that a
	// reader would take for whole, a parent that is gone, a file of unknown purpose.
	Broken []string
	// Stale is what the format knows as left over by a process that died: temporary
	// directories whose lock is free, layer directories, links, tar-split files and
	// temporary files no record speaks of. Garbage collection takes them.
	Stale []string
}

// Audit reads the records and looks at every entry of the driver's home and of the layer
// directory. Nobody may be writing meanwhile. Only the overlay driver's form is known.
func (r Root) Audit() (Findings, error) {
	a := &audit{root: r.Graph, known: map[string]Layer{}}
	for _, name := range []string{"layers.json", "volatile-layers.json"} {
		data, err := os.ReadFile(filepath.Join(a.root, "overlay-layers", name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Findings{}, err
		}
		layers, err := decodeLayers(name, data)
		if err != nil {
			return Findings{}, err
		}
		for _, layer := range layers {
			a.known[layer.ID] = layer
		}
	}
	a.records()
	a.home()
	a.layerDirectory()
	for _, kind := range []string{"image", "container"} {
		a.recordDirectory(kind)
	}
	return a.Findings, a.err
}

type audit struct {
	Findings
	root  string
	known map[string]Layer
	err   error
}

func (a *audit) broken(format string, args ...any) {
	a.Broken = append(a.Broken, fmt.Sprintf(format, args...))
}

func (a *audit) stale(format string, args ...any) {
	a.Stale = append(a.Stale, fmt.Sprintf(format, args...))
}

func (a *audit) entries(path ...string) []os.DirEntry {
	entries, err := os.ReadDir(filepath.Join(append([]string{a.root}, path...)...))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.err = errors.Join(a.err, err)
	}
	return entries
}

// records holds every record against the files it promises.
func (a *audit) records() {
	for id, layer := range a.known {
		if layer.Flags["incomplete"] == true {
			a.stale("layers.json: %s is marked incomplete", id)
			continue
		}
		dir := filepath.Join(a.root, "overlay", id)
		if info, err := os.Stat(filepath.Join(dir, "diff")); err != nil || !info.IsDir() {
			a.broken("layer %s: no diff directory: %v", id, err)
			continue
		}
		link, err := os.ReadFile(filepath.Join(dir, "link"))
		if err != nil || len(link) != 26 {
			a.broken("layer %s: link is %q: %v", id, link, err)
		} else if target, err := os.Readlink(filepath.Join(a.root, "overlay/l", string(link))); target != "../"+id+
			"/diff" {
			a.broken("layer %s: overlay/l/%s is %q: %v", id, link, target, err)
		}
		if layer.Parent != "" {
			a.chain(id, dir)
		}
		if layer.DiffDigest != "" {
			split := filepath.Join(a.root, "overlay-layers", id+".tar-split.gz")
			if info, err := os.Stat(split); err != nil || info.Size() == 0 {
				a.broken("layer %s: tar-split is missing or empty: %v", id, err)
			}
		}
	}
}

// chain holds the two files that say what lies below a layer against the records.
func (a *audit) chain(id, dir string) {
	var ids []string
	for at := a.known[id].Parent; at != ""; at = a.known[at].Parent {
		if _, there := a.known[at]; !there {
			a.broken("layer %s: its ancestor %s has no record", id, at)
			return
		}
		if ids = append(ids, at); len(ids) > len(a.known) {
			a.broken("layer %s: its ancestors go in a circle", id)
			return
		}
	}
	if data, err := os.ReadFile(filepath.Join(dir, "lower-layers")); err != nil ||
		string(data) != strings.Join(ids, ":") {
		a.broken("layer %s: lower-layers is %q, want %v: %v", id, data, ids, err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "lower"))
	if links := strings.Split(string(data), ":"); err != nil || len(links) != len(ids) {
		a.broken("layer %s: lower is %q, want %d links: %v", id, data, len(ids), err)
	} else {
		for i, link := range links {
			if target, err := os.Readlink(filepath.Join(a.root, "overlay", link)); target != "../"+ids[i]+"/diff" {
				a.broken("layer %s: lower's %s is %q, want %s: %v", id, link, target, ids[i], err)
			}
		}
	}
}

// home looks at the driver's own directory.
func (a *audit) home() {
	for _, entry := range a.entries("overlay") {
		name := entry.Name()
		switch _, known := a.known[name]; {
		case known, name == ".has-mount-program", name == "backingFsBlockDev":
		case name == "l":
			a.links()
		case name == "tempdirs":
			a.tempDirs("overlay/tempdirs")
		case name == "staging":
			for _, staged := range a.entries("overlay", "staging") {
				a.stale("overlay/staging/%s", staged.Name())
			}
		case entry.IsDir(), strings.HasPrefix(name, ".tmp-"):
			a.stale("overlay/%s", name)
		default:
			a.broken("overlay/%s: the format knows no such file", name)
		}
	}
}

func (a *audit) links() {
	for _, entry := range a.entries("overlay", "l") {
		target, err := os.Readlink(filepath.Join(a.root, "overlay/l", entry.Name()))
		id := strings.TrimSuffix(strings.TrimPrefix(target, "../"), "/diff")
		switch _, known := a.known[id]; {
		case err != nil:
			a.broken("overlay/l/%s: %v", entry.Name(), err)
		case !known:
			a.stale("overlay/l/%s -> %s", entry.Name(), target)
		default:
			if link, _ := os.ReadFile(filepath.Join(a.root, "overlay", id, "link")); string(link) != entry.Name() {
				a.stale("overlay/l/%s -> %s, whose own link is %s", entry.Name(), target, link)
			}
		}
	}
}

// tempDirs looks at one place of temporary directories: lock-N and temp-dir-N in pairs.
// Nobody writes now, so a held lock belongs to a process that should be gone.
func (a *audit) tempDirs(place string) {
	for _, entry := range a.entries(place) {
		name := entry.Name()
		number, isLock := strings.CutPrefix(name, "lock-")
		if !isLock {
			var isDir bool
			if number, isDir = strings.CutPrefix(name, "temp-dir-"); !isDir {
				a.broken("%s/%s: neither a lock nor a temporary directory", place, name)
				continue
			}
		}
		a.stale("%s/%s", place, name)
		if held(filepath.Join(a.root, place, "lock-"+number)) {
			a.broken("%s/%s: its lock is still held", place, name)
		}
	}
}

func held(path string) bool {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer file.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	return unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, &lock) != nil
}

// layerDirectory looks at what lies beside layers.json.
func (a *audit) layerDirectory() {
	for _, entry := range a.entries("overlay-layers") {
		name := entry.Name()
		split, isSplit := strings.CutSuffix(name, ".tar-split.gz")
		_, known := a.known[strings.TrimSuffix(name, ".tar-split.gz")]
		switch {
		case known, name == "layers.json", name == "volatile-layers.json", name == "layers.lock":
		case name == "tmp":
			a.tempDirs("overlay-layers/tmp")
		case isSplit && split != "", strings.HasPrefix(name, ".tmp-"), entry.IsDir():
			a.stale("overlay-layers/%s", name)
		default:
			a.broken("overlay-layers/%s: the format knows no such file", name)
		}
	}
}

// recordDirectory looks at what lies beside images.json or containers.json.
func (a *audit) recordDirectory(kind string) {
	dir := "overlay-" + kind + "s"
	known := map[string]bool{}
	for _, name := range []string{kind + "s.json", "volatile-" + kind + "s.json"} {
		data, err := os.ReadFile(filepath.Join(a.root, dir, name))
		if err != nil || len(data) == 0 {
			continue
		}
		var records []struct {
			ID    string `json:"id"`
			Layer string `json:"layer"`
		}
		if err := json.Unmarshal(data, &records); err != nil {
			a.broken("%s/%s: %v", dir, name, err)
		}
		for _, record := range records {
			known[record.ID] = true
			if _, there := a.known[record.Layer]; record.Layer != "" && !there {
				a.broken("%s %s: its layer %s has no record", kind, record.ID, record.Layer)
			}
		}
	}
	for _, entry := range a.entries(dir) {
		name := entry.Name()
		switch {
		case known[name], strings.TrimPrefix(name, "volatile-") == kind+"s.json", name == kind+"s.lock":
		case entry.IsDir(), strings.HasPrefix(name, ".tmp-"):
			a.stale("%s/%s", dir, name)
		default:
			a.broken("%s/%s: the format knows no such file", dir, name)
		}
	}
}
