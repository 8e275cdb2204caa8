package mount

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// propagation asks the kernel how mounts beneath a mount point spread (one of MS_SHARED,
// MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE, or several together), without reading a mount
// table that may be megabytes long. It reports false where statmount(2) is missing
// (before Linux 6.8).
func propagation(mountPoint string) (uint64, bool) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, mountPoint, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT,
		unix.STATX_MNT_ID_UNIQUE, &st)
	if err != nil || st.Mask&unix.STATX_MNT_ID_UNIQUE == 0 {
		return 0, false
	}
	// struct mnt_id_req of linux/mount.h in its first version, and struct statmount, of
	// which we read two fields.
	const (
		basic         = 0x2 // STATMOUNT_MNT_BASIC: the mount's ID, parent, attributes and propagation
		maskAt        = 8
		propagationAt = 72
	)
	request := struct {
		size, spare uint32
		id, want    uint64
	}{size: 24, id: st.Mnt_id, want: basic}
	var answer [512]byte
	_, _, errno := unix.Syscall6(unix.SYS_STATMOUNT, uintptr(unsafe.Pointer(&request)),
		uintptr(unsafe.Pointer(&answer)), unsafe.Sizeof(answer), 0, 0, 0)
	if errno != 0 || binary.NativeEndian.Uint64(answer[maskAt:])&basic == 0 {
		return 0, false
	}
	return binary.NativeEndian.Uint64(answer[propagationAt:]), true
}
