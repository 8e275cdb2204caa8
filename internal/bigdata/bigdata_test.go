package bigdata_test

import (
	"errors"
	"testing"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/bigdata"
)

// The names were read off a store that containers-storage 1.64.2 had written.
func TestFileName(t *testing.T) {
	for key, want := range map[string]string{
		"manifest":                "manifest",
		"abc.09":                  "abc.09",
		"abcX":                    "abcX", // the quirk: the unfit rune is the last
		"X":                       "X",
		"abé":                     "abé",
		"aXc":                     "=YVhj",
		"Foo/bar":                 "=Rm9vL2Jhcg==",
		"manifest-sha256:abc":     "=bWFuaWZlc3Qtc2hhMjU2OmFiYw==",
		"zstd-chunked-manifest":   "=enN0ZC1jaHVua2VkLW1hbmlmZXN0",
		"zstd-chunked-layer-data": "=enN0ZC1jaHVua2VkLWxheWVyLWRhdGE=",
		"chunked-manifest-cache":  "=Y2h1bmtlZC1tYW5pZmVzdC1jYWNoZQ==",
		"ab\xff":                  "ab\xff",
		"\xffab":                  "=/2Fi",
	} {
		got, err := bigdata.FileName(key)
		if key == "\xffab" { // base64 may hold a slash, which would lead into a directory that isn't there
			if !errors.Is(err, errdefs.ErrInvalid) {
				t.Errorf("FileName(%q) = %q, %v; want ErrInvalid", key, got, err)
			}
			continue
		}
		if err != nil || got != want {
			t.Errorf("FileName(%q) = %q, %v; want %q", key, got, err, want)
		}
	}
	for _, key := range []string{"", ".", "..", "/", "a/", "a\x00"} {
		if name, err := bigdata.FileName(key); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("FileName(%q) = %q, %v; want ErrInvalid", key, name, err)
		}
	}
}

func TestWriteThenRead(t *testing.T) {
	dir := t.TempDir() + "/owner"
	for _, content := range []string{"first", "second, longer", ""} {
		if err := bigdata.Write(dir, "key", []byte(content)); err != nil {
			t.Fatal(err)
		}
		got, err := bigdata.Read(dir, "key")
		if err != nil || string(got) != content {
			t.Fatalf("Read = %q, %v; want %q", got, err, content)
		}
	}
	if _, err := bigdata.Read(dir, "other"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Fatalf("missing item: %v", err)
	}
}
