package lockfile

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/eintr"
	"github.com/shalestore/shale/internal/openat"
	"golang.org/x/sys/unix"
)

// Token names one state of the data behind a lock. Tokens are compared for equality and
// for nothing else. The zero Token stands for a lock file that was never written to.
type Token [64]byte

// newToken follows the layout in use by others (nanoseconds of wall-clock time, a
// counter, the process ID, random bytes), which helps people who look at a lock file with
// hexdump. What makes it unique are its random bytes, so those take the counter's place
// as well.
func newToken() Token {
	var t Token
	rand.Read(t[:]) // never fails (crypto/rand)
	binary.LittleEndian.PutUint64(t[0:], uint64(time.Now().UnixNano()))
	binary.LittleEndian.PutUint32(t[16:], uint32(os.Getpid()))
	return t
}

// Token reads the token of the last writer.
func (l *Lock) Token() (Token, error) {
	var t Token
	n := 0
	err := eintr.Again(func() (err error) {
		n, err = unix.Pread(l.fd, t[:], 0)
		return err
	})
	if errors.Is(err, unix.ESPIPE) || errors.Is(err, unix.EISDIR) {
		return Token{}, fmt.Errorf("lock: %w", openat.Damaged(l.path, openat.ErrNotRegular.Error()))
	}
	if err != nil {
		return Token{}, fmt.Errorf("read token of lock %s: %w", l.path, err)
	}
	clear(t[n:])
	return t, nil
}

// Trust says that the file holds a token that this process wrote: then it is the file
// that Touch looked at, and needn't again.
func (l *Lock) Trust() { l.regular = true }

// Touch writes a new token and returns it. It comes before the change it announces: a
// reader who finds the new token and the old data only loads once too often, while one
// who finds the old token and new data would never know. The lock must be Exclusive,
// otherwise Touch returns errdefs.ErrInvalid. After an error nobody knows which token the
// file holds.
func (l *Lock) Touch() (Token, error) {
	if l.mode != Exclusive {
		return Token{}, fmt.Errorf("write token of lock %s: %w: the lock is only shared", l.path, errdefs.ErrInvalid)
	}
	// Only here, since a token is written: who locks something else does it no harm.
	if !l.regular {
		var st unix.Stat_t
		if err := unix.Fstat(l.fd, &st); err != nil {
			return Token{}, fmt.Errorf("lock %s: %w", l.path, err)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFREG {
			return Token{}, fmt.Errorf("lock: %w", openat.Damaged(l.path, openat.ErrNotRegular.Error()))
		}
		l.regular = true
	}
	t := newToken()
	_, err := eintr.WriteAll(t[:], func(p []byte) (int, error) {
		return unix.Pwrite(l.fd, p, int64(len(t)-len(p)))
	})
	if err != nil {
		return Token{}, fmt.Errorf("write token of lock %s: %w", l.path, err)
	}
	return t, nil
}
