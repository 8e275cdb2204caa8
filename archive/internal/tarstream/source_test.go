package tarstream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"testing"

	"github.com/shalestore/shale/archive"
)

// A context that ends while the input is read wakes the parser and the stages before it.
// If the stages are done before the parser looks, it finds both the end of the context
// and that of the stream: a cut stream must not pass for a short one then.
func TestCancelledStreamIsNeverComplete(t *testing.T) {
	for kind, begin := range map[string][]byte{"nothing": nil, "a header": make([]byte, 100),
		"gzip": {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}} {
		for range 100 {
			ctx, cancel := context.WithCancelCause(t.Context())
			cause := errors.New("enough")
			pool, err := NewBlockPool()
			if err != nil {
				t.Fatal(err)
			}
			cut := io.MultiReader(bytes.NewReader(begin), readerFunc(func([]byte) (int, error) {
				cancel(cause)
				return 0, os.ErrDeadlineExceeded
			}))
			var stages sync.WaitGroup
			src := NewSource(ctx, cut, pool, archive.Limits{}.WithDefaults(), nil)
			src.Start(stages.Go)
			stages.Wait()
			in := &Stream{Ctx: ctx, Pieces: src.Pieces, End: &src.End}
			for in.err == nil {
				_, _ = in.Next(1 << 20)
			}
			if errors.Is(in.err, io.EOF) {
				t.Fatalf("%s, then cancelled: the stream ends as if it were whole", kind)
			}
			pool.Close()
		}
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
