package main

import (
	"bytes"
	"io"
	"strconv"
	"strings"
	"sync"
)

// The guest writes to two ports of a virtio console: to one what the program prints, to
// the other how it goes, in lines: "started" and "exit CODE".
const (
	outputPort = "org.shale.output"
	statePort  = "org.shale.state"
)

// progress is what the guest has told so far. Safe for concurrent use.
type progress struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (p *progress) Write(data []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(data)
}

func (p *progress) lines() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Split(p.text.String(), "\n")
}

func (p *progress) started() bool { return p.lines()[0] == "started" }

// exitCode is the program's, once the whole line has come.
func (p *progress) exitCode() (code int, ok bool) {
	lines := p.lines()
	for _, line := range lines[:len(lines)-1] {
		if value, found := strings.CutPrefix(line, "exit "); found {
			code, err := strconv.Atoi(value)
			return code, err == nil
		}
	}
	return 0, false
}

// lastBytes keeps the end of what is written to it.
type lastBytes struct {
	tee  io.Writer // gets everything, unless nil
	data []byte
}

func (l *lastBytes) Write(data []byte) (int, error) {
	const most = 16 << 10
	if l.tee != nil {
		l.tee.Write(data)
	}
	l.data = append(l.data, data...)
	if extra := len(l.data) - most; extra > 0 {
		l.data = append(l.data[:0], l.data[extra:]...)
	}
	return len(data), nil
}
