package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// terminal returns the file behind a stream when it is a terminal, else nil.
func terminal(stream any) *os.File {
	file, ok := stream.(*os.File)
	if !ok {
		return nil
	}
	if _, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS); err != nil {
		return nil
	}
	return file
}

// columns is the width of a terminal, or 80 when it doesn't say.
func columns(tty *os.File) int {
	size, err := unix.IoctlGetWinsize(int(tty.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 {
		return 80
	}
	return int(size.Col)
}
