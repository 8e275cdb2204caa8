package corpus

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shalestore/shale/internal/testutil"
)

// decision is an archive that somebody else's tool makes, or could have made.
type decision struct {
	name, has, why string
	put            func(t testing.TB, path string)
}

// foreign lists the archives of the table, those of tools first.
func foreign() []decision {
	list := []decision{
		{"gnutar-v7", "the headers of 1979", "", byTar("--format=v7", "--exclude=./dev")},
		{"gnutar-ustar", "ustar", "", byTar("--format=ustar")},
		{"gnutar-oldgnu", "GNU headers before 1.13.9", "", byTar("--format=oldgnu")},
		{"gnutar-gnu", "GNU headers", "", byTar("--format=gnu")},
		{"gnutar-posix", "PAX headers with sub-second times", "", byTar("--format=posix")},
		{"gnutar-label", "a volume label, type V", "layers have no such entries", byTar("--format=gnu", "-V", "label")},
		{"gnutar-incremental", "directories of type D with the list of their names", "layers have no such entries",
			byTar("--format=gnu", "--incremental")},
		{"gnutar-sparse-0.0", "a sparse map in PAX records", "", sparsely("--sparse-version=0.0")},
		{"gnutar-sparse-0.1", "a sparse map in one PAX record", "", sparsely("--sparse-version=0.1")},
		{"gnutar-sparse-1.0", "a sparse map before the content", "", sparsely("--sparse-version=1.0")},
		{"gnutar-concatenated", "two archives, one behind the other", "what stands behind the end is kept and not read",
			func(t testing.TB, path string) {
				byTar("--format=gnu")(t, path)
				data := bytes.Repeat(must(os.ReadFile(path)), 2)
				writeFile(t, path, data)
			}},
		{"bsdtar-ustar", "libarchive's ustar", "", byBSDTar("ustar")},
		{"bsdtar-gnutar", "libarchive's GNU headers", "", byBSDTar("gnutar")},
		{"bsdtar-pax", "libarchive's PAX headers", "", byBSDTar("pax")},
		{"bsdtar-cpio", "no tar: cpio", "not a tar", byBSDTar("newc")},
		{"bsdtar-zip", "no tar: zip", "not a tar", byBSDTar("zip")},
		{"bsdtar-7zip", "no tar: 7-Zip", "not a tar", byBSDTar("7zip")},
		{"busybox", "what BusyBox writes", "", func(t testing.TB, path string) {
			command(t, small(t), testutil.Tool(t, "busybox", "busybox"), "tar", "-cf", path, ".")
		}},
		{"python-ustar", "CPython's tarfile, ustar", "", byPython("USTAR_FORMAT")},
		{"python-gnu", "CPython's tarfile, GNU", "", byPython("GNU_FORMAT")},
		{"python-pax", "CPython's tarfile, PAX", "", byPython("PAX_FORMAT")},
		{"git-archive", "a global PAX header with the commit", "", func(t testing.TB, path string) {
			dir := small(t)
			for _, args := range [][]string{{"init", "-q"}, {"add", "f"},
				{"-c", "user.name=x", "-c", "user.email=x", "commit", "-qm", "x"},
				{"archive", "-o", path, "--format=tar", "HEAD"}} {
				command(t, dir, testutil.Tool(t, "git", "git"), args...)
			}
		}},
		{"dpkg-data", "data.tar of a Debian package", "", func(t testing.TB, path string) {
			deb := debianPackage(t)
			command(t, filepath.Dir(deb), "sh", "-c", "dpkg-deb --fsys-tarfile "+deb+" > "+path)
		}},
		{"dpkg-deb", "no tar: the package itself, an ar", "not a tar", func(t testing.TB, path string) {
			writeFile(t, path, must(os.ReadFile(debianPackage(t))))
		}},
		{"go-pax", "Go's archive/tar, PAX", "", byGo(tar.FormatPAX)},
		{"go-gnu", "Go's archive/tar, GNU", "", byGo(tar.FormatGNU)},
		{"go-ustar", "Go's archive/tar, ustar", "", byGo(tar.FormatUSTAR)},
	}
	for _, tool := range [][3]string{{"gzip", "gzip", "gzip"}, {"bzip2", "bzip2", "bzip2"}, {"xz", "xz", "xz-utils"},
		{"zstd", "zstd", "zstd"}, {"lz4", "lz4", "lz4"}} {
		why := ""
		if tool[0] == "lz4" {
			why = "layers aren't compressed like that"
		}
		list = append(list, decision{"compressed-" + tool[0], "the compression of " + tool[0], why,
			func(t testing.TB, path string) {
				program := testutil.Tool(t, tool[1], tool[2])
				byTar("--format=gnu")(t, path+".plain")
				command(t, filepath.Dir(path), "sh", "-c", program+" -c < "+path+".plain > "+path)
			}})
	}
	return append(list, handmade()...)
}

