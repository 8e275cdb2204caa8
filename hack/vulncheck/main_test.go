package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/shalestore/shale/internal/testutil"
)

// A machine without a network checks nothing, which is told from a clean check and from a
// vulnerability.
func TestNetworkAway(t *testing.T) {
	t.Setenv("GOPROXY", "off")
	t.Setenv("GOMODCACHE", t.TempDir())
	if err := run(nil); !errors.Is(err, errAway) {
		t.Errorf("without a network: %v", err)
	}
}

// A function that a report is about fails the check when it is called, and only then.
func TestReached(t *testing.T) {
	testutil.NeedsLong(t)
	for calls, reached := range map[string]bool{"ToUpper": true, "ToLower": false} {
		t.Run(calls, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range map[string]string{
				"reports/GO-2026-0001.json": `{"id": "GO-2026-0001", "modified": "2026-01-01T00:00:00Z",
					"affected": [{"package": {"name": "stdlib", "ecosystem": "Go"},
						"ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}]}],
						"ecosystem_specific": {"imports": [{"path": "strings", "symbols": ["ToUpper"]}]}}],
					"database_specific": {"url": "https://example.org/GO-2026-0001"}}`,
				"program/go.mod": "module example.org/program\n\ngo 1.26\n",
				"program/main.go": "package main\n\nimport \"strings\"\n\n" +
					"func main() { println(strings." + calls + "(\"a\")) }\n",
			} {
				path := filepath.Join(dir, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			t.Setenv("GOWORK", "off")
			err := check(dir, filepath.Join(dir, "reports"), []string{filepath.Join(dir, "program")})
			if errors.Is(err, errAway) {
				t.Skipf("needs the module proxy: %v", err)
			}
			var exit *exec.ExitError
			found := errors.As(err, &exit) && exit.ExitCode() == 3
			if found != reached || !reached && err != nil {
				t.Errorf("a program that calls %s: %v", calls, err)
			}
		})
	}
}
