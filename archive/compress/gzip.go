package compress

import (
	"io"
	"sync/atomic"

	"github.com/klauspost/pgzip"
)

// parallelGzip compresses blocks of 1 MiB on all processors. The bytes that come out
// depend on those that go in alone, not on the processors or on how they were cut into
// writes; and they are those of containers/storage, which uses the same library.
type parallelGzip struct {
	z  *pgzip.Writer
	to *lastingError
}

func newParallelGzip(w io.Writer) *parallelGzip {
	to := &lastingError{w: w}
	return &parallelGzip{z: pgzip.NewWriter(to), to: to}
}

func (g *parallelGzip) Write(p []byte) (int, error) {
	if err := g.to.err.Load(); err != nil {
		return 0, *err
	}
	return g.z.Write(p)
}

func (g *parallelGzip) Close() error {
	err := g.z.Close()
	if failed := g.to.err.Load(); failed != nil {
		return *failed
	}
	return err
}

// lastingError is a writer that keeps its first error for itself and takes everything
// from then on: pgzip leaves a goroutine behind when its writer fails.
type lastingError struct {
	w   io.Writer
	err atomic.Pointer[error]
}

func (l *lastingError) Write(p []byte) (int, error) {
	if l.err.Load() == nil {
		if _, err := l.w.Write(p); err != nil {
			l.err.Store(&err)
		}
	}
	return len(p), nil
}
