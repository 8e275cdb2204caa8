package archive_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/shalestore/shale/archive/tarsplit"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/testutil"
	"golang.org/x/sys/unix"
)

func gzipped(t testing.TB, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.WriteString(z, text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// fileLine is the record of a file with that content.
func fileLine(name, content string) string {
	sum := crc64.New(crc64.MakeTable(crc64.ISO))
	io.WriteString(sum, content)
	return fmt.Sprintf(`{"type":1,"name":%q,"size":%d,"payload":"%s","position":0}`+"\n",
		name, len(content), base64.StdEncoding.EncodeToString(sum.Sum(nil)))
}

// A tar-split stream comes with a layer in some formats, so its author may want the
// host's files. Names stay below the directory, whatever they say and whatever links the
// layer holds.
func TestReplayReadsNothingOutside(t *testing.T) {
	for _, name := range []string{
		"../secret", "../../secret", "/../secret", "a/../../secret", "./../secret", "a/b/../../../secret",
		"//../secret",
		"up/secret", "up/../secret", "abs/secret", "file-link", "abs-link", "proc-link", "root-link/secret",
		"loop/secret", "./up/./secret",
		"/proc/self/environ", "a/up2/secret", "dir", "", ".", "..", "/", "secret/", "a\x00b",
		strings.Repeat("x/", 3000) + "secret", strings.Repeat("y", 300),
	} {
		t.Run(fmt.Sprintf("%.30q", name), func(t *testing.T) {
			dir := t.TempDir()
			layer := filepath.Join(dir, "layer")
			testutil.Tree(t, layer, "a/b/c=x", "dir/secret2=x", "up->..", "abs->"+dir, "file-link->../secret",
				"abs-link->"+dir+"/secret",
				"proc-link->/proc/self/root"+dir+"/secret", "root-link->/proc/self/cwd", "loop->loop", "a/up2->../..")
			testutil.Tree(t, dir, "secret=classified")
			var out bytes.Buffer
			err := tarsplit.Replay(t.Context(), &out, bytes.NewReader(gzipped(t, fileLine(name, "classified"))),
				[]string{layer})
			if !errors.Is(err, errdefs.ErrCorrupt) || out.Len() > 0 {
				t.Errorf("%v, %q", err, out.Bytes())
			}
		})
	}
	// The same links are followed where they lead inside.
	dir := t.TempDir()
	testutil.Tree(t, dir, "usr/lib/so=classified", "lib->/usr/lib", "up->..")
	for _, name := range []string{"lib/so", "./lib/so", "/lib/so", "up/lib/so", "../usr/lib/so"} {
		if err := tarsplit.Replay(t.Context(), io.Discard, bytes.NewReader(gzipped(t, fileLine(name, "classified"))),
			[]string{dir}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is no tar-split stream is refused with its line, in little memory.
func TestReplayRefusesWhatIsNoTarSplit(t *testing.T) {
	segment := `{"type":2,"payload":"YWJj","position":0}` + "\n"
	cases := map[string]struct {
		stream []byte
		says   string
	}{
		"nothing":         {nil, "EOF"},
		"no gzip":         {[]byte("{\"type\":2}\n"), "gzip"},
		"cut short":       {gzipped(t, strings.Repeat(segment, 1000))[:60], "EOF"},
		"damaged":         {damaged(gzipped(t, segment)), "checksum"},
		"no JSON":         {gzipped(t, "hello\n"), "line 1"},
		"a half line":     {gzipped(t, segment+segment[:20]), "line 2"},
		"an array":        {gzipped(t, "[1]\n"), "line 1"},
		"something after": {gzipped(t, `{"type":2,"payload":""} x`+"\n"), "line 1"},
		"a nested object": {gzipped(t, `{"type":{"type":2}}`+"\n"), "line 1"},
		"an unknown type": {gzipped(t, `{"type":3,"payload":"YWJj"}`+"\n"), "type 3"},
		"no type":         {gzipped(t, `{"payload":"YWJj"}`+"\n"), "type 0"},
		"a negative size": {gzipped(t, `{"type":1,"name":"a","size":-1,"payload":"AAAAAAAAAAA="}`+"\n"),
			"size -1"},
		"a size beyond 2^63": {gzipped(t, `{"type":1,"name":"a","size":9223372036854775808,"payload":"AAAAAAAAAAA="}`+
			"\n"), `"size"`},
		"a fraction": {gzipped(t, `{"type":1,"name":"a","size":1.5,"payload":"AAAAAAAAAAA="}`+"\n"),
			"line 1"},
		"a short checksum":    {gzipped(t, `{"type":1,"name":"a","size":1,"payload":"AAAA"}`+"\n"), "checksum"},
		"no checksum":         {gzipped(t, `{"type":1,"name":"a","size":1,"payload":null}`+"\n"), "checksum"},
		"bad base64":          {gzipped(t, `{"type":2,"payload":"!!!!"}`+"\n"), `"payload"`},
		"an unknown key":      {gzipped(t, `{"type":2,"payload":"YWJj","command":"x"}`+"\n"), `"command"`},
		"an open string":      {gzipped(t, `{"type":2,"payload":"YWJj`+"\n"), "line 1"},
		"a leading zero":      {gzipped(t, `{"type":2,"payload":"","position":00}`+"\n"), `"position"`},
		"a control character": {gzipped(t, "{\"type\":2,\"payload\":\"YW\rJj\"}\n"), `"payload"`},
		"a name not in UTF-8": {gzipped(t, "{\"type\":1,\"name\":\"\xff\"}\n"), `"name"`},
		"a bad escape":        {gzipped(t, `{"type":1,"name":"\x"}`+"\n"), `"name"`},
		"an endless line":     {gzipped(t, `{"type":2,"payload":"`+strings.Repeat("A", 64<<20)), "longer than"},
		"an endless name": {gzipped(t, `{"type":1,"name":"`+strings.Repeat("a/", 3<<20)+
			`","size":1,"payload":"AAAAAAAAAAA="}`+"\n"), "no such file"},
		"the largest of sizes": {gzipped(t, `{"type":1,"name":"f","size":9223372036854775807,"payload":"AAAAAAAAAAA="}`+
			"\n"), "5 bytes"},
	}
	dir := t.TempDir()
	testutil.Tree(t, dir, "f=12345")
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := tarsplit.Replay(t.Context(), io.Discard, bytes.NewReader(c.stream), []string{dir})
			runtime.ReadMemStats(&after)
			if !errors.Is(err, errdefs.ErrCorrupt) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %.300v, want %q", err, c.says)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 96<<20 {
				t.Errorf("took %d MiB", used>>20)
			}
		})
	}
}

func damaged(gz []byte) []byte {
	gz[len(gz)-6] ^= 1 // in the CRC at the end
	return gz
}

// Half a megabyte that unpacks to gigabytes passes through in constant memory.
func TestReplayOfABombIsBounded(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	line := []byte(`{"type":2,"payload":"` + strings.Repeat("AAAA", 1<<20) + `","position":0}` + "\n")
	for range 60 {
		if _, err := z.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	var start, now runtime.MemStats
	runtime.ReadMemStats(&start)
	var n, peak int64
	err := tarsplit.Replay(t.Context(), writerFunc(func(p []byte) (int, error) {
		if n += int64(len(p)); n%(8<<20) < int64(len(p)) {
			runtime.ReadMemStats(&now)
			peak = max(peak, int64(now.HeapAlloc)-int64(start.HeapAlloc))
		}
		return len(p), nil
	}), &bomb, nil)
	if err != nil || n != 60*3<<20 {
		t.Fatalf("%v after %d bytes", err, n)
	}
	if peak > 128<<20 {
		t.Errorf("takes up to %d MiB", peak>>20)
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// A FIFO or a device in the place of a file is not opened.
func TestReplayOpensRegularFilesOnly(t *testing.T) {
	testutil.Root(t)
	dir := t.TempDir()
	testutil.Tree(t, dir, "fifo|", "dev%5:2")
	watch, err := unix.InotifyInit1(unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(watch)
	for _, name := range []string{"fifo", "dev"} {
		if _, err := unix.InotifyAddWatch(watch, filepath.Join(dir, name), unix.IN_OPEN); err != nil {
			t.Fatal(err)
		}
		err := tarsplit.Replay(t.Context(), io.Discard, bytes.NewReader(gzipped(t, fileLine(name, "x"))), []string{dir})
		if !errors.Is(err, errdefs.ErrCorrupt) || !strings.Contains(err.Error(), "no regular file") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n, err := unix.Read(watch, make([]byte, 4096)); err != unix.EAGAIN {
		t.Errorf("%d bytes of news about files being opened, %v", n, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "fifo")); err != nil {
		t.Error(err)
	}
}
