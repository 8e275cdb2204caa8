package testutil

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// runAs tells a re-executed test binary what it is: "private" in a mount namespace of its
// own, "user" under an ordinary uid, "userns" as root of a user namespace.
const runAs = "SHALE_TEST_RUN_AS"

// Main is what TestMain of a package that mounts calls. As root it runs the tests in a
// mount namespace of their own: whatever they leave mounted, even when they are killed,
// goes with their last process, and the host never saw it. Elsewhere it just runs them.
func Main(m *testing.M) {
	if os.Getenv(runAs) == "" && os.Geteuid() == 0 && mayMount() {
		cmd := self("private")
		cmd.Args = append(cmd.Args, os.Args[1:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.SysProcAttr.Unshareflags = unix.CLONE_NEWNS // Go makes the new namespace's mounts private with it
		code, err := runForwarding(cmd)
		if err == nil {
			os.Exit(code)
		}
		fmt.Fprintln(os.Stderr, "testutil: no mount namespace of our own, going on without:", err)
	}
	code := m.Run()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// MainAsRoot is Main for a package whose tests own files as root: an ordinary user runs
// them all as root of a user namespace that has this one ID, where the kernel allows
// that. Tests that need more ask for HostRoot.
func MainAsRoot(m *testing.M) {
	if os.Getenv(runAs) == "" && os.Geteuid() != 0 && probeUserNamespace() == nil {
		cmd := self("userns")
		cmd.Args = append(cmd.Args, os.Args[1:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		inNewUserNamespace(cmd.SysProcAttr)
		cmd.SysProcAttr.Unshareflags = unix.CLONE_NEWNS
		if code, err := runForwarding(cmd); err == nil {
			os.Exit(code)
		}
	}
	Main(m)
}

// SingleID reports whether all files must belong to one user: this is a user namespace
// that has no other.
func SingleID() bool {
	data, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.HasSuffix(strings.TrimSpace(string(data)), " 1")
}

// self is a command that runs this test binary again. The magic link works where the
// binary's directory is closed to the uid the child gets.
func self(as string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), runAs+"="+as)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// Anew is an environment in which a test binary that a test starts takes itself for the
// first of its kind.
func Anew(env []string) []string { return append(env, runAs+"=") }

// runForwarding runs a command, hands on the signals that end a test run, and returns its
// exit code.
func runForwarding(cmd *exec.Cmd) (int, error) {
	runtime.LockOSThread() // the death signal is sent when the thread that started the child ends
	defer runtime.UnlockOSThread()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	done := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-signals:
				cmd.Process.Signal(s)
			case <-done:
				return
			}
		}
	}()
	err := cmd.Wait()
	close(done)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, err
	}
	if code := cmd.ProcessState.ExitCode(); code >= 0 {
		return code, nil
	}
	return 2, nil // ended by a signal
}

// testUID is the ordinary user that tests become when root runs them. Nobody need know
// it: it has no name and no subordinate IDs unless a test gives it some.
const testUID = 54321

// AsUser runs the calling test's body as an ordinary user. A test begins with
//
//	if !testutil.AsUser(t) {
//		return
//	}
//
// and goes on as that user: for an ordinary user at once, for root in a child process
// with uid and gid 54321, no other groups and a HOME, XDG_RUNTIME_DIR and TMPDIR of its
// own, whose result becomes the test's. It skips where the kernel or the host refuses
// user namespaces to ordinary users.
func AsUser(t *testing.T) bool {
	t.Helper()
	if os.Getenv(runAs) == "user" || os.Geteuid() != 0 {
		if err := probeUserNamespace(); err != nil {
			t.Skipf("needs user namespaces for ordinary users: %v", err)
		}
		return true
	}
	if !OnHost() {
		t.Skip("needs the host's root, or an ordinary user: this is a user namespace")
	}
	cmd := self("user")
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: testUID, Gid: testUID}
	runTestIn(t, cmd, testUID)
	return false
}

// AsUserWithSubIDs is AsUser for tests that need 65,536 subordinate IDs. Root gives them
// to the user in files of its own over /etc/passwd, /etc/subuid and /etc/subgid, in the
// test's mount namespace; an ordinary user must have them already.
func AsUserWithSubIDs(t *testing.T) bool {
	t.Helper()
	switch as := os.Getenv(runAs); {
	case as == "user":
		return AsUser(t)
	case as == "private":
		for file, line := range map[string]string{
			"/etc/passwd": fmt.Sprintf("shale-test:x:%d:%d::/nonexistent:/bin/sh\n", testUID, testUID),
			"/etc/group":  fmt.Sprintf("shale-test:x:%d:\n", testUID),
			"/etc/subuid": fmt.Sprintf("shale-test:%d:65536\n", firstMappedID),
			"/etc/subgid": fmt.Sprintf("shale-test:%d:65536\n", firstMappedID),
		} {
			appendOver(t, file, line)
		}
		return AsUser(t)
	case os.Geteuid() == 0:
		t.Skip("needs a mount namespace of its own, to give a user subordinate IDs")
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
		data, _ := os.ReadFile(file)
		if !bytes.Contains(append([]byte("\n"), data...), []byte("\n"+me.Username+":")) {
			t.Skipf("needs subordinate IDs of %s in %s", me.Username, file)
		}
	}
	return AsUser(t)
}

