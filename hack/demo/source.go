package main

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// sourceTar is the layer archive that the demo starts from.
type sourceTar struct {
	path   string
	digest string // of the tar, "sha256:..."
	files  int
	bytes  int64 // length of the tar
}

// writeSourceTar packs a directory into a tar archive at path, the same bytes for the
// same tree whoever runs it: sorted names, whole seconds, owned by root.
func writeSourceTar(ctx context.Context, path, directory string) (sourceTar, error) {
	result := sourceTar{path: path}
	file, err := os.Create(path)
	if err != nil {
		return result, err
	}
	defer file.Close()
	sum := sha256.New()
	counter := &countingWriter{}
	tw := tar.NewWriter(io.MultiWriter(file, sum, counter))
	err = filepath.WalkDir(directory, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		relative := strings.TrimPrefix(strings.TrimPrefix(name, directory), "/")
		if relative == "" || !(info.Mode().IsRegular() || info.IsDir() || info.Mode().Type() == fs.ModeSymlink) {
			return nil
		}
		result.files++
		return writeEntry(tw, name, relative, info)
	})
	if err != nil {
		return result, fmt.Errorf("pack %s: %w", directory, err)
	}
	if err := tw.Close(); err != nil {
		return result, err
	}
	result.digest = "sha256:" + hex.EncodeToString(sum.Sum(nil))
	result.bytes = counter.n
	return result, file.Close()
}

func writeEntry(tw *tar.Writer, name, relative string, info fs.FileInfo) error {
	target := ""
	if info.Mode().Type() == fs.ModeSymlink {
		var err error
		if target, err = os.Readlink(name); err != nil {
			return err
		}
	}
	header, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	header.Name = relative
	if info.IsDir() {
		header.Name += "/"
	}
	header.Uid, header.Gid, header.Uname, header.Gname = 0, 0, "", ""
	header.ModTime = header.ModTime.Truncate(1e9)
	header.AccessTime, header.ChangeTime = time.Time{}, time.Time{}
	header.Format = tar.FormatPAX
	if err := tw.WriteHeader(header); err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return nil
	}
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(tw, file)
	return err
}

// countingWriter counts what passes.
type countingWriter struct{ n int64 }

func (c *countingWriter) Write(b []byte) (int, error) {
	c.n += int64(len(b))
	return len(b), nil
}
