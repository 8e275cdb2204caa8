package archive_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/shalestore/shale/archive/apply"
	"github.com/shalestore/shale/archive/diff"
	"github.com/shalestore/shale/internal/fsat"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/mount"
)

// stack is two layers that a mount with redirects and metacopies has written to, on top
// of a plain one.
type stack struct {
	*testing.T
	dir string
}

func (s stack) at(name string) string { return filepath.Join(s.dir, name) }

// mounted mounts upper over lowers and gives the mount's directory.
func (s stack) mounted(target, upper string, lowers ...string) string {
	s.Helper()
	spec := mount.Spec{Type: "overlay", Source: "overlay", Target: s.at(target),
		Data: []string{"redirect_dir=on", "metacopy=on"}}
	dirs := []string{target}
	if upper != "" {
		spec.Upper, spec.Work = s.at(upper), s.at(upper+".work")
		dirs = append(dirs, upper, upper+".work")
	}
	for _, lower := range lowers {
		spec.Lower = append(spec.Lower, s.at(lower))
	}
	for _, dir := range dirs {
		s.must(os.MkdirAll(s.at(dir), 0o755))
	}
	s.must(mount.Perform(s.Context(), spec))
	s.Cleanup(func() { s.must(mount.Unmount(spec.Target)) })
	return spec.Target
}

func (s stack) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// change does what containers do in a mounted layer.
func (s stack) change(root string, steps ...[]string) {
	s.Helper()
	at := func(name string) string { return filepath.Join(root, name) }
	for _, step := range steps {
		switch name := at(step[1]); step[0] {
		case "mv":
			s.must(os.Rename(name, at(step[2])))
		case "rm":
			s.must(os.RemoveAll(name))
		case "mkdir":
			s.must(os.Mkdir(name, 0o750))
		case "chmod":
			s.must(os.Chmod(name, 0o700))
		case "write":
			s.must(os.WriteFile(name, []byte("new "+step[1]), 0o640))
		case "ln":
			s.must(os.Link(name, at(step[2])))
		}
	}
}

// The tar of an upper with redirects and metacopies makes out of the parent what the
// mount shows, with a parent that has them as well.
func TestMergedDiffIsWhatTheMountShows(t *testing.T) {
	testutil.HostRoot(t)
	s := stack{t, t.TempDir()}
	testutil.Tree(t, s.at("base"), "d/in/f=d/in/f", "d/g=d/g", "e/f=e/f", "e/sub/h=h", "gone/x=x", "swap/a=a",
		"back/b=b", "meta=metacopied",
		"meta2=moved_and_metacopied", "twice=two_names", "o/1=1", "o/2=2", "same/s=s", "over/old=old", "p/q/r/s=s")
	first := s.mounted("first.mnt", "first", "base")
	s.change(first, []string{"mv", "d", "d1"}, []string{"chmod", "meta"}, []string{"mv", "p/q", "q"},
		[]string{"write", "q/r/new"})
	s.must(mount.Unmount(first))
	parent := s.mounted("parent.mnt", "", "first", "base")
	second := s.mounted("second.mnt", "second", "first", "base")
	s.change(second,
		// twice renamed, and out of it
		[]string{"mv", "d1", "d2"}, []string{"write", "d2/in/extra"}, []string{"mv", "d2/in", "in"},
		[]string{"mv", "e/sub", "e/sub2"}, []string{"write", "e/sub2/h"},
		[]string{"rm", "gone"},
		[]string{"mv", "swap", "swap1"}, []string{"mkdir", "swap"}, []string{"write", "swap/a"},
		[]string{"mv", "back", "tmp"}, []string{"mv", "tmp", "back"}, []string{"write", "back/c"},
		[]string{"chmod", "meta"}, []string{"chmod", "meta2"}, []string{"mv", "meta2", "meta3"},
		[]string{"ln", "twice", "q/twice"},
		[]string{"rm", "o"}, []string{"mkdir", "o"}, []string{"write", "o/2"},
		[]string{"chmod", "same/s"},
		[]string{"rm", "over"}, []string{"mv", "e", "over"},
		[]string{"mv", "q/r", "p/r"}, []string{"rm", "p/r/s"})
	layer := diff.MergedLayer{Upper: s.at("second"), Merged: second, Parent: parent}

	var tarball bytes.Buffer
	s.must(diff.WriteMerged(t.Context(), &tarball, layer, diff.Options{}))
	s.must(os.Mkdir(s.at("made"), 0o755))
	s.must(fsat.CopyTree(t.Context(), parent, s.at("made")))
	_, err := apply.Tar(t.Context(), s.at("made"), bytes.NewReader(tarball.Bytes()), nil, apply.Options{})
	s.must(err)
	// Times in the tar are whole seconds.
	want, got := testutil.Without(testutil.Snapshot(t, second), "mtime"),
		testutil.Without(testutil.Snapshot(t, s.at("made")), "mtime")
	testutil.SameTree(t, want, got)

	changes, err := diff.MergedChanges(t.Context(), layer)
	s.must(err)
	const list = "C /back A /back/c D /d1 A /d2 A /d2/g D /e D /gone A /in A /in/extra A /in/f C /meta D /meta2 A " +
		"/meta3 C /o D /o/1 C /o/2 " +
		"C /over D /over/old A /over/f A /over/sub2 A /over/sub2/h C /p A /p/r A /p/r/new C /q D /q/r A /q/twice " +
		"C /same/s C /swap C /swap/a A /swap1 A /swap1/a C /twice"
	if is := short(changes); is != list {
		t.Errorf("changes:\n%s\nwant:\n%s", is, list)
	}
}

// Whiteouts and opaque directories come in the forms of mount programs, too: what the
// mount doesn't show is gone.
func TestMergedDiffKnowsOtherWhiteouts(t *testing.T) {
	testutil.Root(t)
	s := stack{t, t.TempDir()}
	testutil.Tree(t, s.at("parent"), "a=1", "b/c=1", "b/d=2", "x/y=1")
	testutil.Tree(t, s.at("upper"), ".wh.a=", "b/.wh.c=", "x/.wh..wh..opq=", "x/z=2", ".wh.here=", "here=3")
	testutil.Tree(t, s.at("mounted"), "b/d=2", "x/z=2", "here=3")
	changes, err := diff.MergedChanges(t.Context(),
		diff.MergedLayer{Upper: s.at("upper"), Merged: s.at("mounted"), Parent: s.at("parent")})
	s.must(err)
	if is := short(changes); is != "D /a C /b D /b/c A /here C /x D /x/y A /x/z" {
		t.Error(is)
	}
}
