package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/shalestore/shale/drivers/overlay/internal/files"
	"github.com/shalestore/shale/internal/openat"
)

// facts are what this driver has found out about the kernel and the file system beneath
// it, each when it was first needed.
type facts struct {
	userXattr  sync.Once
	userXattrs bool

	metacopy, nativeDiff, volatile, shifting fact

	quotas quotas
}

// fact is one question's answer. An error is no answer: the next one to ask tries again.
type fact struct {
	mu    sync.Mutex
	known bool
	yes   bool
}

// learn answers from memory, else from the files that containers/storage keeps in <run
// root>/overlay, where a file named after the feature with "-true" or "-false" holds an
// explanation or nothing, else by asking, whose answer is written down there. The run
// root goes with a reboot, as the kernel does.
func (d *Driver) learn(ctx context.Context, f *fact, feature string,
	ask func(context.Context) (yes bool, why string, err error)) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.known {
		return f.yes, nil
	}
	if yes, _, known := d.recorded(feature); known {
		f.known, f.yes = true, yes
		return yes, nil
	}
	yes, why, err := ask(ctx)
	if err != nil {
		return false, fmt.Errorf("overlay: find out about %s: %w", feature, err)
	}
	f.known, f.yes = true, yes
	d.record(feature, yes, why)
	return yes, nil
}

// recorded looks for the answer of an earlier process. A feature's name may hold mount
// options, hence the check.
func (d *Driver) recorded(feature string) (yes bool, why string, known bool) {
	if d.opts.RunRoot == "" || strings.Contains(feature, "/") {
		return false, "", false
	}
	for _, yes := range []bool{true, false} {
		data, err := files.ReadSmall(d.factPath(feature, yes), 1<<16)
		if err == nil {
			return yes, string(data), true
		}
	}
	return false, "", false
}

// record is best effort: without it the next process asks again.
func (d *Driver) record(feature string, yes bool, why string) {
	if d.opts.RunRoot == "" || strings.Contains(feature, "/") {
		return
	}
	if err := openat.MakeDirs(d.opts.RunRoot, Name); err != nil {
		return
	}
	err := writeFile(d.factPath(feature, yes), why)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		_ = os.Remove(d.factPath(feature, yes))
	}
}

func (d *Driver) factPath(feature string, yes bool) string {
	return filepath.Join(d.opts.RunRoot, Name, fmt.Sprintf("%s-%t", feature, yes))
}

// withOptions names a feature that depends on mountopt.
func (d *Driver) withOptions(feature string) string {
	return feature + "(" + strings.Join(d.opts.MountOptions, ",") + ")"
}
