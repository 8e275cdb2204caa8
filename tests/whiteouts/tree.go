package whiteouts

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// tree is what a layer shows: a path without a leading slash, and "dir" or the file's
// content.
type tree map[string]string

const dir = "dir"

// member is one entry of a layer's tar: a directory, a file with content, a hard link, or
// a whiteout, which is a file by its name.
type member struct {
	name string // of a directory with a slash at its end
	body string
	link string
}

func (m member) String() string {
	switch {
	case m.link != "":
		return m.name + " = " + m.link
	case m.body != "":
		return m.name + "(" + short(m.body) + ")"
	}
	return m.name
}

// short tells a content by its size.
func short(content string) string {
	if len(content) < 20 {
		return content
	}
	return fmt.Sprint(len(content), " bytes")
}

// right is the tree that a layer makes of the one beneath it: whiteouts remove what is
// lower, wherever in the archive they stand, then the members come in their order.
func right(lower tree, layer []member) tree {
	t := maps.Clone(lower)
	for _, m := range layer {
		parent, base := path.Split(m.name)
		if base == ".wh..wh..opq" {
			t.remove(strings.TrimSuffix(parent, "/"), false)
		} else if name, ok := strings.CutPrefix(base, ".wh."); ok {
			t.remove(parent+name, true)
		}
	}
	scratch := tree{}
	for _, m := range layer {
		name := strings.TrimSuffix(m.name, "/")
		switch {
		case strings.HasPrefix(name, ".wh..wh.plnk"):
			scratch[name] = m.body
			continue
		case strings.HasPrefix(path.Base(name), ".wh."):
			continue
		case m.link != "":
			content, ok := scratch[m.link]
			if !ok {
				content = t[m.link]
			}
			t.remove(name, true)
			t[name] = content
		case name != m.name && t[name] != dir:
			t[name] = dir
		case name == m.name:
			t.remove(name, true)
			t[name] = m.body
		}
		for up := path.Dir(name); up != "."; up = path.Dir(up) {
			t[up] = dir
		}
	}
	return t
}

// remove removes what is beneath a name, and the name itself.
func (t tree) remove(name string, itself bool) {
	if itself {
		delete(t, name)
	}
	for p := range t {
		if name == "" || strings.HasPrefix(p, name+"/") {
			delete(t, p)
		}
	}
}

// changed is what a list of changes must have: exactly these added and deleted, and at
// least these modified.
func changed(from, to tree) (added, deleted, modified []string) {
	for p, content := range to {
		if old, was := from[p]; !was {
			added = append(added, "/"+p)
		} else if old != content {
			modified = append(modified, "/"+p)
		}
	}
	for p := range from {
		if up := path.Dir(p); to[p] == "" && (up == "." || to[up] == dir && from[up] == dir) {
			deleted = append(deleted, "/"+p)
		}
	}
	return slices.Sorted(slices.Values(added)), slices.Sorted(slices.Values(deleted)), modified
}

// read is the tree in a directory. What can't be looked up is in it as well.
func read(root string) (tree, error) {
	t := tree{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		name, rerr := filepath.Rel(root, p)
		if err != nil || rerr != nil || name == "." {
			return err
		}
		switch {
		case d.IsDir():
			t[name] = dir
		case d.Type().IsRegular():
			content, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			t[name] = string(content)
		default:
			t[name] = "no file: " + d.Type().String()
		}
		return nil
	})
	return t, err
}

// compare says how two trees differ.
func compare(want, got tree) error {
	var lines []string
	for p, content := range want {
		if got[p] != content {
			lines = append(lines, fmt.Sprintf("%s is %q, not %q", p, short(got[p]), short(content)))
		}
	}
	for p, content := range got {
		if _, ok := want[p]; !ok {
			lines = append(lines, fmt.Sprintf("%s is %q, and not to be there", p, short(content)))
		}
	}
	if len(lines) == 0 {
		return nil
	}
	slices.Sort(lines)
	return fmt.Errorf("%s", strings.Join(lines, "; "))
}

// pack makes a tar of members.
func pack(layer []member) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, m := range layer {
		h := tar.Header{Name: m.name, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(m.body)),
			ModTime: time.Unix(1e9, 0)}
		switch {
		case m.link != "":
			h.Typeflag, h.Linkname = tar.TypeLink, m.link
		case strings.HasSuffix(m.name, "/"):
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(&h); err != nil {
			return nil, err
		}
		if _, err := w.Write([]byte(m.body)); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return out.Bytes(), err
}
