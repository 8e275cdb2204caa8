package crc64

import (
	"hash/crc64"
	"math/rand/v2"
	"testing"
)

func TestSameAsStandardLibrary(t *testing.T) {
	table := crc64.MakeTable(crc64.ISO)
	data := make([]byte, 1000)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	for n := range data {
		if got, want := Update(0, data[:n]), crc64.Update(0, table, data[:n]); got != want {
			t.Fatalf("%d bytes: %x, want %x", n, got, want)
		}
		cut := r.IntN(n + 1)
		if got, want := Update(Update(0, data[:cut]), data[cut:n]), crc64.Update(0, table, data[:n]); got != want {
			t.Fatalf("%d and %d bytes: %x, want %x", cut, n-cut, got, want)
		}
	}
}

func BenchmarkUpdate(b *testing.B) {
	table := crc64.MakeTable(crc64.ISO)
	data := make([]byte, 256<<10)
	for name, update := range map[string]func(uint64, []byte) uint64{
		"ours":     Update,
		"standard": func(sum uint64, p []byte) uint64 { return crc64.Update(sum, table, p) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			sum := uint64(0)
			for b.Loop() {
				sum = update(sum, data)
			}
		})
	}
}
