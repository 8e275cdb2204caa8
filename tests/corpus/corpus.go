// Package corpus makes the archives that Shale is measured with: real ones, by the tools
// that people make layers with, and one of 60,000 small files. What comes from the
// network or takes long is kept in the tests' cache directory.
package corpus

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/shalestore/shale/internal/testutil"
)

// Archive is one of the corpus.
type Archive struct {
	Name string // a file name too: its extension says how it is compressed
	Why  string // what it has that others don't
	// Make writes the archive, with what it needs of the host taken from testutil.Tool,
	// so that its test skips where that is missing.
	Make func(t testing.TB, path string)
	Keep bool // in the cache, between runs: it comes from the network
	Long bool // only a long run has the time for it
	// Beyond says what the peer can't do with the archive, when it can't: then there is
	// nothing to compare with.
	Beyond string
}

// All is the whole corpus.
func All() []Archive {
	return []Archive{
		{Name: "gnutar-posix.tar", Make: gnutarPosix,
			Why: "PAX headers by GNU tar: xattrs, sub-second times, long names, each type of file"},
		{Name: "gnutar-gnu.tar", Make: gnutarGNU, Why: "GNU headers: long names and link targets, uid beyond octal"},
		{Name: "gnutar-sparse-posix.tar", Make: sparse("posix"), Why: "sparse files, PAX form 1.0",
			Beyond: "it imports the archive and exports other bytes"},
		{Name: "gnutar-sparse-gnu.tar", Make: sparse("gnu"), Why: "sparse files, old GNU form",
			Beyond: "it refuses the header type"},
		{Name: "bsdtar-pax.tar", Make: bsdtarPax,
			Why: "libarchive's PAX headers, its own xattr records beside SCHILY's"},
		{Name: "bsdtar-ustar-gosource.tar.gz", Make: goSource, Why: "plain old ustar of a real source tree, gzip"},
		{Name: "go-odd.tar", Make: goOdd,
			Why: "Go's archive/tar: negative times, directories after their content or never, trailing bytes"},
		{Name: "go-repeated.tar", Make: goRepeated, Why: "entries repeated, with other types too",
			Beyond: "it refuses a path that comes twice"},
		{Name: "capabilities-hardlinks.tar.zst", Make: capabilities,
			Why: "file capabilities, setuid, a hard-link group of 500, zstd"},
		{Name: "npm-typescript.tgz", Make: npm("typescript@5.4.5"), Keep: true,
			Why: "as npm packs it: no directory entries, times of 1985"},
		{Name: "npm-install.tar.xz", Make: npmInstall, Keep: true, Long: true, Why: "a node_modules tree, xz"},
		{Name: "dpkg-coreutils.tar", Make: dpkg("coreutils"), Keep: true, Why: "data.tar of a Debian package"},
		{Name: "debian.tar", Make: debian, Keep: true, Long: true,
			Why: "a Debian root by mmdebstrap: devices, capabilities, hard links"},
		SmallFiles,
	}
}

// SmallFiles is the layer of 60,000 small files that imports are timed with.
var SmallFiles = Archive{Name: "small-60000.tar", Make: smallFiles, Long: true,
	Why: "60,000 small files in 3,000 directories, as a node or python image has them"}

// Path makes the archive, unless the cache has it, and returns where it is.
func (a Archive) Path(t testing.TB) string {
	t.Helper()
	if !a.Keep {
		path := filepath.Join(t.TempDir(), a.Name)
		a.Make(t, path)
		return path
	}
	path := filepath.Join(testutil.CacheDir(), a.Name)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	aside := filepath.Join(t.TempDir(), a.Name)
	a.Make(t, aside)
	if err := move(aside, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// move renames a file, over file systems too, so that it appears whole or not at all.
func move(from, to string) error {
	partial := fmt.Sprintf("%s.%d", to, os.Getpid())
	if out, err := exec.Command("cp", from, partial).CombinedOutput(); err != nil {
		return fmt.Errorf("cp: %w: %s", err, out)
	}
	return errors.Join(os.Rename(partial, to), os.Remove(from))
}

// command runs a program in a directory and fails the test with its output when it fails.
func command(t testing.TB, dir string, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, tail(out))
	}
}

// online is command for what needs the network: three attempts, and then a skip, since a
// mirror that is down says nothing about us.
func online(t testing.TB, dir string, name string, args ...string) {
	t.Helper()
	var out []byte
	var err error
	for range 3 {
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin",
			"SOURCE_DATE_EPOCH=1700000000")
		if out, err = cmd.CombinedOutput(); err == nil {
			return
		}
	}
	t.Skipf("needs the network: %s %q: %v: %s", name, args, err, tail(out))
}

func tail(out []byte) []byte {
	if len(out) > 2000 {
		return out[len(out)-2000:]
	}
	return out
}
