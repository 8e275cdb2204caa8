package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shalestore/shale/internal/testutil"
)

const testVersion = "v0.0.1-test"

// A release makes tags, a commit and modules that install without this repository: the
// program by `go install`, from a proxy and from the tags, and the library into a program
// that gets nothing of the command line's with it.
func TestRelease(t *testing.T) {
	testutil.NeedsLong(t)
	top, err := run("", "git", "rev-parse", "--show-toplevel")
	if err != nil {
		t.Skipf("needs a git repository: %v", err)
	}
	cache, err := run("", "go", "env", "GOMODCACHE")
	if err != nil {
		t.Fatal(err)
	}
	clone, proxy := filepath.Join(t.TempDir(), "shale"), t.TempDir()
	git := func(args ...string) string {
		t.Helper()
		out, err := run(clone, "git", args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if _, err := run("", "git", "clone", "-q", "--no-tags", top, clone); err != nil {
		t.Fatal(err)
	}
	git("switch", "-q", "-C", "main")
	git("config", "user.name", "Release")
	git("config", "user.email", "release@example.org")
	t.Chdir(clone)
	before := git("rev-parse", "HEAD")
	if err := release(testVersion, proxy, true); err != nil {
		t.Fatal(err)
	}
	if left := git("tag") + git("status", "--porcelain"); left != "" || git("rev-parse", "HEAD") != before {
		t.Errorf("a dry run left %s", left)
	}
	if err := os.WriteFile("CHANGELOG.md", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	err = release(testVersion, "", false)
	if err == nil || !strings.Contains(err.Error(), "not all of it is committed") {
		t.Errorf("of a tree with changes: %v", err)
	}
	git("restore", "CHANGELOG.md")
	if err := release(testVersion, proxy, false); err != nil {
		t.Fatal(err)
	}

	modules, err := workspace(clone)
	if err != nil {
		t.Fatal(err)
	}
	var tags []string
	for _, m := range modules {
		tags = append(tags, strings.TrimPrefix(m.Folder+"/"+testVersion, "./"))
	}
	slices.Sort(tags)
	if got := strings.Fields(git("tag")); !slices.Equal(got, tags) {
		t.Errorf("tags %q, want %q", got, tags)
	}
	for _, tag := range tags {
		if git("rev-parse", tag+"^{commit}") != git("rev-parse", "HEAD") || git("rev-parse", "HEAD^") != before {
			t.Errorf("%s isn't the commit of the release, on what was there", tag)
		}
	}
	text := git("show", testVersion+":CHANGELOG.md")
	if !strings.Contains(text, "\n## [Unreleased]\n\n## [0.0.1-test] - ") {
		t.Error("the changelog has no section for the version below the head of what is unreleased")
	}
	for version, want := range map[string]string{
		testVersion: "already exists", "v0.0.1-a": "comes before v0.0.1-test", "v0.0.0": "comes before v0.0.1-test",
	} {
		if err := release(version, "", false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s after %s: %v, want %q", version, testVersion, err, want)
		}
	}

	dir := t.TempDir()
	golang := func(env []string, args ...string) string {
		t.Helper()
		cmd := exec.Command("go", args...)
		cmd.Env = append(cmd.Environ(), "GOWORK=off", "CGO_ENABLED=0", "GOBIN="+dir,
			"GOFLAGS=-modcacherw -trimpath", "GOMODCACHE="+filepath.Join(dir, "modules"),
			"GOPROXY=file://"+proxy+",file://"+filepath.Join(cache, "cache/download")+",https://proxy.golang.org",
			"GONOSUMDB=github.com/shalestore", "GONOPROXY=none", "GOPRIVATE=")
		cmd.Env = append(cmd.Env, env...)
		out, err := output(cmd, dir)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	fromTags := []string{"GONOPROXY=github.com/shalestore", "GOMODCACHE=" + filepath.Join(dir, "from-tags"),
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=url." + clone + ".insteadOf",
		"GIT_CONFIG_VALUE_0=https://github.com/shalestore/shale"}
	for from, env := range map[string][]string{"proxy": nil, "tags": fromTags} {
		golang(env, "install", "github.com/shalestore/shale/cmd/shale@"+testVersion)
		program := filepath.Join(dir, "shale")
		if said, err := exec.Command(program, "version").CombinedOutput(); err != nil ||
			!strings.Contains(string(said), testVersion) {
			t.Errorf("the program installed from the %s: %v: %s", from, err, said)
		}
		if err := os.Remove(program); err != nil {
			t.Fatal(err)
		}
	}

	program := "package main\n\nimport _ \"github.com/shalestore/shale/store\"\n\nfunc main() {}\n"
	for name, text := range map[string]string{"go.mod": "module example.org/program\n\ngo 1.26\n", "main.go": program} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golang(nil, "get", "github.com/shalestore/shale/store@"+testVersion)
	golang(nil, "build", ".")
	graph := golang(nil, "list", "-m", "all")
	for _, path := range []string{"github.com/spf13/cobra", "go.podman.io/storage", "github.com/shalestore/shale/cmd"} {
		if strings.Contains(graph, path+" ") {
			t.Errorf("a program that links the library has %s in its module graph", path)
		}
	}
}

func TestCutChangelog(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"the first", "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- a\n",
			"# Changelog\n\n## [Unreleased]\n\n## [1.2.3] - 2026-12-01\n\n### Added\n\n- a\n"},
		{"another", "## [Unreleased]\n\n- b\n\n## [1.2.2] - 2026-11-01\n\n- a\n",
			"## [Unreleased]\n\n## [1.2.3] - 2026-12-01\n\n- b\n\n## [1.2.2] - 2026-11-01\n\n- a\n"},
		{"nothing new", "## [Unreleased]\n\n## [1.2.2] - 2026-11-01\n\n- a\n", ""},
		{"twice", "## [Unreleased]\n\n- b\n\n## [1.2.3] - 2026-11-01\n\n- a\n", ""},
		{"no such section", "# Changelog\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "CHANGELOG.md")
			if err := os.WriteFile(path, []byte(c.text), 0o644); err != nil {
				t.Fatal(err)
			}
			err := cutChangelog(path, "v1.2.3", time.Date(2026, 12, 1, 1, 0, 0, 0, time.UTC))
			got, _ := os.ReadFile(path)
			switch {
			case c.want == "" && (err == nil || string(got) != c.text):
				t.Errorf("no error, or changed: %v\n%s", err, got)
			case c.want != "" && (err != nil || string(got) != c.want):
				t.Errorf("%v\n%s", err, got)
			}
		})
	}
}

func TestVersions(t *testing.T) {
	for version, ok := range map[string]bool{"v0.1.0": true, "v1.2.3-rc.1": true, "1.2.3": false, "v1.2": false,
		"v01.2.3": false} {
		if semver.MatchString(version) != ok {
			t.Errorf("%s: %v", version, !ok)
		}
	}
}
