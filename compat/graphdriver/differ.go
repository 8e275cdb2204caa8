package graphdriver

import (
	"context"
	"errors"
	"fmt"

	"github.com/shalestore/shale/archive"
	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/internal/fsat"
	graphdriver "go.podman.io/storage/drivers"
	theirs "go.podman.io/storage/pkg/archive"
)

// ApplyDiffWithDiffer has a differ fill a directory with the content of a layer to be,
// while nobody holds a lock: the differ of the library's pkg/chunked takes files from
// layers that have them and fetches the rest. The content is durable when this returns.
func (d *driver[Cleanup, Staged]) ApplyDiffWithDiffer(options *graphdriver.ApplyDiffWithDifferOpts,
	differ graphdriver.Differ) (graphdriver.DriverWithDifferOutput, error) {
	ctx := context.Background()
	stager, ok := d.own.(drivers.PullStager)
	if !ok {
		return graphdriver.DriverWithDifferOutput{},
			translate(fmt.Errorf("partial pulls: %w by the %s driver", errdefs.ErrUnsupported, d.own.Name()))
	}
	if options == nil {
		options = &graphdriver.ApplyDiffWithDifferOpts{}
	}
	pull, err := stager.StagePull(ctx, drivers.StageOptions{IDMap: mapping(options.Mappings)})
	if err != nil {
		return graphdriver.DriverWithDifferOutput{}, translate(err)
	}
	out, err := differ.ApplyDiff(pull.Content(), d.tarOptions(options), &graphdriver.DifferOptions{
		Format:           graphdriver.DifferOutputFormatDir,
		StagingDirectory: pull.Scratch(),
	})
	if err == nil {
		err = fsat.SyncFS(pull.Content())
	}
	if err != nil {
		return graphdriver.DriverWithDifferOutput{}, errors.Join(err, pull.Discard())
	}
	out.Target = pull.Content()
	d.mu.Lock()
	d.pulls[out.Target] = pull
	d.mu.Unlock()
	return out, nil
}

// tarOptions says to a differ what unpacking a tar would be told.
func (d *driver[Cleanup, Staged]) tarOptions(options *graphdriver.ApplyDiffWithDifferOpts) *theirs.TarOptions {
	ours := d.applyOptions(options.ApplyDiffOpts)
	to := &theirs.TarOptions{
		IgnoreChownErrors: ours.IgnoreChownErrors,
		ForceMask:         ours.ForceMask,
		WhiteoutFormat:    theirs.OverlayWhiteoutFormat,
		InUserNS:          ours.Whiteouts == archive.OverlayUser,
	}
	if ours.Whiteouts == archive.LiteralWhiteouts {
		to.WhiteoutFormat = theirs.AUFSWhiteoutFormat
	}
	if options.Mappings != nil {
		to.UIDMaps, to.GIDMaps = options.Mappings.UIDs(), options.Mappings.GIDs()
	}
	return to
}

// ApplyDiffFromStagingDirectory makes what a differ has filled the content of a layer
// that Create has made. The library holds its layer lock.
func (d *driver[Cleanup, Staged]) ApplyDiffFromStagingDirectory(id, _ string,
	output *graphdriver.DriverWithDifferOutput, _ *graphdriver.ApplyDiffWithDifferOpts) error {
	pull := d.takePull(output.Target)
	if pull == nil {
		return fmt.Errorf("layer %s: nothing was staged in %s", id, output.Target)
	}
	ctx := context.Background()
	trash, err := pull.Install(ctx, id, output.RootDirMode != nil)
	if err != nil {
		return translate(errors.Join(err, pull.Discard()))
	}
	return trash.Empty(ctx)
}

// CleanupStagingDirectory removes what a differ has filled, if that isn't a layer's by
// now.
func (d *driver[Cleanup, Staged]) CleanupStagingDirectory(target string) error {
	if pull := d.takePull(target); pull != nil {
		return pull.Discard()
	}
	return nil
}

func (d *driver[Cleanup, Staged]) takePull(target string) drivers.Pull {
	d.mu.Lock()
	defer d.mu.Unlock()
	pull := d.pulls[target]
	delete(d.pulls, target)
	return pull
}

// DifferTarget is the directory with the layer's own files, from which a differ takes
// those that it needs again.
func (d *driver[Cleanup, Staged]) DifferTarget(id string) (string, error) {
	info, err := d.own.Stat(context.Background(), id)
	return info.Content, translate(err)
}
