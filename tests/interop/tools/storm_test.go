package tools

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shalestore/shale/internal/testutil"
)

// TestStorm lets Shale, Podman, Buildah and Skopeo make, run, commit, copy, list and
// delete images of one store side by side for some seconds. An image that nobody asked to
// delete is in every list and does all that is asked of it; whoever finds one in use may
// refuse to delete it; shale check never has anything to say. In the end all agree about
// what there is.
func TestStorm(t *testing.T) {
	h := newHost(t)
	seconds := testutil.Count(t, "SHALE_STORM_SECONDS", 5, 300)
	s := &storm{host: h, base: busyboxTar(t), images: map[string]*image{}, counts: map[string]int{}}
	h.makeImage("localhost/base:latest", s.base)
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(seconds)*time.Second)
	defer cancel()
	var workers sync.WaitGroup
	for i, steps := range [][]step{s.shale(), s.shale(), s.podman(), s.podman(), s.buildah(), s.everybody(),
		s.everybody()} {
		workers.Go(func() { s.work(t, ctx, i, steps) })
	}
	workers.Wait()
	t.Logf("%v", s.counts)
	if !t.Failed() {
		s.aftermath(t)
	}
}

// storm is what all workers know.
type storm struct {
	host *host
	base []byte

	mu     sync.Mutex
	images map[string]*image // by name
	counts map[string]int
}

// image is one that was made and not yet deleted.
type image struct {
	by       string
	users    int  // workers that need it
	deleting bool // a worker has asked for its deletion
}

// step is one thing that a worker does. The name that it gets is nobody else's.
type step struct {
	what string
	do   func(ctx context.Context, name string) error
}

func (s *storm) work(t *testing.T, ctx context.Context, number int, steps []step) {
	chance := rand.New(rand.NewPCG(uint64(number), uint64(time.Now().UnixNano())))
	for n := 0; ctx.Err() == nil && !t.Failed(); n++ {
		step := steps[chance.IntN(len(steps))]
		// Not ctx: what is begun is brought to its end.
		if err := step.do(t.Context(), fmt.Sprintf("w%d-%d", number, n)); err != nil {
			t.Errorf("worker %d, %s: %v", number, step.what, err)
		}
		s.mu.Lock()
		s.counts[step.what]++
		s.mu.Unlock()
	}
}

// all runs commands one after another, each a tool and its arguments, up to the first
// that fails.
func (s *storm) all(ctx context.Context, commands ...[]string) error {
	for _, c := range commands {
		if out, err := s.host.try(ctx, c[0], c[1:]...); err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
	}
	return nil
}

func (s *storm) made(name, by string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.images[name] = &image{by: by}
}

// use lends out an image that is not deleted meanwhile; "" when there is none.
func (s *storm) use() (name string, done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, i := range s.images {
		if !i.deleting {
			i.users++
			return name, func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				i.users--
			}
		}
	}
	return "", nil
}

// doom picks an image to delete; "" when there is none to spare.
func (s *storm) doom() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.images) < 4 {
		return ""
	}
	for name, i := range s.images {
		if !i.deleting && i.users == 0 {
			i.deleting = true
			return name
		}
	}
	return ""
}

func ref(name string) string { return "localhost/" + name + ":latest" }

// shale makes images of two layers, the lower one shared by all, and works in containers.
func (s *storm) shale() []step {
	return []step{
		{"shale: image", func(ctx context.Context, name string) error {
			second := tarOf(s.host.t, "etc/"+name, "of shale\n")
			if _, _, err := s.host.tryImage(ctx, ref(name), s.base, second); err != nil {
				return err
			}
			s.made(name, "shale")
			return nil
		}},
		{"shale: container", func(ctx context.Context, name string) error {
			image, done := s.use()
			if image == "" {
				return nil
			}
			defer done()
			if err := s.all(ctx, []string{"shale", "create-container", "--name", name, ref(image)}); err != nil {
				return err
			}
			dir, err := s.host.try(ctx, "shale", "mount", name)
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, "etc", name), []byte("changed"), 0o644); err != nil {
				return err
			}
			return s.all(ctx, []string{"shale", "unmount", name}, []string{"shale", "delete-container", name})
		}},
		{"shale: check", func(ctx context.Context, _ string) error {
			out, err := s.host.try(ctx, "shale", "check", "--quick")
			if err == nil && out != "" {
				err = fmt.Errorf("check: %s", out)
			}
			return err
		}},
	}
}

// podman imports, commits and runs.
func (s *storm) podman() []step {
	return []step{
		{"podman: import", func(ctx context.Context, name string) error {
			path := s.host.write(name+".tar", string(tarOf(s.host.t, "etc/"+name, "of podman\n")))
			defer os.Remove(path)
			if err := s.all(ctx, []string{"podman", "import", path, ref(name)}); err != nil {
				return err
			}
			s.made(name, "podman")
			return nil
		}},
		{"podman: commit", func(ctx context.Context, name string) error {
			if err := s.all(ctx, []string{"podman", "create", "--name", name, "localhost/base",
				"/bin/true"}); err != nil {
				return err
			}
			dir, err := s.host.try(ctx, "podman", "mount", name)
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, "etc", name), []byte("of podman"), 0o644); err != nil {
				return err
			}
			if err := s.all(ctx, []string{"podman", "umount", name}, []string{"podman", "commit", "--quiet", name,
				ref(name)}, []string{"podman", "rm", name}); err != nil {
				return err
			}
			s.made(name, "podman")
			return nil
		}},
		{"podman: run", func(ctx context.Context, name string) error {
			return s.all(ctx, []string{"podman", "run", "--rm", "--name", name, "localhost/base", "/bin/touch",
				"/etc/" + name})
		}},
	}
}

