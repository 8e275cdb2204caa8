package drivers_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shalestore/shale/drivers"
	"github.com/shalestore/shale/errdefs"
)

// named is a driver that only has a name.
type named struct {
	drivers.Driver
	name string
}

func (n named) Name() string { return n.name }

func works(name string, aliases ...string) drivers.Factory {
	return drivers.Factory{Name: name, Aliases: aliases,
		Open: func(context.Context, drivers.Place) (drivers.Driver, error) {
			return named{name: name}, nil
		}}
}

func fails(name string, err error) drivers.Factory {
	return drivers.Factory{Name: name, Open: func(context.Context, drivers.Place) (drivers.Driver, error) {
		return nil, err
	}}
}

func TestChoose(t *testing.T) {
	unsupported := fmt.Errorf("overlay over aufs: %w", errdefs.ErrUnsupported)
	broken := errors.New("disk on fire")
	both := []drivers.Factory{works("overlay", "overlay2"), works("vfs")}
	for name, c := range map[string]struct {
		has    []drivers.Factory
		prior  []string
		choice drivers.Choice
		want   string
		class  error
		says   []string
	}{
		"a fresh root gets overlay": {has: both, want: "overlay"},
		"asked for by name": {has: both, choice: drivers.Choice{Name: "vfs"},
			prior: []string{"overlay"}, want: "vfs"},
		"by its old name": {has: both, choice: drivers.Choice{Name: "overlay2"}, want: "overlay"},
		"no such driver": {has: both, choice: drivers.Choice{Name: "ovrelay"},
			class: errdefs.ErrInvalid, says: []string{"ovrelay", "overlay, vfs"}},
		"what is there": {has: both, prior: []string{"vfs"},
			choice: drivers.Choice{Priority: []string{"overlay", "vfs"}}, want: "vfs"},
		"vfs is there but not listed":    {has: both, prior: []string{"vfs"}, want: "overlay"},
		"vfs beside overlay, not listed": {has: both, prior: []string{"vfs", "overlay"}, want: "overlay"},
		"vfs beside overlay, both listed": {has: both, prior: []string{"vfs", "overlay"},
			choice: drivers.Choice{Priority: []string{"overlay", "vfs"}}, class: errdefs.ErrInvalid,
			says: []string{"overlay, vfs", "storage.conf"}},
		"overlay beside btrfs": {has: both, prior: []string{"btrfs", "overlay"},
			class: errdefs.ErrInvalid, says: []string{"btrfs, overlay"}},
		"btrfs is there and we have none": {has: both, prior: []string{"btrfs"}, class: errdefs.ErrInvalid,
			says: []string{"btrfs"}},
		"what is there is not in the list": {has: both, prior: []string{"overlay"},
			choice: drivers.Choice{Priority: []string{"vfs"}}, want: "vfs"},
		"what is there must work": {has: []drivers.Factory{fails("overlay", unsupported), works("vfs")},
			prior: []string{"overlay"}, choice: drivers.Choice{Priority: []string{"overlay", "vfs"}},
			class: errdefs.ErrUnsupported, says: []string{"has layers of the overlay driver", "aufs"}},
		"the next in the list": {has: []drivers.Factory{fails("overlay", unsupported), works("vfs")},
			choice: drivers.Choice{Priority: []string{"btrfs", "overlay", "vfs"}}, want: "vfs"},
		"never vfs unless listed": {has: []drivers.Factory{fails("overlay", unsupported), works("vfs")},
			class: errdefs.ErrUnsupported, says: []string{"aufs", `driver = "vfs"`,
				"zfs: this program has no such driver"}},
		"an error that is no matter of support": {has: []drivers.Factory{fails("overlay", broken), works("vfs")},
			choice: drivers.Choice{Priority: []string{"overlay", "vfs"}}, class: broken, says: []string{"overlay"}},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for _, dir := range c.prior {
				if err := os.Mkdir(filepath.Join(root, dir), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			d, err := drivers.NewRegistry(c.has...).Choose(t.Context(), c.choice, drivers.Place{Root: root})
			if c.class != nil {
				if !errors.Is(err, c.class) {
					t.Fatalf("got %v, %v", d, err)
				}
				for _, say := range c.says {
					if !strings.Contains(err.Error(), say) {
						t.Errorf("%q doesn't mention %q", err, say)
					}
				}
				return
			}
			if err != nil || d.Name() != c.want {
				t.Fatalf("got %v, %v; want %s", d, err, c.want)
			}
		})
	}
}

func TestValidateID(t *testing.T) {
	for _, id := range []string{"Base1", "a", "0", strings.Repeat("f", 64), "a_b-c.d", "a..b",
		strings.Repeat("x", 240)} {
		if err := drivers.ValidateID(id); err != nil {
			t.Error(err)
		}
	}
	for _, id := range []string{"", ".", "..", ".hidden", "-f", "_", "/", "a/b", "a/", "../a", "a:b", "a,b", "a b",
		"a\nb", "a\x00b", "é", `a\b`, strings.Repeat("x", 241)} {
		if err := drivers.ValidateID(id); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%q: %v", id, err)
		}
	}
}
