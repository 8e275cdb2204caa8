package diff

import (
	"archive/tar"
	"io"
	"os"
	"time"

	"github.com/shalestore/shale/internal/openat"
	"github.com/shalestore/shale/internal/xattr"
	"golang.org/x/sys/unix"
)

// WriteFile writes the uncompressed tar of one regular file, which fd stands for, under a
// name of the caller's choice. Its owner, attributes and name are treated as those of a
// file in WriteTree; its time is kept to the nanosecond.
func WriteFile(w io.Writer, fd int, name string, opts Options) error {
	file, err := os.Open(openat.ProcPath(fd)) // fd may be good for nothing but its path
	if err != nil {
		return err
	}
	defer file.Close()
	p := newPacker(&packing{opts: opts})
	if ok, err := p.carriesPath(name); !ok {
		return err
	}
	e := entry{path: name, as: asFile}
	if err := unix.Fstat(int(file.Fd()), &e.st); err != nil {
		return &os.PathError{Op: "stat", Path: name, Err: err}
	}
	hdr, _, err := p.headerOf(e, xattr.Open(int(file.Fd())))
	if err != nil {
		return err
	}
	hdr.ModTime, hdr.Format = time.Unix(e.st.Mtim.Unix()), tar.FormatPAX
	hdr.AccessTime = hdr.ModTime
	out := tar.NewWriter(w)
	if err := out.WriteHeader(hdr); err != nil {
		return err
	}
	if _, err := io.Copy(out, file); err != nil {
		return err
	}
	return out.Close()
}
