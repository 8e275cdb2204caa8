package archive_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/shalestore/shale/archive/apply"
	"github.com/shalestore/shale/internal/testutil"
)

// memberStream makes a long archive while it is read.
type memberStream struct {
	n, next int
	make    func(i int) member
	buf     []byte
}

func (s *memberStream) Read(p []byte) (int, error) {
	for len(s.buf) == 0 {
		if s.next > s.n {
			return 0, io.EOF
		}
		if s.next == s.n {
			s.buf = make([]byte, 1024)
		} else {
			s.buf = joined(s.make(s.next))
		}
		s.next++
	}
	n := copy(p, s.buf)
	s.buf = s.buf[n:]
	return n, nil
}

// Whatever the layer, Go's heap stays below 24 MiB. With the 24 MiB of blocks outside of
// it, and the runtime, that is less than 64 MiB a process.
func TestApplyInBoundedMemory(t *testing.T) {
	big := string(testutil.Noise("big", 2<<20))
	padding := make([]byte, 256<<10) // small, as what makes the archive counts, too
	comment := paxRecord("comment", strings.Repeat("x", 1<<20-100))
	extents := func(n int) string {
		fields := make([]string, 0, 2*n)
		for i := range n {
			fields = append(fields, strconv.Itoa(i*8), "1")
		}
		return strings.Join(fields, ",")
	}
	for name, stream := range map[string]*memberStream{
		"large files": {n: 96, make: func(i int) member { return member{name: strconv.Itoa(i), body: big} }},
		"many files": {n: 30_000, make: func(i int) member {
			return member{name: fmt.Sprintf("%d/%080d", i/500, i), body: big[:2000]}
		}},
		"files of a megabyte": {n: 150, make: func(i int) member {
			return member{name: strconv.Itoa(i),
				body: big[:1<<20]}
		}},
		"many directories": {n: 10_000, make: func(i int) member { return member{name: fmt.Sprintf("%d/", i)} }},
		"large headers": {n: 100, make: func(i int) member {
			return member{name: "x", typ: tar.TypeXHeader,
				body: comment}
		}},
		"large maps": {n: 20, make: func(i int) member {
			return paxSparse(strconv.Itoa(i), "10000000", extents(30_000), "30000", big[:30_000])
		}},
		"long names": {n: 3_000, make: func(i int) member {
			return member{name: fmt.Sprintf("%s%d", strings.Repeat("long/", 700), i)}
		}},
		"one name, once more": {n: 50, make: func(i int) member { return member{name: "x", body: big[:1<<20]} }},
		"content of no file":  {n: 96, make: func(i int) member { return member{name: ".wh.x", body: big} }},
		"padding at the end":  {n: 768, make: func(i int) member { return member{raw: padding} }},
		"large links": {n: 5_000, make: func(i int) member {
			return member{name: strconv.Itoa(i), typ: tar.TypeSymlink, link: strings.Repeat("x/", 2000)}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if slices.Contains([]string{"many files", "many directories", "files of a megabyte", "large links",
				"content of no file"}, name) {
				testutil.NeedsLong(t)
			}
			if stream.next == 0 && name == "large headers" {
				last := stream.make
				stream.make = func(i int) member {
					if i == stream.n-1 {
						return member{name: "f"} // what the headers are about
					}
					return last(i)
				}
			}
			split, err := os.Create(t.TempDir() + "/split")
			if err != nil {
				t.Fatal(err)
			}
			defer split.Close()
			// so that the heap is what is in use, not what is due for collection
			defer debug.SetGCPercent(debug.SetGCPercent(20))
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			before, most := m.HeapAlloc, uint64(0)
			reads := 0
			watch := func(int64) {
				if reads++; reads%20 == 0 {
					runtime.ReadMemStats(&m)
					most = max(most, m.HeapAlloc-min(before, m.HeapAlloc))
				}
			}
			if _, err := apply.Tar(context.Background(), t.TempDir(), stream, split,
				apply.Options{Progress: watch}); err != nil {
				t.Fatal(err)
			}
			t.Logf("%d MiB at most", most>>20)
			if most > 24<<20 {
				t.Errorf("the heap grew by %d MiB", most>>20)
			}
		})
	}
}

// A slow reader of the tar-split file slows Apply down and does not make it remember.
func TestApplyWaitsForTheTarSplitWriter(t *testing.T) {
	r, w := io.Pipe()
	done := make(chan error, 1)
	data := tarball(member{name: "a", body: "x"}, member{name: ".wh.b", body: string(testutil.Noise("b", 8<<20))})
	go func() {
		_, err := apply.Tar(context.Background(), t.TempDir(), bytes.NewReader(data), w, apply.Options{})
		w.CloseWithError(err)
		done <- err
	}()
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// An error of the tar-split writer is the error of the apply.
func TestApplyReportsTheTarSplitWritersError(t *testing.T) {
	checkLeaks(t)
	data := tarball(member{name: ".wh.b", body: string(testutil.Noise("b", 8<<20))})
	_, err := apply.Tar(context.Background(), t.TempDir(), bytes.NewReader(data), failingWriter{},
		apply.Options{})
	if err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("error is %v", err)
	}
}

// Few descriptors are enough, however many directories the layer has.
func TestApplyWithFewDescriptors(t *testing.T) {
	checkLeaks(t)
	var members []member
	for i := range 2000 {
		members = append(members, member{name: fmt.Sprintf("a%d/b%d/c%d/f", i%7, i%31, i), body: "x"})
	}
	most := 0
	watch := func(int64) { most = max(most, openFiles(t)) }
	data := tarball(members...)
	if _, err := apply.Tar(context.Background(), t.TempDir(), bytes.NewReader(data), nil,
		apply.Options{Progress: watch}); err != nil {
		t.Fatal(err)
	}
	if most > 300 {
		t.Errorf("%d descriptors were open", most)
	}
}

func BenchmarkApply(b *testing.B) {
	var members []member
	body := string(testutil.Noise("body", 64<<10))
	for i := range 10_000 {
		if i%10 == 0 {
			members = append(members, member{name: fmt.Sprintf("pkg%d/", i/10)})
			continue
		}
		members = append(members, member{name: fmt.Sprintf("pkg%d/file%d", i/10, i), body: body[:i*6151%(16<<10)]})
	}
	plain := tarball(members...)
	for _, kind := range []string{"plain", "gzip", "zstd"} {
		data := plain
		if kind != "plain" {
			data = compressed(b, kind, plain)
		}
		for _, writers := range []int{1, 2} {
			b.Run(fmt.Sprintf("%s/writers=%d", kind, writers), func(b *testing.B) {
				b.SetBytes(int64(len(plain)))
				for b.Loop() {
					b.StopTimer()
					dir := b.TempDir()
					b.StartTimer()
					if _, err := apply.Tar(context.Background(), dir, bytes.NewReader(data), io.Discard,
						apply.Options{Writers: writers}); err != nil {
						b.Fatal(err)
					}
					b.StopTimer()
					os.RemoveAll(dir)
					b.StartTimer()
				}
				b.ReportMetric(float64(len(members))*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
			})
		}
	}
}
