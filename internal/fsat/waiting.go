package fsat

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/shalestore/shale/internal/openat"
	"golang.org/x/sys/unix"
)

// maxWaiting is how many bytes may wait to be written for a sync of the whole file system
// to be as good as the syncs of a few files: what a slow disk writes in the time that a
// few flushes of its cache take it.
const maxWaiting = 16 << 20

// Gauge asks how much waits to be written. The question comes with every change of a
// store, so the answer's place is remembered: whoever asks often keeps a Gauge. The zero
// Gauge can be used, by several goroutines, and so can nil, which remembers nothing.
type Gauge struct {
	mu   sync.Mutex
	dev  uint64
	file *os.File // of sysfs, for dev; to have it open keeps nothing from being unmounted
}

// LittleWaits reports whether next to nothing waits to be written to the file system that
// s watches, so that a Sync writes what its caller has written and little more. In doubt
// it says no.
//
// ext4 tells of the blocks that it has promised but not chosen yet, which is all that is
// new. For other file systems the kernel is asked for what waits on all of them together.
func (g *Gauge) LittleWaits(s *Syncer) bool {
	if text, ok := g.delayedBlocks(s.dev); ok {
		// Documentation/ABI/testing/sysfs-fs-ext4; the block size is 4096 as a rule, and
		// never more than a page.
		blocks, err := strconv.Atoi(string(bytes.TrimSpace(text)))
		return err == nil && blocks < maxWaiting/4096
	}
	text, err := readProc("/proc/meminfo")
	if err != nil {
		return false
	}
	kib := 0
	for _, name := range []string{"\nDirty:", "\nWriteback:"} {
		_, after, found := bytes.Cut(text, []byte(name))
		number, _, _ := bytes.Cut(bytes.TrimLeft(after, " "), []byte(" "))
		value, err := strconv.Atoi(string(number))
		if !found || err != nil {
			return false
		}
		kib += value
	}
	return kib < maxWaiting>>10
}

// delayedBlocks reads the number from sysfs, where the device has an ext4.
func (g *Gauge) delayedBlocks(dev uint64) ([]byte, bool) {
	if g == nil {
		g = &Gauge{}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.file != nil {
		if g.dev == dev {
			if text, err := readGauge(g.file); err == nil {
				return text, true
			}
			// ENODEV: that file system is gone. The device may have another.
		}
		g.file.Close()
		g.file = nil
	}
	var name [256]byte
	n, err := unix.Readlink(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(dev), unix.Minor(dev)), name[:])
	if err != nil {
		return nil, false
	}
	file, err := os.Open("/sys/fs/ext4/" + filepath.Base(string(name[:n])) + "/delayed_allocation_blocks")
	if err != nil {
		return nil, false
	}
	text, err := readGauge(file)
	if err != nil {
		file.Close()
		return nil, false
	}
	g.dev, g.file = dev, file
	return text, true
}

// readGauge reads the file anew, with one call where ReadAt makes two.
func readGauge(file *os.File) ([]byte, error) {
	conn, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	text := make([]byte, 32)
	var n int
	if cerr := conn.Control(func(fd uintptr) { n, err = unix.Pread(int(fd), text, 0) }); cerr != nil {
		return nil, cerr
	}
	return text[:max(n, 0)], err
}

// readProc reads a short file that the kernel makes up.
func readProc(path string) ([]byte, error) {
	fd, err := openat.At(unix.AT_FDCWD, path, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	text := make([]byte, 4096)
	n, err := unix.Read(fd, text)
	if err != nil {
		return nil, err
	}
	return text[:n], nil
}
