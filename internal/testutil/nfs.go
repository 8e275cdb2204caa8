package testutil

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// NFS mounts a directory again, by way of NFS 4.2 and the kernel's own server, and
// returns where. Outside the virtual machine of tests/vm, whose kernel has both ends, it
// skips the test. A machine serves one directory.
func NFS(t testing.TB, dir string) string {
	t.Helper()
	VM(t)
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("bring the loopback device up: %v: %s", err, out)
	}
	const server, rpc = "/proc/fs/nfsd", "/proc/net/rpc"
	if err := unix.Mount("nfsd", server, "nfsd", 0, ""); err != nil {
		t.Fatalf("mount %s: %v", server, err)
	}
	// What rpc.mountd answers when the server asks who the client is, what is exported
	// and what its file handles mean (linux/fs/nfsd/export.c): the directory, with the
	// file system number 0, which makes it NFS 4's root, for reading and writing (2: from
	// any port, 0x10: without waiting for the disk, 0x400: no checks of paths, 0x2000: by
	// that number), root being root. The long number is a time in 2038.
	for _, line := range [][2]string{
		{"auth.unix.ip", "nfsd 127.0.0.1 2147483647 here\n"},
		{"nfsd.export", fmt.Sprintf("here %s 2147483647 %d 65534 65534 0\n", dir, 0x2412)},
		{"nfsd.fh", fmt.Sprintf("here 1 \\x00000000 2147483647 %s\n", dir)},
	} {
		if err := os.WriteFile(filepath.Join(rpc, line[0], "channel"), []byte(line[1]), 0); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := os.WriteFile(filepath.Join(server, "threads"), []byte("0\n"), 0); err != nil {
			t.Error(err)
		}
	})
	// Where it would write down its clients, to know them after a crash. With that it can
	// be told that none will come back.
	if err := os.MkdirAll("/var/lib/nfs/v4recovery", 0o755); err != nil {
		t.Fatal(err)
	}
	// versions before 4 need a portmapper
	for _, setting := range [][2]string{{"versions", "-3 +4 +4.1 +4.2"}, {"threads", "2"}, {"v4_end_grace", "Y"}} {
		if err := os.WriteFile(filepath.Join(server, setting[0]), []byte(setting[1]+"\n"), 0); err != nil {
			t.Fatalf("NFS server: %v", err)
		}
	}
	point := t.TempDir()
	if err := unix.Mount("127.0.0.1:/", point, "nfs4", 0,
		"vers=4.2,addr=127.0.0.1,clientaddr=127.0.0.1,proto=tcp,sec=sys,soft,timeo=600"); err != nil {
		t.Fatalf("mount by NFS: %v", err)
	}
	t.Cleanup(func() {
		if err := errors.Join(UnmountBelow(point), unix.Unmount(point, unix.UMOUNT_NOFOLLOW)); err != nil {
			t.Error(err)
		}
	})
	return point
}
