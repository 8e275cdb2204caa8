package archive

import (
	"cmp"
	"fmt"

	"github.com/shalestore/shale/errdefs"
)

// Limits are bounds on what a layer may ask for. The zero value means the defaults; a
// negative field means no bound.
type Limits struct {
	// MaxBytes is the length of the uncompressed tar. Default 1 TiB.
	MaxBytes int64
	// MaxEntries counts the tar's members, whiteouts and metadata members included.
	// Default 20 million.
	MaxEntries int64
	// MaxRatio is the uncompressed length divided by the compressed one, looked at only
	// beyond RatioFloor bytes. Default 20,000: gzip can't pass 1,032, and zstd comes near
	// only with nothing but zeros.
	MaxRatio int64
	// RatioFloor is the uncompressed length up to which any ratio is welcome. Default 16
	// GiB.
	RatioFloor int64
}

// WithDefaults fills in the fields that are zero. The defaults are generous: no layer
// that anybody made in earnest comes near them.
func (l Limits) WithDefaults() Limits {
	return Limits{
		MaxBytes:   cmp.Or(l.MaxBytes, 1<<40),
		MaxEntries: cmp.Or(l.MaxEntries, 20_000_000),
		MaxRatio:   cmp.Or(l.MaxRatio, 20_000),
		RatioFloor: cmp.Or(l.RatioFloor, 16<<30),
	}
}

// CheckBytes says whether so many bytes, before and after decompression, are too many.
func (l Limits) CheckBytes(compressed, uncompressed int64) error {
	if l.MaxBytes >= 0 && uncompressed > l.MaxBytes {
		return fmt.Errorf("layer is %w: its tar passes the limit of %d bytes", errdefs.ErrInvalid, l.MaxBytes)
	}
	if l.MaxRatio >= 0 && uncompressed > l.RatioFloor && uncompressed/l.MaxRatio > compressed {
		return fmt.Errorf("layer is %w: %d bytes expand to %d and more, past the limit of %d to 1", errdefs.ErrInvalid,
			compressed, uncompressed, l.MaxRatio)
	}
	return nil
}
