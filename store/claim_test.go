package store_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/layers"
	"github.com/shalestore/shale/store"
)

// countingReader tells whether anybody has begun to read.
type countingReader struct {
	io.Reader
	begun *atomic.Int32
	once  sync.Once
}

func (r *countingReader) Read(p []byte) (int, error) {
	r.once.Do(func() { r.begun.Add(1) })
	return r.Reader.Read(p)
}

func TestOneOfSeveralImportsTheLayer(t *testing.T) {
	cfg := roots(t)
	tar := layerTar(t, manyNames(500)...)
	stores := []*store.Store{open(t, cfg), open(t, cfg)} // as two processes would
	importLayer(t, stores[0], id("first"), "", tar)      // the store's beginnings are another story
	var begun, made, taken atomic.Int32
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			in := &countingReader{Reader: bytes.NewReader(tar), begun: &begun}
			l, err := stores[i%2].ImportLayer(context.Background(), layers.CreateOptions{ID: id("layer")}, in, nil)
			switch {
			case err == nil:
				made.Add(1)
			case errors.Is(err, errdefs.ErrDuplicateID) && l.ID == id("layer"):
				taken.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if begun.Load() != 1 || made.Load() != 1 || taken.Load() != 7 {
		t.Errorf("%d have read, %d have made the layer, %d found it: want 1, 1, 7", begun.Load(), made.Load(),
			taken.Load())
	}
	noGarbage(t, stores[0])
}

// When the one fails, the next in line does the work; who is tired of waiting leaves.
func TestImportAfterOneThatFailed(t *testing.T) {
	cfg := roots(t)
	s := open(t, cfg)
	tar := layerTar(t, "file")
	r, w := io.Pipe()
	first := make(chan error, 1)
	go func() {
		_, err := s.ImportLayer(context.Background(), layers.CreateOptions{ID: id("layer")}, r, nil)
		first <- err
	}()
	if _, err := w.Write(tar[:512]); err != nil { // it is at work
		t.Fatal(err)
	}
	tired, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.ImportLayer(tired, layers.CreateOptions{ID: id("layer")}, bytes.NewReader(tar), nil); !errors.Is(err,
		context.Canceled) {
		t.Errorf("who doesn't wait: %v", err)
	}
	second := make(chan error, 1)
	go func() {
		_, err := s.ImportLayer(context.Background(), layers.CreateOptions{ID: id("layer")}, bytes.NewReader(tar), nil)
		second <- err
	}()
	// Another layer is nobody's business.
	importLayer(t, s, id("other"), "", tar)
	broken := errors.New("the line broke")
	w.CloseWithError(broken)
	if err := <-first; !errors.Is(err, broken) {
		t.Errorf("the first: %v", err)
	}
	if err := <-second; err != nil {
		t.Errorf("the second: %v", err)
	}
}
