package faults

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A command runs under a seccomp filter that hands each of its changes to us before the
// kernel makes it (seccomp_unotify(2)). Its calls are counted over all threads, so "the
// nth change" means one thing; what strace counts, it counts by thread.

// calls are the changes that are counted, with what names them in messages. Of openat
// only what creates a file counts, and of calls on descriptors only those on files of the
// store.
var calls = map[int32]string{
	unix.SYS_OPENAT: "openat", unix.SYS_WRITE: "write", unix.SYS_PWRITE64: "pwrite64", unix.SYS_WRITEV: "writev",
	unix.SYS_COPY_FILE_RANGE: "copy_file_range", unix.SYS_FALLOCATE: "fallocate", unix.SYS_FTRUNCATE: "ftruncate",
	unix.SYS_FSYNC: "fsync", unix.SYS_FDATASYNC: "fdatasync", unix.SYS_SYNCFS: "syncfs",
	unix.SYS_SYNC_FILE_RANGE: "sync_file_range", unix.SYS_MKDIRAT: "mkdirat", unix.SYS_MKNODAT: "mknodat",
	unix.SYS_SYMLINKAT: "symlinkat", unix.SYS_LINKAT: "linkat", unix.SYS_RENAMEAT: "renameat",
	unix.SYS_RENAMEAT2: "renameat2", unix.SYS_UNLINKAT: "unlinkat", unix.SYS_FCHOWN: "fchown",
	unix.SYS_FCHOWNAT: "fchownat", unix.SYS_FCHMOD: "fchmod", unix.SYS_FCHMODAT: "fchmodat",
	unix.SYS_FSETXATTR: "fsetxattr", unix.SYS_LSETXATTR: "lsetxattr", unix.SYS_SETXATTR: "setxattr",
	unix.SYS_UTIMENSAT: "utimensat", unix.SYS_FSMOUNT: "fsmount", unix.SYS_MOVE_MOUNT: "move_mount",
	unix.SYS_UMOUNT2: "umount2",
}

// onDescriptor are those whose first argument is the descriptor of what they change.
var onDescriptor = map[int32]bool{unix.SYS_WRITE: true, unix.SYS_PWRITE64: true, unix.SYS_WRITEV: true,
	unix.SYS_FALLOCATE: true, unix.SYS_FTRUNCATE: true, unix.SYS_FSYNC: true, unix.SYS_FDATASYNC: true,
	unix.SYS_SYNCFS: true, unix.SYS_SYNC_FILE_RANGE: true, unix.SYS_FCHOWN: true, unix.SYS_FCHMOD: true,
	unix.SYS_FSETXATTR: true}

// needsRoom are those that a full disk fails.
var needsRoom = map[int32]bool{unix.SYS_OPENAT: true, unix.SYS_WRITE: true, unix.SYS_PWRITE64: true,
	unix.SYS_WRITEV: true, unix.SYS_COPY_FILE_RANGE: true, unix.SYS_FALLOCATE: true, unix.SYS_FTRUNCATE: true,
	unix.SYS_FSYNC: true, unix.SYS_FDATASYNC: true, unix.SYS_SYNCFS: true, unix.SYS_MKDIRAT: true,
	unix.SYS_MKNODAT: true, unix.SYS_SYMLINKAT: true, unix.SYS_LINKAT: true, unix.SYS_RENAMEAT: true,
	unix.SYS_RENAMEAT2: true, unix.SYS_FSETXATTR: true, unix.SYS_LSETXATTR: true, unix.SYS_SETXATTR: true}

// mounting are those that have nothing to do with a disk's errors.
var mounting = map[int32]bool{unix.SYS_FSMOUNT: true, unix.SYS_MOVE_MOUNT: true, unix.SYS_UMOUNT2: true}

const shimVariable = "SHALE_FAULTS_SHIM"

// shim is what the test's binary does as the child: it installs the filter, hands the
// listener over, and becomes the command in its arguments.
func shim() {
	runtime.LockOSThread()
	fail := func(what string, err error) {
		fmt.Fprintln(os.Stderr, "shim:", what, err)
		os.Exit(99)
	}
	var program []unix.SockFilter
	add := func(code uint16, k uint32, jt, jf uint8) {
		program = append(program, unix.SockFilter{Code: code, K: k, Jt: jt, Jf: jf})
	}
	const load, equal, anyOf, ret = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K,
		unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	add(load, 0, 0, 0) // seccomp_data.nr
	for nr := range calls {
		if nr != unix.SYS_OPENAT {
			add(equal, uint32(nr), 0, 1)
			add(ret, unix.SECCOMP_RET_USER_NOTIF, 0, 0)
		}
	}
	add(equal, unix.SYS_OPENAT, 0, 3)
	add(load, 16+2*8, 0, 0) // the low half of the third argument
	add(anyOf, unix.O_CREAT, 0, 1)
	add(ret, unix.SECCOMP_RET_USER_NOTIF, 0, 0)
	add(ret, unix.SECCOMP_RET_ALLOW, 0, 0)
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		fail("no_new_privs", err)
	}
	const newListener, waitKillable = 1 << 3, 1 << 5 // the latter: the runtime's own signals repeat no call
	listener, _, errno := unix.Syscall(unix.SYS_SECCOMP, 1, newListener|waitKillable,
		uintptr(unsafe.Pointer(&filter)))
	if errno != 0 {
		fail("seccomp", errno)
	}
	if err := unix.Sendmsg(3, []byte{0}, unix.UnixRights(int(listener)), nil, 0); err != nil {
		fail("hand over", err)
	}
	var env []string
	for _, setting := range os.Environ() {
		if !strings.HasPrefix(setting, shimVariable+"=") {
			env = append(env, setting)
		}
	}
	fail("exec", syscall.Exec(os.Args[1], os.Args[1:], env))
}

