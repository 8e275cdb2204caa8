package catalog_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"
	"github.com/shalestore/shale/archive/compress"
	"github.com/shalestore/shale/catalog"
	"github.com/shalestore/shale/layers"
)

// imageLayer is a record as a pull leaves it.
func imageLayer(i int) layers.Layer {
	sum := func(what string) string {
		h := sha256.Sum256([]byte(what + strconv.Itoa(i)))
		return hex.EncodeToString(h[:])
	}
	l := layers.Layer{
		ID:               sum("id"),
		Created:          time.Date(2026, 11, 20, 23, 15, 34, 888577846+i, time.UTC),
		CompressedDigest: digest.Digest("sha256:" + sum("compressed")),
		CompressedSize:   int64(1000 + i),
		DiffID:           digest.Digest("sha256:" + sum("diff")),
		DiffSize:         int64(9000 + i),
		Compression:      compress.Gzip,
		UIDs:             []uint32{0, 1, 100},
		GIDs:             []uint32{0, 4, 42, 43, 50},
	}
	if i > 0 {
		h := sha256.Sum256([]byte("id" + strconv.Itoa(i-1)))
		l.Parent = hex.EncodeToString(h[:])
	}
	if i%20 == 0 {
		l.Names = []string{"layer-" + strconv.Itoa(i)}
	}
	return l
}

// fill makes a catalog of n layers and returns its directory.
func fill(b testing.TB, n int) string {
	dir := b.TempDir()
	err := layerCatalog(dir).Update(context.Background(), func(tx *catalog.WriteTx[layers.Layer]) error {
		for i := range n {
			if err := tx.Insert(imageLayer(i), 0); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return dir
}

// A short-lived process: everything from the lock to one record.
func BenchmarkColdGet(b *testing.B) {
	for _, n := range []int{1, 100, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			dir, id := fill(b, n), imageLayer(n/2).ID
			for b.Loop() {
				err := layerCatalog(dir).View(context.Background(), func(tx *catalog.ReadTx[layers.Layer]) error {
					_, err := tx.Get(id)
					return err
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkWarm(b *testing.B) {
	dir := fill(b, 5000)
	last := imageLayer(4999)
	c := layerCatalog(dir)
	for name, fn := range map[string]func(tx *catalog.ReadTx[layers.Layer]) error{
		"Get":  func(tx *catalog.ReadTx[layers.Layer]) error { _, err := tx.Get(last.ID); return err },
		"Name": func(tx *catalog.ReadTx[layers.Layer]) error { _, err := tx.Lookup("layer-4980"); return err },
		"Find": func(tx *catalog.ReadTx[layers.Layer]) error {
			_, err := tx.Find("diff", string(last.DiffID))
			return err
		},
		"All": func(tx *catalog.ReadTx[layers.Layer]) error { _, err := tx.All(); return err },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := c.View(context.Background(), fn); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// One record of 5,000 changes, as seen by a process that lives on and by one that was
// just started.
func BenchmarkUpdate(b *testing.B) {
	dir := fill(b, 5000)
	l := imageLayer(2500)
	warm := layerCatalog(dir)
	for name, open := range map[string]func() *catalog.Catalog[layers.Layer]{
		"warm": func() *catalog.Catalog[layers.Layer] { return warm },
		"cold": func() *catalog.Catalog[layers.Layer] { return layerCatalog(dir) },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				l.DiffSize++
				err := open().Update(context.Background(),
					func(tx *catalog.WriteTx[layers.Layer]) error { return tx.Replace(l) })
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
