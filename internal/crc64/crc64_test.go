package crc64

import (
	"fmt"
	"hash/crc64"
	"math/rand/v2"
	"testing"
)

func TestSameAsStandardLibrary(t *testing.T) {
	table := crc64.MakeTable(crc64.ISO)
	data := make([]byte, 12000)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	for n := 0; n < len(data); n += 1 + n/500 {
		if got, want := Update(0, data[:n]), crc64.Update(0, table, data[:n]); got != want {
			t.Fatalf("%d bytes: %x, want %x", n, got, want)
		}
		cut := r.IntN(n + 1)
		if got, want := Update(Update(0, data[:cut]), data[cut:n]), crc64.Update(0, table, data[:n]); got != want {
			t.Fatalf("%d and %d bytes: %x, want %x", cut, n-cut, got, want)
		}
		var sum Sum
		sum.Write(data[:cut])
		sum.Write(data[cut:n])
		if want := crc64.Update(0, table, data[:n]); uint64(sum) != want {
			t.Fatalf("%d and %d bytes written: %x, want %x", cut, n-cut, sum, want)
		}
	}
}

func BenchmarkUpdate(b *testing.B) {
	for _, size := range []int{1 << 10, 12 << 10, 256 << 10} {
		benchmarkUpdate(b, make([]byte, size))
	}
}

func benchmarkUpdate(b *testing.B, data []byte) {
	table := crc64.MakeTable(crc64.ISO)
	for name, update := range map[string]func(uint64, []byte) uint64{
		"ours":     Update,
		"standard": func(sum uint64, p []byte) uint64 { return crc64.Update(sum, table, p) },
	} {
		b.Run(fmt.Sprintf("%s/%d", name, len(data)), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			sum := uint64(0)
			for b.Loop() {
				sum = update(sum, data)
			}
		})
	}
}
