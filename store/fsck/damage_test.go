package fsck_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/store"
	"github.com/shalestore/shale/store/fsck"
)

// Every damage is named with its object, and no object is named that isn't damaged.
// Repair then leaves a sound store with everything in it that isn't listed as lost, and
// garbage collection alone deals with what is garbage.
func TestDamages(t *testing.T) {
	for _, w := range wounds {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			ctx := context.Background()
			p := newPatient(t, "overlay")
			before := p.objects(p.open())
			export(t, p.open(), id("other"))
			w.do(p)

			untouched := testutil.Snapshot(t, filepath.Dir(p.dir))
			report, err := fsck.Check(ctx, p.open(), fsck.CheckOptions{})
			p.must(err)
			testutil.SameTree(t, untouched, testutil.Snapshot(t, filepath.Dir(p.dir)))
			p.compare(report, w.want)
			if garbage := report.Damage().Empty(); garbage != w.garbage {
				t.Errorf("garbage alone: %v, want %v", garbage, w.garbage)
			}

			s := p.open()
			if w.garbage {
				done, err := fsck.GC(ctx, s, fsck.GCOptions{})
				p.must(err)
				if done.Bytes == 0 && !strings.Contains(w.name, "short name") &&
					!strings.Contains(w.name, "incomplete") {
					t.Error("no bytes freed")
				}
			} else {
				if w.force {
					if kept, err := fsck.Repair(ctx, s, report, fsck.RepairOptions{}); err == nil && kept.Left.Empty() {
						t.Error("it didn't need force")
					}
					if all := p.objects(s); !slices.Contains(all, "container box") &&
						!strings.HasPrefix(w.name, "containers.json") {
						t.Error("the container was deleted without force")
					}
					report, err = fsck.Check(ctx, s, fsck.CheckOptions{})
					p.must(err)
				}
				done, err := fsck.Repair(ctx, s, report, fsck.RepairOptions{Force: w.force})
				t.Logf("%+v", done.Done)
				if err != nil || !done.Left.Empty() {
					t.Fatalf("repair: left %+v, %v", done.Left.Findings, err)
				}
			}
			if _, err := os.Stat(p.path("../victim/file")); w.name == "ID that is a path" && err != nil {
				t.Error(err)
			}
			s = p.open()
			noGarbage(t, s)
			want := slices.DeleteFunc(slices.Clone(before), func(o string) bool { return slices.Contains(w.lost, o) })
			if got := p.objects(s); !slices.Equal(got, want) {
				t.Errorf("after repair there are\n%v, want\n%v", got, want)
			}
			whole(t, s, nil)
		})
	}
	t.Logf("%d ways", len(wounds))
}

// compare holds a report against what is wanted: as many objects, and each text found in
// one of their findings.
func (p *patient) compare(report fsck.Report, want []string) {
	p.Helper()
	short := strings.NewReplacer(p.cfg.RunRoot+"/", "run/", p.dir+"/", "")
	var got []string
	for _, f := range report.Findings {
		got = append(got, short.Replace(f.String()))
	}
	fits := func(w, line string) bool {
		kind, rest, _ := strings.Cut(w, " ")
		what, text, _ := strings.Cut(rest, ": ")
		switch {
		case kind == "file":
			for _, word := range []string{"stray", "img", "app", "box"} {
				what = strings.ReplaceAll(what, ":"+word, id(word))
			}
			return strings.HasPrefix(line, "file "+what) && strings.Contains(line, text)
		case kind == "records":
			return strings.HasPrefix(line, "records "+what) && strings.Contains(line, text)
		case what == "*":
			return strings.HasPrefix(line, kind+" ") && strings.Contains(line, text)
		}
		return strings.HasPrefix(line, kind+" "+id(what)+": ") && strings.Contains(line, text)
	}
	for _, w := range want {
		if !slices.ContainsFunc(got, func(line string) bool { return fits(w, line) }) {
			p.Errorf("not named: %s", w)
		}
	}
	for _, line := range got {
		object, _, _ := strings.Cut(line, ": ")
		if !slices.ContainsFunc(want, func(w string) bool {
			return fits(w, line) || strings.HasPrefix(line, "layer ") &&
				slices.ContainsFunc(got, func(other string) bool {
					return strings.HasPrefix(other, object+": ") &&
						fits(w, other)
				})
		}) {
			p.Errorf("invented: %s", line)
		}
	}
	if p.Failed() {
		p.Logf("found:\n%s", strings.Join(got, "\n"))
	}
}

// A layer whose tar was made from files, as a committed container's is, can do without
// its recipe: the files make the same tar again.
func TestRecipeIsMadeAnewFromTheFiles(t *testing.T) {
	for name, damage := range map[string]func(p *patient, recipe string){
		"gone": func(p *patient, recipe string) { p.remove(recipe) },
		"cut":  func(p *patient, recipe string) { p.must(os.Truncate(recipe, 50)) },
	} {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			p := newPatient(t, "overlay")
			s := p.open()
			dir, err := s.Mount(ctx, id("box"), store.MountOptions{})
			p.must(err)
			p.write(filepath.Join(dir, "etc/new"), "by the container")
			p.remove(filepath.Join(dir, "etc/twin"))
			_, err = s.Unmount(ctx, id("box"), false)
			p.must(err)
			committed := export(t, s, id("boxlayer"))
			importLayer(t, s, id("commit"), id("app"), committed)

			damage(p, p.recipe("commit"))
			report, err := fsck.Check(ctx, s, fsck.CheckOptions{})
			p.must(err)
			p.compare(report, []string{"layer commit: "})
			done, err := fsck.Repair(ctx, s, report, fsck.RepairOptions{})
			if err != nil || !done.Left.Empty() {
				t.Fatalf("left %+v, %v", done.Left, err)
			}
			t.Logf("done: %v", done.Done)
			if got := export(t, s, id("commit")); !bytes.Equal(got, committed) {
				t.Errorf("%d bytes come out, of %d", len(got), len(committed))
			}
		})
	}
}

// Nobody is kept from making an image of a container's layer.
func TestImageOfAContainersLayerIsNoDamage(t *testing.T) {
	ctx := context.Background()
	p := newPatient(t, "overlay")
	s := p.open()
	_, err := s.CreateContainer(ctx, store.ContainerOptions{ID: id("scratch"), Layer: id("scratchlayer")})
	p.must(err)
	for _, top := range []string{id("boxlayer"), id("scratchlayer")} {
		_, err := s.CreateImage(ctx, store.ImageOptions{TopLayer: top})
		p.must(err)
	}
	if report, err := fsck.Check(ctx, s, fsck.CheckOptions{}); err != nil || !report.Empty() {
		t.Errorf("%+v, %v", report, err)
	}
}