func must(data []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return data
}

func writeFile(t testing.TB, path string, data []byte) {
	t.Helper()
	testutil.WriteFile(t, path, data, 0o644)
}

// small is a tree that every format can hold.
func small(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	testutil.Tree(t, dir, "f=hello 0640 7:8 @1600000000", "d/g=world @1600000001", "d/l->g", "h=>f",
		"d/ 0750 @1600000002", "dev%1:3 @1600000003")
	return dir
}

func byTar(args ...string) func(t testing.TB, path string) {
	return func(t testing.TB, path string) {
		command(t, small(t), "tar", append(args, "--numeric-owner", "--sort=name", "-cf", path, ".")...)
	}
}

func sparsely(version string) func(t testing.TB, path string) {
	return func(t testing.TB, path string) {
		dir := t.TempDir()
		file := filepath.Join(dir, "sparse")
		writeFile(t, file, []byte("x"))
		if err := os.Truncate(file, 1<<20); err != nil {
			t.Fatal(err)
		}
		command(t, dir, "tar", "--format=posix", "--sparse", version, "-cf", path, ".")
	}
}

func byBSDTar(format string) func(t testing.TB, path string) {
	return func(t testing.TB, path string) {
		command(t, small(t), testutil.Tool(t, "bsdtar", "libarchive-tools"), "--format="+format, "--numeric-owner",
			"--exclude=dev", "-cf", path, ".")
	}
}

func byPython(format string) func(t testing.TB, path string) {
	return func(t testing.TB, path string) {
		command(t, small(t), testutil.Tool(t, "python3", "python3"), "-c",
			"import sys, tarfile\nwith tarfile.open(sys.argv[1], 'w', format=tarfile."+format+") as t: t.add('.')",
			path)
	}
}

func byGo(format tar.Format) func(t testing.TB, path string) {
	return func(t testing.TB, path string) {
		var out bytes.Buffer
		w := tar.NewWriter(&out)
		if err := w.AddFS(os.DirFS(small(t))); err != nil && !strings.Contains(err.Error(), "non-regular") {
			t.Fatal(err)
		}
		h := tar.Header{Name: "last", Size: 1, Mode: 0o644, Format: format, ModTime: time.Unix(1.6e9, 0)}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		w.Close()
		writeFile(t, path, out.Bytes())
	}
}

// debianPackage builds a package, so that no network is needed.
func debianPackage(t testing.TB) string {
	t.Helper()
	tool, dir := testutil.Tool(t, "dpkg-deb", "dpkg"), t.TempDir()
	testutil.Tree(t, dir, "p/usr/bin/tool=x 0755 @1600000000", "p/usr/share/doc/tool/copyright=x @1600000000",
		`p/DEBIAN/control="Package: tool\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x.org>\nDescription: x\n"`)
	deb := filepath.Join(dir, "tool.deb")
	command(t, dir, tool, "--build", "p", deb)
	return deb
}

