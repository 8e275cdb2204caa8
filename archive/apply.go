package archive

import (
	"context"
	"io"

	"github.com/shalestore/shale/errdefs"
)

// Apply reads a layer from r and makes its files in dir.
func Apply(ctx context.Context, dir string, r io.Reader, tarSplit io.Writer, opts ApplyOptions) (ApplyResult, error) {
	return ApplyResult{}, errdefs.ErrUnsupported
}
