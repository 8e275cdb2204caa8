// Package eintr repeats system calls that a signal has interrupted. Go asks the kernel to
// restart them (SA_RESTART), but file systems in user space and over the network may
// answer EINTR all the same (signal(7)).
package eintr

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Again calls until the error is another one than EINTR, and returns that.
func Again(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// ReadFull fills buf from a file's current position, and says how much of it there was.
func ReadFull(fd int, buf []byte) (n int, err error) {
	for n < len(buf) {
		m, err := unix.Read(fd, buf[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || m == 0 {
			return n, err
		}
		n += m
	}
	return n, nil
}

// WriteAll calls write until all of data is written, and says how much is.
func WriteAll(data []byte, write func([]byte) (int, error)) (n int, err error) {
	for n < len(data) {
		m, err := write(data[n:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return n, err
		}
		n += m
	}
	return n, nil
}