// entry is a ustar header by hand, with its content.
func entry(name string, kind byte, link, content string, change ...func(h []byte)) []byte {
	h := make([]byte, 512)
	copy(h, name)
	copy(h[100:], "0000644\x000000000\x000000000\x00")
	copy(h[124:], fmt.Sprintf("%011o\x00", len(content)))
	copy(h[136:], fmt.Sprintf("%011o\x00", 1_600_000_000))
	h[156] = kind
	copy(h[157:], link)
	copy(h[257:], "ustar\x0000")
	if kind == '5' {
		copy(h[100:], "0000755")
	}
	sum := func() {
		copy(h[148:], "        ")
		total := 0
		for _, b := range h {
			total += int(b)
		}
		copy(h[148:], fmt.Sprintf("%06o\x00 ", total))
	}
	sum()
	for _, f := range change {
		f(h)
		if !bytes.HasPrefix(h[148:], []byte("as it is")) {
			sum()
		}
	}
	out := append(h, content...)
	return append(out, make([]byte, (512-len(out)%512)%512)...)
}

func pax(kind byte, records ...string) []byte {
	var body strings.Builder
	for _, r := range records {
		n := len(r) + 3
		for len(fmt.Sprintf("%d %s\n", n, r)) != n {
			n++
		}
		fmt.Fprintf(&body, "%d %s\n", n, r)
	}
	return entry("pax", kind, "", body.String())
}

var end = make([]byte, 1024)

func parts(all ...[]byte) func(t testing.TB, path string) {
	return func(t testing.TB, path string) { writeFile(t, path, bytes.Join(all, nil)) }
}

