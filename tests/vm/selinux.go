package main

import (
	"compress/bzip2"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/shalestore/shale/internal/testutil"
)

// Debian's policy has the system, but not the container types that its own
// contexts/lxc_contexts names: container-selinux, which has them elsewhere, is no package
// of Debian 12. The machine is permissive, so that they need no rules.
const containerTypes = `module container 1.0;
require { role system_r; role object_r; attribute domain; attribute file_type; }
type container_t, domain;
type container_file_t, file_type;
type container_ro_file_t, file_type;
role system_r types container_t;
`

// guestPolicy is where the guest finds the policy, which testutil.SELinux loads.
const guestPolicy = "/etc/selinux/default/policy/policy.33"

// findPolicy makes a directory, in the cache, with etc/selinux and in it a policy of
// Debian's base module, that of unconfined users, and our container types.
func findPolicy(ctx context.Context) (string, error) {
	dir, err := cached("vm-selinux", func(aside string) error {
		a, err := newApt(ctx, aside, "", "selinux-policy-default")
		if err != nil {
			return err
		}
		if err := a.unpack(ctx, "selinux-policy-default", "semodule-utils", "checkpolicy"); err != nil {
			return err
		}
		for _, name := range []string{"base", "unconfined"} {
			if err := bunzip(filepath.Join(aside, name+".pp"), filepath.Join(aside, "usr/share/selinux/default",
				name+".pp.bz2")); err != nil {
				return err
			}
		}
		if err := os.WriteFile(filepath.Join(aside, "container.te"), []byte(containerTypes), 0o644); err != nil {
			return err
		}
		policy := filepath.Join(aside, guestPolicy)
		if err := os.MkdirAll(filepath.Dir(policy), 0o755); err != nil {
			return err
		}
		for _, args := range [][]string{
			{"usr/bin/checkmodule", "-M", "-m", "-o", "container.mod", "container.te"},
			{"usr/bin/semodule_package", "-o", "container.pp", "-m", "container.mod"},
			{"usr/bin/semodule_link", "-o", "linked.pp", "base.pp", "unconfined.pp", "container.pp"},
			{"usr/bin/semodule_expand", "linked.pp", policy},
		} {
			if _, err := command(ctx, aside, filepath.Join(aside, args[0]), args[1:]...); err != nil {
				return err
			}
		}
		return os.WriteFile(filepath.Join(aside, "etc/selinux/config"),
			[]byte("SELINUX=permissive\nSELINUXTYPE=default\n"), 0o644)
	})
	if err != nil {
		return "", fmt.Errorf("package selinux-policy-default: %w", err)
	}
	return dir, nil
}

func bunzip(path, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, bzip2.NewReader(in))
	return errors.Join(err, out.Close())
}

// addPolicy gives the guest the policy, or the reason why there is none.
func (t *tree) addPolicy(ctx context.Context, guest *guestJob) {
	dir, err := findPolicy(ctx)
	if err != nil {
		guest.Env = append(guest.Env, testutil.VMNoPolicy+"="+err.Error())
		return
	}
	guest.Env = append(guest.Env, testutil.VMPolicy+"="+guestPolicy)
	t.do(func() error {
		return os.CopyFS(filepath.Join(t.root, "etc/selinux"), os.DirFS(filepath.Join(dir, "etc/selinux")))
	})
}
