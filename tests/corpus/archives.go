package corpus

import (
	"archive/tar"
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/shalestore/shale/internal/testutil"
)

// everything is a tree with each type of file and every attribute that a layer keeps.
func everything(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	long := strings.Repeat("a-rather-long-directory-name/", 9)
	testutil.Tree(t, dir,
		"etc/ 0755 @1600000000.5",
		`etc/motd="two words\n" 0644 0:0 @1600000000.123456789`,
		"etc/shadow=secret 0640 0:42",
		"etc/empty= 0600",
		"usr/bin/su*40000 04755",
		"usr/bin/wall*20000 02755 0:5",
		"usr/bin/hard=>usr/bin/su",
		"usr/bin/link->su",
		"usr/lib/dangling->/nowhere/at-all",
		"tmp/ 01777 @1700000001.000000001",
		"var/run/pipe| 0600",
		"dev/null%1:3 0666",
		"dev/sda%%8:0 0660 0:6",
		"home/user/ 0700 1000:1000",
		"home/user/note=hello 0644 1000:1000 user.mime=text/plain user.empty=",
		`home/user/attributed/ 0755 user.on-directory="with blanks"`,
		"home/user/trusted=x trusted.key=value",
		"home/big-uid=x 0644 2097151:2097150",
		"home/ünïcödé/日本語=x",
		long+"file=deep",
		"name-of-255/"+strings.Repeat("n", 255)+"=x",
		long+"link->"+strings.Repeat("target/", 40),
		"old=1970 @0 0644", "older=x @1.5", "future=x @4294967296.75",
		"./ 0755 @1500000000")
	return dir
}

func gnutarPosix(t testing.TB, path string) {
	testutil.Root(t)
	command(t, everything(t), "tar", "--format=posix", "--xattrs", "--xattrs-include=*", "--numeric-owner",
		"--sort=name", "-cf", path, ".")
}

func gnutarGNU(t testing.TB, path string) {
	testutil.Root(t)
	dir := everything(t)
	testutil.Tree(t, dir, "uid-beyond-octal=x 0644 4000000000:3000000000")
	command(t, dir, "tar", "--format=gnu", "--numeric-owner", "--sort=name", "-cf", path, ".")
}

func bsdtarPax(t testing.TB, path string) {
	testutil.Root(t)
	bsdtar := testutil.Tool(t, "bsdtar", "libarchive-tools")
	command(t, everything(t), bsdtar, "--format=pax", "--numeric-owner", "--xattrs", "-cf", path, ".")
}

