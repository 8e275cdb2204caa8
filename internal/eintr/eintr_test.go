package eintr_test

import (
	"errors"
	"os"
	"testing"

	"github.com/shalestore/shale/internal/eintr"
	"golang.org/x/sys/unix"
)

// A call is repeated for as long as signals interrupt it, and for nothing else.
func TestAgain(t *testing.T) {
	answers := []error{unix.EINTR, unix.EINTR, unix.EIO, nil}
	calls := 0
	call := func() error { calls++; return answers[calls-1] }
	if err := eintr.Again(call); !errors.Is(err, unix.EIO) || calls != 3 {
		t.Errorf("%v after %d calls", err, calls)
	}
	if err := eintr.Again(call); err != nil {
		t.Error(err)
	}
}

func TestWriteAll(t *testing.T) {
	var got []byte
	interrupted := false
	write := func(p []byte) (int, error) {
		if interrupted = !interrupted; interrupted {
			return -1, unix.EINTR
		}
		if len(got) == 7 {
			return -1, unix.ENOSPC
		}
		got = append(got, p[:min(2, len(p))]...)
		return min(2, len(p)), nil
	}
	if n, err := eintr.WriteAll([]byte("abcde"), write); n != 5 || err != nil || string(got) != "abcde" {
		t.Errorf("wrote %q: %d, %v", got, n, err)
	}
	if n, err := eintr.WriteAll([]byte("fgh"), write); n != 2 || !errors.Is(err, unix.ENOSPC) {
		t.Errorf("on a full disk: %d, %v", n, err)
	}
}

func TestReadFull(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.WriteString("abcde")
	if _, err := f.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"abc", "de", ""} {
		buf := make([]byte, 3)
		n, err := eintr.ReadFull(int(f.Fd()), buf)
		if err != nil || string(buf[:n]) != want {
			t.Errorf("read %q, %v, want %q", buf[:n], err, want)
		}
	}
	if _, err := eintr.ReadFull(-1, make([]byte, 1)); !errors.Is(err, unix.EBADF) {
		t.Error(err)
	}
}
