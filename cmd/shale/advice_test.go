package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools/userns"
	"golang.org/x/sys/unix"
)

func TestAdvice(t *testing.T) {
	notOwner := "shale unshare"
	if !userns.IsRootless(os.LookupEnv) {
		notOwner = "" // root of the host has all the rights there are
	}
	for _, tt := range []struct {
		err  error
		want string // a part; "" for none at all
	}{
		{fmt.Errorf("layer x: %w", unix.EACCES), notOwner},
		{fmt.Errorf("entry %q: %w: %w", "h", errdefs.ErrInvalid, unix.EPERM), ""},
		{fmt.Errorf("layer x: %w", unix.ENOSPC), "shale gc"},
		{errdefs.Missing{Kind: errdefs.Layer, Ref: "x"}, "shale layers"},
		{errdefs.Missing{Kind: errdefs.AnyObject, Ref: "x"}, "shale containers"},
		{fmt.Errorf("limits: %w: %w", errdefs.ErrInvalid, unix.ENOSPC), ""},
		{errdefs.Missing{Kind: errdefs.SubIDs, Ref: "x", Why: "no line in /etc/subuid"}, ""},
		{errdefs.Unsupported{What: "limits", By: "on tmpfs", Cure: "mount with prjquota"}, ""},
		{errdefs.InUse{Kind: errdefs.Layer, ID: "x", By: errdefs.Layer, ByID: "y"}, "--tree"},
		{errdefs.InUse{Kind: errdefs.Layer, ID: "x", By: errdefs.Container, ByID: "y"}, "shale container y"},
		{fmt.Errorf("vfs: mount option: %w", errdefs.ErrUnsupported), "can do"},
		{errdefs.AttributeTooLarge{Name: "user.a", Size: 1 << 16}, "ea_inode"},
		{errdefs.Locked{Path: "layers.lock", PID: 7, Err: unix.EAGAIN}, "process 7"},
		{fmt.Errorf("check: %w", advised{errdefs.ErrInUse, "--force"}), "--force"},
		{unix.EIO, ""},
	} {
		if got := advice(tree(), tt.err); !strings.Contains(got, tt.want) || tt.want == "" && got != "" {
			t.Errorf("%v: %q, want %q", tt.err, got, tt.want)
		}
	}
	for word, want := range map[string]string{"a/b:1": "a/b:1", "a b": "'a b'", "": "''", "it's": `'it'\''s'`} {
		if got := shellWord(word); got != want {
			t.Errorf("%q in a shell: %s", word, got)
		}
	}
}

// follow does what the hint of a failed command says, and returns what that printed: it
// runs the commands in backquotes, or adds the flag in them to the failed one.
func (s *stores) follow(args ...string) (printed string) {
	s.t.Helper()
	got := s.try(args...)
	_, hint, hinted := strings.Cut(got.stderr, "\n  ")
	commands := regexp.MustCompile("`([^`]*)`").FindAllStringSubmatch(hint, -1)
	if got.status == 0 || !hinted || len(commands) == 0 {
		s.t.Fatalf("%v: no hint to follow: %+v", args, got)
	}
	for _, command := range commands {
		words := strings.Fields(command[1])
		again, isCommand := slices.Clone(words), words[0] == "shale"
		if isCommand {
			again = words[1:]
		} else {
			again = append(again, args...)
		}
		did := s.try(again...)
		if did.status != 0 {
			s.t.Errorf("%v: the hint to %v fails: %+v", args, again, did)
		}
		printed += did.stdout
	}
	return printed
}