// appendOver mounts a copy of a file, a line longer, over it until the test ends.
func appendOver(t *testing.T, file, line string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		t.Skipf("needs %s: apt-get install passwd", file)
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > 0 && data[len(data)-1] != '\n' {
		line = "\n" + line
	}
	longer := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(longer, append(data, line...), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(longer, file, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(file, unix.MNT_DETACH) })
}

// FuseForAll lets everybody open /dev/fuse until the test ends, as distributions do:
// where it is root's alone, a node of our own stands in for it, in the test's mount
// namespace. Without the host's root it does nothing.
func FuseForAll(t *testing.T) {
	t.Helper()
	if info, err := os.Stat("/dev/fuse"); err != nil || info.Mode().Perm() == 0o666 || os.Getenv(runAs) != "private" ||
		!OnHost() {
		return
	}
	node := filepath.Join(t.TempDir(), "fuse")
	err := errors.Join(unix.Mknod(node, unix.S_IFCHR|0o666, int(unix.Mkdev(10, 229))), unix.Chmod(node, 0o666),
		unix.Mount(node, "/dev/fuse", "", unix.MS_BIND, ""))
	if err != nil {
		t.Skipf("needs a /dev/fuse for everybody: %v", err)
	}
	t.Cleanup(func() { unix.Unmount("/dev/fuse", unix.MNT_DETACH) })
}

// InUserNS is AsUser for tests that want to be root of a fresh user and mount namespace
// themselves: with 65,536 IDs when the host's root runs them, with their own ID alone
// otherwise, be that root of another namespace.
func InUserNS(t *testing.T) bool {
	t.Helper()
	if os.Getenv(runAs) == "userns" {
		return true
	}
	cmd := self("userns")
	inNewUserNamespace(cmd.SysProcAttr)
	cmd.SysProcAttr.Unshareflags = unix.CLONE_NEWNS
	owner := os.Getuid()
	if owner == 0 && OnHost() {
		owner = firstMappedID
	}
	if err := probeUserNamespace(); err != nil {
		t.Skipf("needs user namespaces: %v", err)
	}
	runTestIn(t, cmd, owner)
	return false
}

const firstMappedID = 300000

func inNewUserNamespace(attr *syscall.SysProcAttr) {
	attr.Cloneflags |= unix.CLONE_NEWUSER
	attr.Credential = &syscall.Credential{NoSetGroups: os.Getuid() != 0}
	host, size := os.Getuid(), 1
	hostGroup := os.Getgid()
	if host == 0 && OnHost() {
		host, hostGroup, size = firstMappedID, firstMappedID, 65536
		attr.GidMappingsEnableSetgroups = true
	}
	attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: host, Size: size}}
	attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: hostGroup, Size: size}}
}

func probeUserNamespace() error {
	cmd := exec.Command("/bin/true")
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	inNewUserNamespace(cmd.SysProcAttr)
	return cmd.Run()
}

// runTestIn runs the one test in a prepared re-execution of the test binary and takes
// over its result. What the child may need of us, a place to write and the binaries, is
// put where the owner can reach it.
func runTestIn(t *testing.T, cmd *exec.Cmd, owner int) {
	t.Helper()
	home, err := os.MkdirTemp("", "shale-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = UnmountBelow(home)
		os.RemoveAll(home)
	})
	for _, dir := range []string{"bin", "tmp", "run"} {
		if err := os.Mkdir(filepath.Join(home, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{shaleVariable, peerVariable} {
		if path := os.Getenv(name); path != "" {
			reachable := filepath.Join(home, "bin", name)
			if err := copyFile(reachable, path); err != nil {
				t.Fatal(err)
			}
			cmd.Env = append(cmd.Env, name+"="+reachable)
		}
	}
	if os.Geteuid() == 0 {
		err := filepath.WalkDir(home, func(path string, _ os.DirEntry, err error) error {
			return errors.Join(err, os.Lchown(path, owner, owner))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd.Env = append(cmd.Env, "HOME="+home, "TMPDIR="+home+"/tmp", "XDG_RUNTIME_DIR="+home+"/run",
		"XDG_CONFIG_HOME=", "XDG_DATA_HOME=", "XDG_CACHE_HOME=")
	steps := strings.Split(t.Name(), "/")
	for i, step := range steps {
		steps[i] = "^" + regexp.QuoteMeta(step) + "$"
	}
	cmd.Args = append(cmd.Args, "-test.v", "-test.count=1", "-test.run="+strings.Join(steps, "/"))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	code, err := runForwarding(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("as uid %d:\n%s", owner, out.String())
	if code != 0 {
		t.Fatalf("the test failed as uid %d", owner)
	}
	if _, reason, skipped := strings.Cut(out.String(), "--- SKIP: "+t.Name()+" "); skipped {
		t.Skip(strings.TrimSpace(reason))
	}
}

func copyFile(dst, src string) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