func handmade() []decision {
	file := entry("f", '0', "", "hello")
	zipped := func(data []byte) []byte {
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		w.Write(data)
		w.Close()
		return out.Bytes()
	}
	return []decision{
		{"empty-input", "not a byte", "a pipe that broke is no layer", parts()},
		{"empty-archive", "the end alone", "", parts(end)},
		{"no-end", "entries without the end", "many tools forget it", parts(file)},
		{"half-an-end", "one block of zeros", "", parts(file, end[:512])},
		{"garbage-behind-the-end", "bytes behind the end", "they are kept, and come out again",
			parts(file, end, []byte("garbage"))},
		{"cut-in-content", "the input ends in a file's content", "the rest is missing", parts(file[:514])},
		{"cut-in-header", "the input ends in a header", "the rest is missing", parts(file, file[:100])},
		{"gzip-padded", "zeros behind the gzip stream", "as tapes pad", parts(zipped(append(file, end...)), end)},
		{"gzip-cut", "half of a gzip stream", "the rest is missing", parts(zipped(append(file, end...))[:40])},
		{"gzip-members", "two gzip members, one archive", "", parts(zipped(file), zipped(end))},
		{"checksum", "a header whose sum is wrong", "damaged", parts(entry("f", '0', "", "x", func(h []byte) {
			copy(h[148:], "as it is")
		}), end)},
		{"contiguous", "a file of type 7", "a file", parts(entry("f", '7', "", "x"), end)},
		{"old-directory", "a directory by its name alone", "", parts(entry("d/", 0, "", ""), end)},
		{"unknown-type", "an entry of type Z", "what it is nobody can know", parts(entry("f", 'Z', "", "x"), end)},
		{"multi-volume", "type M, the rest of a file of another volume", "half a file is no file",
			parts(entry("f", 'M', "", "x", gnuMagic), end)},
		{"name-up", "a name with ..", "it leads out of the layer", parts(entry("../f", '0', "", "x"), end)},
		{"name-up-inside", "a name with .. that stays inside", "it stays inside", parts(entry("d/", '5', "", ""),
			entry("d/../f", '0', "", "x"), end)},
		{"name-absolute", "a name from /", "from the layer's root", parts(entry("/f", '0', "", "x"), end)},
		{"name-empty", "an entry without a name", "nothing has no name", parts(entry("", '0', "", "x"), end)},
		{"root-link", "the root as a symbolic link", "the layer's root is a directory",
			parts(entry("./", '2', "/etc", ""), end)},
		{"root-directory", "the root as a directory", "", parts(entry("./", '5', "", ""), file, end)},
		{"through-link", "a file beneath a symbolic link that leads out",
			"links are followed inside the layer, as in a container",
			parts(entry("d", '2', "/tmp", ""), entry("d/shale-never-there", '0', "", "x"), end)},
		{"beneath-file", "a file beneath a file", "a file is no directory",
			parts(file, entry("f/g", '0', "", "x"), end)},
		{"hard-link-absolute", "a hard link to /f", "from the layer's root",
			parts(file, entry("h", '1', "/f", ""), end)},
		{"hard-link-up", "a hard link to ../f", "it leads out of the layer",
			parts(file, entry("h", '1', "../f", ""), end)},
		{"hard-link-nowhere", "a hard link to nothing", "there is no content", parts(entry("h", '1', "none", ""), end)},
		{"hard-link-later", "a hard link before its target", "there is no content yet",
			parts(entry("h", '1', "f", ""), file, end)},
		{"hard-link-directory", "a hard link to a directory", "no file system has them",
			parts(entry("d/", '5', "", ""), entry("h", '1', "d", ""), end)},
		{"hard-link-content", "a hard link with content", "POSIX allows it, and nobody agrees on what it means",
			parts(file, entry("h", '1', "f", "other"), end)},
		{"twice", "a name that comes twice", "the last one counts", parts(file, entry("f", '0', "", "second"), end)},
		{"file-then-directory", "a file, then a directory of that name", "the last one counts",
			parts(file, entry("f/", '5', "", ""), end)},
		{"directory-then-file", "a directory with content, then a file of that name", "",
			parts(entry("f/", '5', "the last one counts", ""), entry("f/g", '0', "", "x"), file, end)},
		{"pax-size", "a PAX size, and 0 in the header", "the PAX size counts, as POSIX says",
			parts(pax('x', "size=5"), entry("f", '0', "", "hello", func(h []byte) {
				copy(h[124:], "00000000000")
			}), end)},
		{"pax-malformed", "a PAX record without its length", "skipping it would show another tree",
			parts(entry("pax", 'x', "", "path=g\n"), file, end)},
		{"pax-path", "a PAX path", "", parts(pax('x', "path=g"), file, end)},
		{"pax-path-nul", "a PAX path with a zero byte", "no file can have the name",
			parts(pax('x', "path=g\x00h"), file, end)},
		{"pax-time", "a PAX time of nine digits", "", parts(pax('x', "mtime=1600000000.123456789"), file, end)},
		{"pax-uid", "a PAX uid of 2³²", "no owner has it; cut off it would be root",
			parts(pax('x', "uid=4294967296"), file, end)},
		{"pax-global", "a global PAX header that gives owners",
			"global headers come out again, and apply to nothing, as in Go's reader",
			parts(pax('g', "uid=7"), file, end)},
		{"uid-negative", "a binary uid of −1", "no owner has it", parts(entry("f", '0', "", "x", func(h []byte) {
			copy(h[108:], bytes.Repeat([]byte{0xff}, 8))
		}), end)},
		{"overlay-attribute", "trusted.overlay.redirect as an extended attribute", "it is overlay's, and left out",
			parts(pax('x', "SCHILY.xattr.trusted.overlay.redirect=/etc"), file, end)},
		{"device", "a device node", "", parts(entry("null", '3', "", "", func(h []byte) {
			copy(h[329:], "0000001\x000000003\x00")
		}), end)},
		{"pipe", "a pipe", "", parts(entry("p", '6', "", ""), end)},
		{"setuid", "a setuid file", "", parts(entry("f", '0', "", "x", func(h []byte) {
			copy(h[100:], "0004755")
		}), end)},
	}
}

func gnuMagic(h []byte) { copy(h[257:], "ustar  \x00") }
