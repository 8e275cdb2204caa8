package lockfile_test

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/lockfile"
	"golang.org/x/sys/unix"
)

// The test binary plays another program too: one that takes classic POSIX record locks,
// as others on the store do.
func TestMain(m *testing.M) {
	if role := os.Getenv("LOCKFILE_TEST_CLASSIC"); role != "" {
		holdClassic(role, os.Args[1])
		return
	}
	os.Exit(m.Run())
}

// holdClassic takes the lock, says what came of it, and keeps it until stdin is closed.
func holdClassic(role, path string) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		os.Stdout.WriteString(err.Error() + "\n")
		return
	}
	l := unix.Flock_t{Type: unix.F_WRLCK, Whence: unix.SEEK_SET}
	if strings.HasPrefix(role, "read") {
		l.Type = unix.F_RDLCK
	}
	cmd := unix.F_SETLK
	if strings.HasSuffix(role, "wait") {
		os.Stdout.WriteString("waiting\n")
		cmd = unix.F_SETLKW
	}
	if err := unix.FcntlFlock(f.Fd(), cmd, &l); err != nil {
		os.Stdout.WriteString("busy\n")
		return
	}
	os.Stdout.WriteString("held\n")
	io.Copy(io.Discard, os.Stdin)
}

// peer is another process with a classic lock.
type peer struct {
	say     *bufio.Reader
	release func()
}

func startPeer(t *testing.T, role, path string) *peer {
	t.Helper()
	cmd := exec.Command(os.Args[0], path)
	cmd.Env = append(os.Environ(), "LOCKFILE_TEST_CLASSIC="+role)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	release := sync.OnceFunc(func() {
		in.Close()
		io.Copy(io.Discard, out)
		cmd.Wait()
	})
	t.Cleanup(release)
	return &peer{bufio.NewReader(out), release}
}

func (p *peer) expect(t *testing.T, want string) {
	t.Helper()
	line, _ := p.say.ReadString('\n')
	if got := strings.TrimSpace(line); got != want {
		t.Fatalf("the other process says %q, want %q", got, want)
	}
}

func acquire(t *testing.T, path string, mode lockfile.Mode) *lockfile.Lock {
	t.Helper()
	l, err := lockfile.Acquire(context.Background(), path, mode)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Release() })
	return l
}

func TestExcludesClassicLocks(t *testing.T) {
	for _, tt := range []struct {
		ours lockfile.Mode
		role string
		want string
	}{
		{lockfile.Exclusive, "write", "busy"},
		{lockfile.Exclusive, "read", "busy"},
		{lockfile.Shared, "write", "busy"},
		{lockfile.Shared, "read", "held"},
	} {
		path := filepath.Join(t.TempDir(), "x.lock")
		l := acquire(t, path, tt.ours)
		startPeer(t, tt.role, path).expect(t, tt.want)
		if err := l.Release(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWaitsForClassicLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.lock")
	p := startPeer(t, "write", path)
	p.expect(t, "held")
	if _, err := lockfile.TryAcquire(path, lockfile.Shared); !errors.Is(err, errdefs.ErrBusy) {
		t.Fatalf("TryAcquire next to a writer: %v, want ErrBusy", err)
	}
	if held, err := lockfile.Held(path); !held || err != nil {
		t.Fatalf("Held: %v, %v", held, err)
	}
	got := make(chan error)
	go func() {
		l, err := lockfile.Acquire(context.Background(), path, lockfile.Exclusive)
		if err == nil {
			err = l.Release()
		}
		got <- err
	}()
	select {
	case err := <-got:
		t.Fatalf("acquired while held: %v", err)
	default:
	}
	p.release()
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	if held, err := lockfile.Held(path); held || err != nil {
		t.Fatalf("Held at the end: %v, %v", held, err)
	}
}

// A classic lock is lost when its process closes any descriptor of the file. Ours must
// not be.
func TestSurvivesACloseOfTheSameFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.lock")
	acquire(t, path, lockfile.Exclusive)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	startPeer(t, "write", path).expect(t, "busy")
}

// os/exec copies every descriptor into the child for a moment, which it spends under
// syscall.ForkLock. A lock given back then must be free all the same: here the copy stays
// for good.
func TestReleasedDespiteAnInheritedDescriptor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.lock")
	l := acquire(t, path, lockfile.Exclusive)
	syscall.ForkLock.Lock()
	dup, err := unix.Dup(l.FD())
	if err == nil {
		defer unix.Close(dup)
		err = l.Release()
	}
	syscall.ForkLock.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Release(); err != nil {
		t.Fatalf("second Release: %v", err)
	}
	startPeer(t, "write", path).expect(t, "held")
}

func TestGoroutinesExcludeEachOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.lock")
	var inside, readers atomic.Int32
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 200 {
				if i%2 == 0 {
					l, err := lockfile.Acquire(context.Background(), path, lockfile.Exclusive)
					if err != nil {
						t.Error(err)
						return
					}
					if inside.Add(1) != 1 || readers.Load() != 0 {
						t.Error("not alone with an exclusive lock")
					}
					inside.Add(-1)
					l.Release()
				} else {
					l, err := lockfile.Acquire(context.Background(), path, lockfile.Shared)
					if err != nil {
						t.Error(err)
						return
					}
					readers.Add(1)
					if inside.Load() != 0 {
						t.Error("a writer beside a shared lock")
					}
					readers.Add(-1)
					l.Release()
				}
			}
		})
	}
	wg.Wait()
}

func TestCancelledWaitLeavesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.lock")
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := lockfile.Acquire(cancelled, path, lockfile.Shared); !errors.Is(err, context.Canceled) {
		t.Fatalf("with a context that is over: %v", err)
	}

	first := acquire(t, path, lockfile.Exclusive)
	for _, end := range []func() (context.Context, context.CancelFunc){
		func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(context.Background(), time.Millisecond)
		},
		func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(context.Background())
			go cancel()
			return ctx, cancel
		},
	} {
		for range 20 {
			ctx, cancel := end()
			if _, err := lockfile.Acquire(ctx, path, lockfile.Exclusive); !errors.Is(err, ctx.Err()) {
				t.Fatalf("cancelled: %v", err)
			}
			cancel()
		}
	}
	if err := first.Release(); err != nil {
		t.Fatal(err)
	}
	// The abandoned waiters get the lock one after the other and give it back; another
	// process can have it then.
	p := startPeer(t, "write wait", path)
	p.expect(t, "waiting")
	p.expect(t, "held")
}

func TestToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "x.lock")
	w := acquire(t, path, lockfile.Exclusive)
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o644 {
		t.Errorf("lock file: %v, %v", st.Mode(), err)
	}
	if st, err := os.Stat(filepath.Dir(path)); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("its directory: %v, %v", st.Mode(), err)
	}
	if tok, err := w.Token(); err != nil || tok != (lockfile.Token{}) {
		t.Errorf("token of a new lock file: %x, %v", tok, err)
	}
	seen := map[lockfile.Token]bool{}
	for range 100 {
		put, err := w.Touch()
		if err != nil {
			t.Fatal(err)
		}
		got, err := w.Token()
		if err != nil || got != put {
			t.Fatalf("read %x, %v after writing %x", got, err, put)
		}
		if seen[put] {
			t.Fatal("a token came twice")
		}
		seen[put] = true
		onDisk, _ := os.ReadFile(path)
		if hex.EncodeToString(onDisk) != hex.EncodeToString(put[:]) {
			t.Fatalf("the file has %x, want exactly the token %x", onDisk, put)
		}
	}
	w.Release()

	// Other versions wrote 64 hex digits; a short token is one too.
	for _, content := range []string{strings.Repeat("0f", 32), "short"} {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		r := acquire(t, path, lockfile.Shared)
		tok, err := r.Token()
		if err != nil || strings.TrimRight(string(tok[:]), "\x00") != content {
			t.Errorf("token is %q, %v, want %q", tok, err, content)
		}
		if _, err := r.Touch(); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("Touch with a shared lock: %v, want ErrInvalid", err)
		}
		r.Release()
	}
}

func TestCurrent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.lock")
	l := acquire(t, path, lockfile.Exclusive)
	if ok, err := l.Current(); !ok || err != nil {
		t.Errorf("as locked: %v, %v", ok, err)
	}
	os.Remove(path)
	if ok, err := l.Current(); ok || err != nil {
		t.Errorf("removed: %v, %v", ok, err)
	}
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if ok, err := l.Current(); ok || err != nil {
		t.Errorf("made again: %v, %v", ok, err)
	}
}

func TestHeldChangesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.lock")
	if held, err := lockfile.Held(path); held || err != nil {
		t.Errorf("missing file: %v, %v", held, err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Held made the file: %v", err)
	}
	acquire(t, path, lockfile.Shared)
	if held, err := lockfile.Held(path); !held || err != nil {
		t.Errorf("our own shared lock: %v, %v", held, err)
	}
}

func TestSharedWithoutWriteAccess(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("needs a user whom a file mode keeps out; root is none")
	}
	path := filepath.Join(t.TempDir(), "x.lock")
	if err := os.WriteFile(path, nil, 0o444); err != nil {
		t.Fatal(err)
	}
	acquire(t, path, lockfile.Shared)
	if _, err := lockfile.TryAcquire(path, lockfile.Exclusive); !errors.Is(err, unix.EACCES) {
		t.Errorf("exclusive: %v, want EACCES", err)
	}
}
