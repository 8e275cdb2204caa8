package fsat

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// maxWaiting is how many bytes may wait to be written for a sync of the whole file system
// to be as good as the syncs of a few files: what a slow disk writes in the time that a
// few flushes of its cache take it.
const maxWaiting = 16 << 20

// LittleWaits reports whether next to nothing waits to be written to the file system
// being watched, so that a Sync writes what its caller has written and little more. In
// doubt it says no.
func (s *Syncer) LittleWaits() bool { return littleWaits(s.dev) }

// littleWaits asks ext4 for the blocks that it has promised but not chosen yet, which is
// all that is new, and for other file systems the kernel for what waits on all of them
// together.
func littleWaits(dev uint64) bool {
	if text, ok := delayedBlocks(dev); ok {
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

// gauges are the files of sysfs that were asked before, by device: the question comes
// with every change of a store. To have one open keeps nothing from being unmounted.
var gauges sync.Map // uint64 → *os.File

// delayedBlocks reads the number from sysfs, where the device has an ext4.
func delayedBlocks(dev uint64) ([]byte, bool) {
	if gauge, ok := gauges.Load(dev); ok {
		if text, err := readGauge(gauge.(*os.File)); err == nil {
			return text, true
		}
		// ENODEV: that file system is gone. The device may have another.
		gauges.CompareAndDelete(dev, gauge)
		gauge.(*os.File).Close()
	}
	var name [256]byte
	n, err := unix.Readlink("/sys/dev/block/"+strconv.Itoa(int(unix.Major(dev)))+":"+strconv.Itoa(int(unix.Minor(dev))),
		name[:])
	if err != nil {
		return nil, false
	}
	gauge, err := os.Open("/sys/fs/ext4/" + filepath.Base(string(name[:n])) + "/delayed_allocation_blocks")
	if err != nil {
		return nil, false
	}
	text, err := readGauge(gauge)
	if err != nil {
		gauge.Close()
		return nil, false
	}
	if _, others := gauges.LoadOrStore(dev, gauge); others {
		gauge.Close()
	}
	return text, true
}

// readGauge reads the file anew, with one call where ReadAt makes two.
func readGauge(gauge *os.File) ([]byte, error) {
	conn, err := gauge.SyscallConn()
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
	fd, err := openPath(path, unix.O_RDONLY)
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