// sparse makes files with holes at the beginning, in the middle, at the end, in many
// places and everywhere.
func sparse(format string) func(t testing.TB, path string) {
	return func(t testing.TB, path string) {
		dir := t.TempDir()
		hole := func(name string, size int64, dataAt ...int64) {
			file, err := os.Create(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			for _, at := range dataAt {
				if _, err := file.WriteAt(testutil.Noise(name, 4096), at); err != nil {
					t.Fatal(err)
				}
			}
			if err := file.Truncate(size); err != nil {
				t.Fatal(err)
			}
		}
		var scattered []int64
		for i := range int64(200) {
			scattered = append(scattered, i*65536)
		}
		hole("begin", 8<<20, 6<<20)
		hole("middle", 8<<20, 0, 8<<20-4096)
		hole("end", 8<<20, 0)
		hole("scattered", 16<<20, scattered...)
		hole("nothing-but-hole", 64<<20)
		hole("none", 8192, 0, 4096)
		command(t, dir, "tar", "--format="+format, "--sparse", "--numeric-owner", "-cf", path, ".")
	}
}

func goSource(t testing.TB, path string) {
	bsdtar := testutil.Tool(t, "bsdtar", "libarchive-tools")
	source := filepath.Join(testutil.GoRoot(t), "src")
	if _, err := os.Stat(source); err != nil {
		t.Skipf("needs the Go toolchain's source: %v", err)
	}
	command(t, source, bsdtar, "--format=ustar", "--numeric-owner", "-czf", path, "net", "encoding", "crypto",
		"archive")
}

// writeTar writes entries with Go's archive/tar and hands back the file, open behind the
// end marker.
func writeTar(t testing.TB, path string, entries func(put func(h tar.Header, content string))) *os.File {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	w := tar.NewWriter(file)
	entries(func(h tar.Header, content string) {
		h.Size, h.Format = int64(len(content)), tar.FormatPAX
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if h.ModTime.IsZero() {
			h.ModTime = time.Unix(1_234_567_890, 12345)
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return file
}

// goOdd is what is allowed and seldom seen.
func goOdd(t testing.TB, path string) {
	file := writeTar(t, path, func(put func(h tar.Header, content string)) {
		put(tar.Header{Name: "never/listed/file"}, "its directories have no entry")
		put(tar.Header{Name: "late/file"}, "before its directory")
		put(tar.Header{Name: "late/", Typeflag: tar.TypeDir, Mode: 0o711, ModTime: time.Unix(1_000_000_000, 5)}, "")
		put(tar.Header{Name: "before-the-epoch", ModTime: time.Unix(-1_000_000_000, 500_000_000)}, "x")
		put(tar.Header{Name: "./dotted/./name"}, "x")
		put(tar.Header{Name: "hard/one"}, "one content")
		put(tar.Header{Name: "hard/two", Typeflag: tar.TypeLink, Linkname: "./hard/one"}, "")
		put(tar.Header{Name: "hard/three", Typeflag: tar.TypeLink, Linkname: "hard/two"}, "")
		put(tar.Header{Name: "hard/to-symlink-target", Typeflag: tar.TypeSymlink, Linkname: "../hard/one"}, "")
		put(tar.Header{Name: "hard/symlink-twin", Typeflag: tar.TypeLink, Linkname: "hard/to-symlink-target"}, "")
		put(tar.Header{Name: "attributes", PAXRecords: map[string]string{
			"SCHILY.xattr.user.binary": "\x01\xff=\n", "comment": "of no meaning"}}, "x")
		put(tar.Header{Name: "owner", Uid: 1 << 31, Gid: 1<<32 - 2}, "x")
		put(tar.Header{Name: "mode", Mode: 0o7777}, "x")
		put(tar.Header{Name: strings.Repeat("d/", 60) + "deep"}, "x")
	})
	// Blocks behind the end marker are part of the blob and come back with it.
	if _, err := file.Write(append(make([]byte, 4096), testutil.Noise("trailing", 1000)...)); err != nil {
		t.Fatal(err)
	}
}

// goRepeated has names that come more than once; the last one counts, and all must be
// exported again.
func goRepeated(t testing.TB, path string) {
	writeTar(t, path, func(put func(h tar.Header, content string)) {
		put(tar.Header{Name: "twice"}, "first")
		put(tar.Header{Name: "linked-to-the-first", Typeflag: tar.TypeLink, Linkname: "twice"}, "")
		put(tar.Header{Name: "twice"}, "second, and longer")
		put(tar.Header{Name: "./twice"}, "third")
		put(tar.Header{Name: "becomes-directory"}, "file")
		put(tar.Header{Name: "becomes-directory", Typeflag: tar.TypeDir, Mode: 0o700}, "")
		put(tar.Header{Name: "becomes-directory/inside"}, "x")
		put(tar.Header{Name: "becomes-link"}, "file")
		put(tar.Header{Name: "becomes-link", Typeflag: tar.TypeSymlink, Linkname: "twice"}, "")
		put(tar.Header{Name: "becomes-file", Typeflag: tar.TypeSymlink, Linkname: "twice"}, "")
		put(tar.Header{Name: "becomes-file"}, "file")
	})
}

func capabilities(t testing.TB, path string) {
	testutil.Root(t)
	setcap, zstd := testutil.Tool(t, "setcap", "libcap2-bin"), testutil.Tool(t, "zstd", "zstd")
	dir := t.TempDir()
	testutil.Tree(t, dir, "bin/ping*70000 0755", "bin/capsh*30000 0755", "bin/su*1000 06755", "linked/0*500 0644 3:4")
	for i := range 500 {
		testutil.Tree(t, dir, fmt.Sprintf("linked/%d=>linked/0", i+1))
	}
	command(t, dir, setcap, "cap_net_raw+ep", "bin/ping")
	command(t, dir, setcap, "cap_sys_admin,cap_setuid=eip", "bin/capsh")
	command(t, dir, "tar", "-I", zstd, "--format=posix", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-cf",
		path, ".")
}

func npm(pkg string) func(t testing.TB, path string) {
	return func(t testing.TB, path string) {
		tool, dir := testutil.Tool(t, "npm", "npm"), t.TempDir()
		online(t, dir, tool, "pack", "--silent", pkg)
		found, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
		if err != nil || len(found) != 1 {
			t.Fatalf("npm pack left %v, %v", found, err)
		}
		if err := os.Rename(found[0], path); err != nil {
			t.Fatal(err)
		}
	}
}

func npmInstall(t testing.TB, path string) {
	tool, xz, dir := testutil.Tool(t, "npm", "npm"), testutil.Tool(t, "xz", "xz-utils"), t.TempDir()
	online(t, dir, tool, "install", "--silent", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", dir,
		"express@4.19.2", "eslint@8.57.0", "lodash@4.17.21")
	command(t, dir, "tar", "-I", xz+" -1", "--format=posix", "--numeric-owner", "-cf", path, "node_modules")
}

func dpkg(pkg string) func(t testing.TB, path string) {
	return func(t testing.TB, path string) {
		tool, apt, dir := testutil.Tool(t, "dpkg-deb", "dpkg"), testutil.Tool(t, "apt-get", "apt"), t.TempDir()
		online(t, dir, apt, "download", "-q", pkg)
		command(t, dir, "sh", "-c", tool+" --fsys-tarfile *.deb > "+path)
	}
}

func debian(t testing.TB, path string) {
	testutil.Root(t)
	tool := testutil.Tool(t, "mmdebstrap", "mmdebstrap")
	online(t, filepath.Dir(path), tool, "--quiet", "--mode=root", "--variant=essential",
		"--include=libcap2-bin,iputils-ping", "--aptopt=Acquire::Retries \"3\"", "bookworm", path,
		"http://deb.debian.org/debian")
}

// smallFiles has the sizes of a node_modules tree: half below 1 KiB, few above 8 KiB.
func smallFiles(t testing.TB, path string) {
	if err := WriteSmallFiles(path, 60_000); err != nil {
		t.Fatal(err)
	}
}

// WriteSmallFiles writes an archive of n small files, always the same bytes for the same
// n.
func WriteSmallFiles(path string, n int) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	buffered := bufio.NewWriterSize(file, 1<<20)
	w := tar.NewWriter(buffered)
	chance := rand.New(rand.NewPCG(60_000, 1))
	noise := testutil.Noise("small", 1<<20)
	at := time.Unix(1_700_000_000, 0)
	dir := "node_modules/"
	enter := func(name string) error {
		dir = name
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755, ModTime: at})
	}
	if err := enter(dir); err != nil {
		return err
	}
	for i := range n {
		if i%200 == 0 {
			if err := enter(fmt.Sprintf("node_modules/package-%d/", i/200)); err != nil {
				return err
			}
		}
		if i%20 == 0 {
			if err := enter(fmt.Sprintf("node_modules/package-%d/lib-%d/", i/200, i%200/20)); err != nil {
				return err
			}
		}
		size := chance.IntN(1024)
		if i%2 == 1 {
			size = 1024 + chance.IntN(7<<10)
		}
		if i%100 == 99 {
			size = 8192 + chance.IntN(64<<10)
		}
		h := &tar.Header{Name: dir + "module-" + strconv.Itoa(i) + ".js", Mode: 0o644, Size: int64(size),
			ModTime: at.Add(time.Duration(i) * time.Second)}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		start := chance.IntN(len(noise) - size)
		if _, err := w.Write(noise[start : start+size]); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := buffered.Flush(); err != nil {
		return err
	}
	return file.Close()
}
