package main

import (
	"io"
	"strings"
	"testing"
)

func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		run([]string{"shale", "version"}, strings.NewReader(""), io.Discard, io.Discard)
	}
}
