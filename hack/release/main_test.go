package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shalestore/shale/internal/testutil"
)

const testVersion = "v0.0.1-test"

// What a release publishes installs without this repository: the program by `go install`,
// and the library into a program that gets nothing of the command line's with it.
func TestInstallFromProxy(t *testing.T) {
	testutil.NeedsLong(t)
	if _, err := run("", "git", "rev-parse", "HEAD"); err != nil {
		t.Skipf("needs a git repository: %v", err)
	}
	proxy := t.TempDir()
	if err := release(testVersion, proxy, true); err != nil {
		t.Fatal(err)
	}
	cache, err := run("", "go", "env", "GOMODCACHE")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	golang := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("go", args...)
		cmd.Env = append(cmd.Environ(), "GOWORK=off", "CGO_ENABLED=0", "GOBIN="+dir,
			"GOFLAGS=-modcacherw -trimpath", "GOMODCACHE="+filepath.Join(dir, "modules"),
			"GOPROXY=file://"+proxy+",file://"+filepath.Join(cache, "cache/download")+",https://proxy.golang.org",
			"GONOSUMDB=github.com/shalestore", "GONOPROXY=none", "GOPRIVATE=")
		out, err := output(cmd, dir)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}

	golang("install", "github.com/shalestore/shale/cmd/shale@"+testVersion)
	said, err := exec.Command(filepath.Join(dir, "shale"), "version").CombinedOutput()
	if err != nil || !strings.Contains(string(said), testVersion) {
		t.Errorf("the installed program: %v: %s", err, said)
	}

	program := "package main\n\nimport _ \"github.com/shalestore/shale/store\"\n\nfunc main() {}\n"
	for name, text := range map[string]string{"go.mod": "module example.org/program\n\ngo 1.26\n", "main.go": program} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golang("get", "github.com/shalestore/shale/store@"+testVersion)
	golang("build", ".")
	graph := golang("list", "-m", "all")
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
