package idtools_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
)

func write(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "subuid")
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadRanges(t *testing.T) {
	path := write(t, `# who may use what
ann:300000:1000

ann:100000:65536
nobody:500000:10
65534:600000:10
ann:300000:1000
bob:0:oops
 carl:1:2
`)
	for _, tt := range []struct {
		user string
		want []idtools.Range
	}{
		{"ann", []idtools.Range{{300000, 1000}, {100000, 65536}}},
		{"an", nil},
		{"carl", []idtools.Range{{1, 2}}},
		{"nobody", []idtools.Range{{500000, 10}, {600000, 10}}}, // by name and by number, as /etc/passwd has both
		{"65534", []idtools.Range{{500000, 10}, {600000, 10}}},
		{"", nil},
	} {
		got, err := idtools.ReadRanges(path, tt.user)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("%q has %v, %v; want %v", tt.user, got, err, tt.want)
		}
	}
	if _, err := idtools.ReadRanges(path, "bob"); !errors.Is(err, errdefs.ErrInvalid) ||
		!strings.Contains(err.Error(), path+":8:") {
		t.Errorf("bob's line: %v", err)
	}

	maps, err := idtools.SubIDFiles{SubUID: path}.UIDs("ann")
	if want := []idtools.Map{{0, 100000, 65536}, {65536, 300000, 1000}}; err != nil ||
		fmt.Sprint(maps) != fmt.Sprint(want) {
		t.Errorf("ann's map is %v, %v", maps, err)
	}
	if _, err := (idtools.SubIDFiles{SubGID: path}).GIDs("nobody else"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("a user without ranges: %v", err)
	}
	if got, err := idtools.ReadRanges(path+"-missing", "ann"); got != nil || err != nil {
		t.Errorf("a missing file gives %v, %v", got, err)
	}
}

func TestRangesThatMakeNoSense(t *testing.T) {
	for _, line := range []string{
		"ann", "ann:1", "ann:1:2:3", "ann:-1:5", "ann:1:0", "ann:1:-5", "ann:x:5", "ann:4294967295:1",
		"ann:4294967294:2", "ann:0:4294967296",
		"ann:2147483648:2147483648", "ann:9223372036854775808:1", "ann:18446744073709551617:1", "ann: 5:5",
	} {
		path := write(t, "\n"+line+"\n")
		if got, err := idtools.ReadRanges(path, "ann"); !errors.Is(err, errdefs.ErrInvalid) ||
			!strings.Contains(err.Error(), path+":2:") {
			t.Errorf("%q gives %v, %v", line, got, err)
		}
	}
	overlap := write(t, "ann:100:10\nann:105:10\n")
	if got, err := (idtools.SubIDFiles{SubUID: overlap}).UIDs("ann"); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("overlapping ranges give %v, %v", got, err)
	}
	if _, err := idtools.ReadRanges(t.TempDir(), "ann"); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("a directory: %v", err)
	}
	long := write(t, "ann:"+strings.Repeat("1", 1<<20))
	if _, err := idtools.ReadRanges(long, "ann"); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("a line of a megabyte: %v", err)
	}
	huge := write(t, "")
	if err := os.Truncate(huge, 1<<30); err != nil {
		t.Fatal(err)
	}
	if _, err := idtools.ReadRanges(huge, "ann"); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("a file of a gigabyte: %v", err)
	}
}

func FuzzSubID(f *testing.F) {
	for _, s := range []string{"ann:100000:65536\n", "# x\n\nann:1:2\nann:3:4", "ann:1", "ann:4294967295:1",
		"ann:0:4294967296", ":::", "bob:x:y\nann:5:6"} {
		f.Add(s)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, s string) {
		path := filepath.Join(dir, fmt.Sprint(os.Getpid()))
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		maps, err := idtools.SubIDFiles{SubUID: path}.UIDs("ann")
		if err != nil {
			if !errors.Is(err, errdefs.ErrInvalid) && !errors.Is(err, errdefs.ErrNotFound) {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		if err := idtools.ValidateMaps(maps); err != nil || len(maps) == 0 {
			t.Fatalf("%q gives %v: %v", s, maps, err)
		}
	})
}