// notification and response are struct seccomp_notif and seccomp_notif_resp.
type notification struct {
	id         uint64
	pid, flags uint32
	nr         int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type response struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

const (
	receiveNotification = 0xc0502100
	sendResponse        = 0xc0182101
	goOn                = 1 // SECCOMP_USER_NOTIF_FLAG_CONTINUE
)

// fault is what happens to a command.
type fault struct {
	at     int                   // its nth change, from 1; 0 for none
	errno  syscall.Errno         // fails that change; 0 kills the command instead
	sticky bool                  // and all later ones that the same cause would fail
	cut    func() error          // what else happens at the kill, before it
	only   func(nr int32) bool   // counts only these, nil for all
	seen   func(nr int32, n int) // is told of each; nil for nobody
}

func (f fault) String() string {
	switch {
	case f.at == 0:
		return "undisturbed"
	case f.cut != nil:
		return fmt.Sprintf("power cut at change %d", f.at)
	case f.errno == 0:
		return fmt.Sprintf("killed at change %d", f.at)
	case f.sticky:
		return fmt.Sprintf("%s from change %d on", unix.ErrnoName(f.errno), f.at)
	}
	return fmt.Sprintf("%s at change %d", unix.ErrnoName(f.errno), f.at)
}

// outcome is how a command ended.
type outcome struct {
	changes []int32 // all that were seen, in order
	hit     []int32 // those that were faulted
	killed  bool
	code    int
	stderr  string
}

func (o outcome) names() string {
	var names []string
	for _, nr := range o.hit {
		if name := calls[nr]; len(names) == 0 || names[len(names)-1] != name {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}

// run runs a command with a fault. Changes below dir count.
func run(t testing.TB, cmd *exec.Cmd, dir string, f fault) outcome {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	theirs := os.NewFile(uintptr(pair[1]), "shim")
	self, err := os.Executable()
	must(t, err)
	cmd.Args = append([]string{self, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = self
	cmd.Env = append(cmd.Env, shimVariable+"=1")
	cmd.ExtraFiles = []*os.File{theirs}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	must(t, cmd.Start())
	theirs.Close()
	var o outcome
	listening := make(chan error, 1)
	go func() { listening <- o.listen(cmd, pair[0], dir, f) }()
	err = cmd.Wait()
	if lerr := <-listening; lerr != nil {
		t.Fatalf("%v: %v: %s", cmd.Args, lerr, stderr.String())
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	o.code, o.stderr = cmd.ProcessState.ExitCode(), stderr.String()
	if o.code == 99 {
		t.Skipf("needs seccomp with user notification (Linux 5.19): %s", o.stderr)
	}
	o.killed = o.code < 0
	return o
}

func (o *outcome) listen(cmd *exec.Cmd, socket int, dir string, f fault) error {
	defer unix.Close(socket)
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil || n == 0 {
		return err // the shim says why
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		return err
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return err
	}
	defer unix.Close(fds[0])
	deadline := time.Now().Add(time.Minute)
	for {
		poll := []unix.PollFd{{Fd: int32(fds[0]), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, 1000); err != nil && err != unix.EINTR {
			return err
		}
		if poll[0].Revents&unix.POLLIN == 0 {
			if poll[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0 {
				return nil // all of them have ended
			}
			if time.Now().After(deadline) {
				_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
				return errors.New("it hangs")
			}
			continue
		}
		var n notification
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fds[0]), receiveNotification,
			uintptr(unsafe.Pointer(&n))); errno != 0 {
			if errno == unix.ENOENT || errno == unix.EINTR { // it has been killed meanwhile
				continue
			}
			return errno
		}
		r := response{id: n.id, flags: goOn}
		if o.counts(n, dir) && (f.only == nil || f.only(n.nr)) {
			o.changes = append(o.changes, n.nr)
			if f.seen != nil {
				f.seen(n.nr, len(o.changes))
			}
			if f.hits(n.nr, len(o.changes)) {
				o.hit = append(o.hit, n.nr)
				if f.errno == 0 {
					if f.cut != nil {
						if err := f.cut(); err != nil {
							return err
						}
					}
					_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
					continue
				}
				r = response{id: n.id, errno: -int32(f.errno)}
			}
		}
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fds[0]), sendResponse,
			uintptr(unsafe.Pointer(&r))); errno != 0 && errno != unix.ENOENT {
			return errno
		}
	}
}

func (f fault) hits(nr int32, n int) bool {
	if f.at == 0 || n < f.at || n > f.at && !f.sticky {
		return false
	}
	return f.errno == 0 || !mounting[nr] && (f.errno == unix.EIO || needsRoom[nr])
}

// counts reports whether a call changes something of ours.
func (o *outcome) counts(n notification, dir string) bool {
	if !onDescriptor[n.nr] {
		return true
	}
	path, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(int(n.pid)), "fd",
		strconv.Itoa(int(int32(n.args[0])))))
	return err == nil && strings.HasPrefix(path, dir)
}
