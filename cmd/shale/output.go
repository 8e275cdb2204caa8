package main

import (
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"
)

// outputName is what the flag for a file to write is called. containers-storage has one
// name for files to read and to write.
func (p *program) outputName() string {
	if p.peer {
		return "file"
	}
	return "output"
}

func (p *program) outputFlag(command *cobra.Command) *string {
	name := p.outputName()
	return command.Flags().StringP(name, name[:1], "", "write to `FILE` instead of standard output")
}

// output is where a stream goes: a file made for it, or standard output.
type output struct {
	io.Writer
	file *os.File
	mine bool // the file was not there before
}

// openOutput creates path, or takes standard output for "". It won't write an archive to
// a terminal.
func (p *program) openOutput(path string) (*output, error) {
	if path == "" {
		if p.interactive() {
			return nil, usageErrorf("standard output is a terminal: name a file with --%s, or redirect it",
				p.outputName())
		}
		return &output{Writer: p.stdout}, nil
	}
	_, err := os.Lstat(path)
	mine := errors.Is(err, os.ErrNotExist)
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return &output{file, file, mine}, nil
}

func (o *output) Close() error {
	if o.file == nil {
		return nil
	}
	return o.file.Close()
}

// abandon closes the file and removes it, if it was made for this.
func (o *output) abandon() {
	if o.file == nil {
		return
	}
	o.file.Close()
	if o.mine {
		os.Remove(o.file.Name())
	}
}
