// Vm runs a test binary in a virtual machine that has what the kernel at hand may lack:
// project quotas on XFS and ext4, fs-verity, SELinux. It is made to be the -exec of go
// test, which builds the binaries, reads the results and prints them as its own:
//
//	go build -o bin/ ./tests/vm
//	go test -exec "$PWD/bin/vm" -count=1 -run Quota ./quota ./store
//
// `make test-vm` does that for every test whose name says Quota, Verity, SELinux or InVM.
// So a package asks to run here by naming its test, and by being in the Makefile's list;
// the test asks for what it needs (testutil.QuotaFS, testutil.VM), and is skipped
// outside.
//
// # The machine
//
// Qemu emulates it, so that it works without KVM and without root: two processors, 2 GiB,
// Debian's cloud kernel, unpacked from its package into the cache directory. That of
// Debian 12 is Linux 6.1; SHALE_VM_SUITE=bookworm-backports takes 6.12. Each binary gets
// a machine of its own, fresh disks with it; a kernel that panics takes nothing else
// along. The root is a writable ext4 with the binary, the testdata of its package in the
// same place as outside, busybox, and the tools named in disk.go. The environment's
// SHALE_ variables go along; where SHALE_BINARY and SHALE_PEER name a file, so does the
// file. There is no network, no Go, and nothing else of the host.
//
// Three more disks wait to be mounted, by testutil.QuotaFS or by hand. Their devices are
// named by
//
//	SHALE_VM_EXT4     ext4 with project quotas (prjquota) and fs-verity
//	SHALE_VM_XFS      XFS, project quotas too
//	SHALE_VM_BTRFS    btrfs
//
// testutil.NFS mounts any directory a second time through the kernel's own NFS server.
//
// # SELinux
//
// The kernel runs with SELinux, permissive, and without a policy until a test asks with
// testutil.SELinux. The policy is put together on the host from Debian's
// selinux-policy-default: of its modules the base and that of unconfined users. It
// declares no container_t and container_file_t, though its contexts/lxc_contexts names
// them; selinux.go adds these types, without rules. What a policy would forbid can't be
// tested so, only what has which label. Once loaded a policy stays, which is why tests of
// SELinux have a package of their own, tests/selinux.
//
// # When it goes wrong
//
// A test that fails inside fails outside. A kernel that panics, a machine that does not
// boot or does not end in time, are failures with the end of the console in the output.
// Where qemu or the kernel can't be had, the binary runs on the host instead, where the
// tests skip and say which package is missing. SHALE_VM_CONSOLE=1 prints the console as
// it goes.
package main
