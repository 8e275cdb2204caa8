package idtools

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// OpenUserNamespace makes a user namespace with the mapping m and returns it as an open
// file, which is what mount_setattr(2) asks for. Nothing lives in the namespace, and it
// goes when the file and all mounts that use it are closed.
//
// A side of m without maps is the identity. It takes the right to map other IDs than
// one's own, as root has it; where the kernel forbids the namespace the error is
// errdefs.ErrUnsupported.
func OpenUserNamespace(m Mapping) (*os.File, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	// A namespace comes with a process only. This one stops before its first instruction,
	// because it asks to be traced (PTRACE_TRACEME in ptrace(2)), so it matters little
	// which program it is; it is killed as soon as its namespace is open.
	process, err := os.StartProcess("/proc/self/exe", []string{"shale: hold a user namespace"}, &os.ProcAttr{
		Env: []string{},
		Sys: &syscall.SysProcAttr{
			Cloneflags:                 unix.CLONE_NEWUSER,
			UidMappings:                sysMaps(m.UIDs),
			GidMappings:                sysMaps(m.GIDs),
			GidMappingsEnableSetgroups: true,
			Ptrace:                     true,
			Pdeathsig:                  syscall.SIGKILL,
		},
	})
	if err != nil {
		return nil, NotPermitted(err)
	}
	ns, err := os.Open("/proc/" + strconv.Itoa(process.Pid) + "/ns/user")
	_ = process.Kill()
	_, _ = process.Wait()
	if err != nil {
		return nil, fmt.Errorf("user namespace: %w", err)
	}
	return ns, nil
}

// sysMaps gives maps the form that package syscall wants; no maps are all IDs.
func sysMaps(maps []Map) []syscall.SysProcIDMap {
	if len(maps) == 0 {
		return []syscall.SysProcIDMap{{Size: min(math.MaxUint32, math.MaxInt)}}
	}
	out := make([]syscall.SysProcIDMap, len(maps))
	for i, m := range maps {
		out[i] = syscall.SysProcIDMap{ContainerID: m.ContainerID, HostID: m.HostID, Size: m.Size}
	}
	return out
}