// Each hint is followed, and helps.
func TestHintsHelp(t *testing.T) {
	s := newStore(t)
	tar := filepath.Join(s.dir, "base.tar")
	if err := os.WriteFile(tar, tarOf(t, map[string]string{"etc/": "", "etc/f": "x"}), 0o644); err != nil {
		t.Fatal(err)
	}
	base := s.id("import-layer", "--name", "base", "--file", tar)
	child := s.id("create-layer", "--name", "child", "base")
	image := s.id("create-image", "--name", "image:1", "base")
	container := s.id("create-container", "--name", "web", "image:1")

	t.Run("missing", func(t *testing.T) {
		s := s.in(t)
		for args, want := range map[string]string{
			"create-layer gone": base[:12], "image gone": image[:12], "container gone": container[:12],
			"mount gone": "image:1", "exists": "",
		} {
			if want != "" {
				if printed := s.follow(strings.Fields(args)...); !strings.Contains(printed, want) {
					t.Errorf("after %s: %s", args, printed)
				}
			}
		}
		s.must("set-image-data", "--file", tar, "image:1", "there")
		if printed := s.follow("get-image-data", "image:1", "gone"); !strings.Contains(printed, "\nthere\n") {
			t.Errorf("data items: %q", printed)
		}
	})
	t.Run("taken", func(t *testing.T) {
		s := s.in(t)
		s.must("create-layer", "--name", "a name")
		s.must("create-layer", "--name", "taken")
		s.follow("create-layer", "--name", "taken")
		s.must("create-layer", "--name", "taken")
	})
	t.Run("in use", func(t *testing.T) {
		s := s.in(t)
		if tree := s.follow("delete-layer", "base"); !strings.Contains(tree, child) {
			t.Errorf("what stands on base: %s", tree)
		}
		if shown := s.follow("delete-image", "image:1"); !strings.Contains(shown, "Name: web\n") {
			t.Errorf("who needs the image: %s", shown)
		}
	})
	t.Run("mounted", func(t *testing.T) {
		s := newStore(t)
		s.must("create-layer", "--name", "work")
		s.must("create-container", "--name", "box", "")
		for args, refs := range map[string][]string{"delete-layer": {"work"}, "delete-container": {"box"},
			"delete": {"work", "box"}, "wipe --yes": nil} {
			if refs == nil {
				refs = []string{""}
			}
			for _, ref := range refs {
				command := append(strings.Fields(args), strings.Fields(ref)...)
				s.must("mount", "work", "box")
				if got := s.try(command...); got.status != statusBusy ||
					!strings.Contains(got.stderr, "it is mounted") {
					t.Errorf("%v: %+v", command, got)
				}
				s.must("unmount", "--force", "work", "box")
			}
		}
		s.must("mount", "work")
		s.follow("delete-layer", "work") // unmounts it
		s.must("delete-layer", "work")
		s.must("mount", "box")
		s.must("delete", "--force", "box")
		if got := s.try("delete", "box"); got.status != statusNotFound {
			t.Errorf("%+v", got)
		}
	})
	t.Run("an archive as parent", func(t *testing.T) {
		got := s.in(t).try("import-layer", tar)
		if got.status != statusNotFound || !strings.Contains(got.stderr, "--file") {
			t.Errorf("%+v", got)
		}
	})
	t.Run("nothing to import", func(t *testing.T) {
		for _, args := range [][]string{{"import-layer"}, {"apply-diff", "child"}} {
			if got := s.in(t).try(args...); got.status != 1 || got.stdout != "" ||
				!strings.Contains(got.stderr, "standard input: invalid: it is empty") {
				t.Errorf("%v: %+v", args, got)
			}
		}
	})
	t.Run("another's store", func(t *testing.T) {
		other := newStore(t)
		id := other.id("create-layer", "--readonly", "--name", "elsewhere")
		s := s.in(t)
		s.flags = append(slices.Clone(s.flags), "--storage-opt", "additionalimagestore="+other.dir+"/root")
		if got := s.try("delete-layer", id); got.status == 0 {
			t.Fatal("deleted in another store")
		}
		s.follow("delete-layer", id)
		if got := other.try("exists", "--layer", "elsewhere"); got.status != statusNotFound {
			t.Errorf("%+v", got)
		}
	})
	t.Run("damage", func(t *testing.T) {
		s := newStore(t)
		s.must("import-layer", "--name", "base", "--file", tar)
		stray := s.id("create-storage-layer")
		if s.follow("check"); strings.Contains(s.must("storage-layers"), stray) {
			t.Error("what was left over is there after gc")
		}
		records, err := filepath.Glob(filepath.Join(s.dir, "root/*-layers/layers.json"))
		if err != nil || len(records) != 1 {
			t.Fatal(records, err)
		}
		if err := os.Truncate(records[0], 40); err != nil {
			t.Fatal(err)
		}
		got := s.try("layers")
		if !strings.Contains(got.stderr, "`shale check --repair`") {
			t.Fatalf("of a record file that ends early: %+v", got)
		}
		s.must("check", "--repair")
		s.must("layers")
	})
	for word, answer := range habits {
		for _, command := range regexp.MustCompile("`shale ([^`]*)`").FindAllStringSubmatch(answer, -1) {
			if got := in(t, "", strings.Fields(command[1]+" --help")...); got.status != 0 {
				t.Errorf("%s: the answer %s is none: %+v", word, command[1], got)
			}
		}
	}
}

// No word that was typed wrong leads to a command that deletes, except to rm.
func TestNothingDangerousIsSuggested(t *testing.T) {
	for _, word := range []string{"ls", "ps", "du", "dive", "cp2", "delet", "delete-laye", "g", "wip", "gcc", "shutdow",
		"remove-name", "set-name"} {
		got := in(t, "", word)
		if got.status != statusUsage || regexp.MustCompile(
			`delete|wipe|\bgc\b|remove|set-names|shutdown\b`).MatchString(
			strings.ReplaceAll(got.stderr, fmt.Sprintf("%q", word), "")) {
			t.Errorf("%s: %+v", word, got)
		}
	}
	if got := in(t, "", "rm"); !strings.Contains(got.stderr, "shale delete-image") {
		t.Errorf("rm: %+v", got)
	}
}