// buildah builds.
func (s *storm) buildah() []step {
	return []step{
		{"buildah: commit", func(ctx context.Context, name string) error {
			if err := s.all(ctx, []string{"buildah", "from", "--pull-never", "--name", name, "localhost/base"},
				[]string{"buildah", "run", name, "/bin/touch", "/etc/" + name},
				[]string{"buildah", "commit", "--quiet", name, ref(name)},
				[]string{"buildah", "rm", name}); err != nil {
				return err
			}
			s.made(name, "buildah")
			return nil
		}},
	}
}

// everybody lists, copies and deletes what any tool has made.
func (s *storm) everybody() []step {
	steps := []step{
		{"skopeo: copy", func(ctx context.Context, name string) error {
			image, done := s.use()
			if image == "" {
				return nil
			}
			defer done()
			dir := filepath.Join(s.host.dir, name)
			defer os.RemoveAll(dir)
			return s.all(ctx, []string{"skopeo", "copy", "--quiet", "containers-storage:" + ref(image), "oci:" + dir +
				":copy"})
		}},
		{"shale: export", func(ctx context.Context, name string) error {
			image, done := s.use()
			if image == "" {
				return nil
			}
			defer done()
			out, err := s.host.try(ctx, "shale", "image", ref(image))
			if err != nil {
				return err
			}
			_, layer, _ := strings.Cut(out, "Top Layer: ")
			layer, _, _ = strings.Cut(layer, "\n")
			path := filepath.Join(s.host.dir, name)
			defer os.Remove(path)
			return s.all(ctx, []string{"shale", "diff", "--output", path, layer})
		}},
	}
	for _, tool := range []string{"shale", "podman"} {
		steps = append(steps, step{tool + ": list",
			func(ctx context.Context, _ string) error { return s.list(ctx, tool) }})
	}
	for _, remove := range [][]string{{"shale", "delete-image"}, {"podman", "rmi"}, {"buildah", "rmi"}} {
		steps = append(steps, step{remove[0] + ": delete", func(ctx context.Context, _ string) error {
			name := s.doom()
			if name == "" {
				return nil
			}
			err := s.all(ctx, append(slices.Clone(remove), ref(name)))
			if err != nil && !strings.Contains(err.Error(), "in use") {
				return fmt.Errorf("%s's image: %w", s.images[name].by, err)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.images[name].deleting = false; err == nil {
				delete(s.images, name)
			}
			return nil
		}})
	}
	return steps
}

// list makes sure that a tool lists what was there before it was asked, and that nobody
// has asked to delete.
func (s *storm) list(ctx context.Context, tool string) error {
	s.mu.Lock()
	before := maps.Clone(s.images)
	s.mu.Unlock()
	out, err := s.host.try(ctx, tool, "images")
	for tool == "podman" && err != nil && strings.Contains(err.Error(), "not known") {
		// Podman reads what it has listed and gives up when an image has gone meanwhile,
		// whoever deleted it
		out, err = s.host.try(ctx, tool, "images")
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, i := range before {
		if s.images[name] == i && !i.deleting && !strings.Contains(out, "localhost/"+name) {
			return fmt.Errorf("%s images lacks %s's %s:\n%s", tool, i.by, name, out)
		}
	}
	return nil
}

// aftermath compares what all say there is, and removes it all.
func (s *storm) aftermath(t *testing.T) {
	h := s.host
	h.sound()
	var theirs []string
	for _, id := range h.all("podman", "images", "--all", "--quiet", "--no-trunc") {
		theirs = append(theirs, strings.TrimPrefix(id, "sha256:"))
	}
	ours := h.all("shale", "images", "--quiet")
	slices.Sort(theirs)
	slices.Sort(ours)
	if !slices.Equal(slices.Compact(theirs), ours) || len(ours) != len(s.images)+1 {
		t.Errorf("images: podman %d, shale %d, made and not deleted %d:\n%v\n%v", len(theirs), len(ours), len(s.images)+
			1, theirs, ours)
	}
	layers := h.all("shale", "layers", "--quiet")
	slices.Sort(layers)
	var dirs []string
	entries, err := os.ReadDir(filepath.Join(h.graph, "overlay"))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if len(entry.Name()) == 64 {
			dirs = append(dirs, entry.Name())
		}
	}
	if !slices.Equal(layers, dirs) {
		t.Errorf("layers %v, directories %v", layers, dirs)
	}
	for name := range s.images {
		h.run("podman", "rmi", ref(name))
	}
	h.run("shale", "delete-image", "localhost/base:latest")
	if left := append(h.all("shale", "layers", "--quiet"), h.all("podman", "images", "--all", "--quiet")...); len(
		left) != 0 {
		t.Errorf("left: %v", left)
	}
	h.sound()
}
