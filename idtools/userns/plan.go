package userns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/idtools"
	"golang.org/x/sys/unix"
)

// plan is what a new user namespace will have.
type plan struct {
	uids, gids []idtools.Map
	// helpers are the paths of newuidmap and newgidmap, when it takes them to map uids
	// and gids.
	helpers [2]string
}

// plan decides on the IDs of the namespace.
func (n Namespace) plan() (plan, error) {
	euid, egid := os.Geteuid(), os.Getegid()
	setuid, err := hasCapability(unix.CAP_SETUID)
	if err != nil {
		return plan{}, err
	}
	setgid, err := hasCapability(unix.CAP_SETGID)
	if err != nil {
		return plan{}, err
	}
	privileged := setuid && setgid
	sub, err := n.subordinate(euid, egid)
	switch {
	case err != nil && !errors.Is(err, errdefs.ErrNotFound):
		return plan{}, err // a file that can't be understood may have meant to forbid something
	case err != nil && privileged:
		return currentIDs()
	case err == nil && !privileged:
		sub.helpers, err = findHelpers()
	}
	if err != nil {
		n.warn(fmt.Errorf("user namespace with user ID %d alone: %w", euid, err))
		return ownIDs(), nil
	}
	return sub, nil
}

// subordinate returns the own IDs as 0, followed by the subordinate ones.
func (n Namespace) subordinate(euid, egid int) (p plan, err error) {
	name := strconv.Itoa(euid)
	if p.uids, err = n.SubIDs.UIDs(name); err != nil {
		return plan{}, err
	}
	if p.gids, err = n.SubIDs.GIDs(name); err != nil {
		return plan{}, err
	}
	p.uids, p.gids = withOwn(euid, p.uids), withOwn(egid, p.gids)
	if len(p.uids) > idtools.MaxMaps || len(p.gids) > idtools.MaxMaps {
		return plan{}, fmt.Errorf("%w: user %d has more ranges of subordinate IDs than the %d that the kernel takes",
			errdefs.ErrInvalid, euid, idtools.MaxMaps)
	}
	if err := (idtools.Mapping{UIDs: p.uids, GIDs: p.gids}).Validate(); err != nil {
		return plan{}, fmt.Errorf("own and subordinate IDs of user %d: %w", euid, err)
	}
	return p, nil
}

// ownIDs has the caller's own IDs alone.
func ownIDs() plan { return plan{uids: withOwn(os.Geteuid(), nil), gids: withOwn(os.Getegid(), nil)} }

// withOwn puts an ID of its own before maps that start at container ID 0.
func withOwn(id int, maps []idtools.Map) []idtools.Map {
	out := []idtools.Map{{ContainerID: 0, HostID: id, Size: 1}}
	for _, m := range maps {
		m.ContainerID++
		out = append(out, m)
	}
	return out
}

// currentIDs maps every ID of this namespace to itself.
func currentIDs() (plan, error) {
	m, err := idtools.NamespaceMapping()
	if err != nil {
		return plan{}, err
	}
	for _, maps := range [][]idtools.Map{m.UIDs, m.GIDs} {
		for i := range maps {
			maps[i].HostID = maps[i].ContainerID
		}
	}
	return plan{uids: m.UIDs, gids: m.GIDs}, nil
}

func findHelpers() (paths [2]string, err error) {
	for i, name := range []string{"newuidmap", "newgidmap"} {
		if paths[i], err = exec.LookPath(name); err != nil {
			return paths, err
		}
	}
	return paths, nil
}

// apply maps the IDs of the user namespace of process pid, a child that nobody has waited
// for. When the helpers won't do it, the namespace gets the caller's ID alone and warn
// hears why.
func (p plan) apply(pid int, warn func(error)) error {
	proc := "/proc/" + strconv.Itoa(pid)
	if p.helpers[0] == "" {
		return p.write(proc)
	}
	// newgidmap leaves setgroups(2) allowed, as the groups of the range are the user's to
	// drop.
	single := ownIDs()
	if err := runHelper(p.helpers[1], pid, p.gids); err != nil {
		warn(fmt.Errorf("user namespace with user ID %d alone: %w", os.Geteuid(), err))
		return single.write(proc)
	}
	if err := runHelper(p.helpers[0], pid, p.uids); err != nil {
		warn(fmt.Errorf("user namespace with user ID %d alone: %w", os.Geteuid(), err))
		return writeProc(proc+"/uid_map", procMap(single.uids))
	}
	return nil
}

// write sets the maps without helpers, which the kernel allows for the own ID alone, or
// to the privileged.
func (p plan) write(proc string) error {
	privileged, err := hasCapability(unix.CAP_SETGID)
	if err != nil {
		return err
	}
	if !privileged {
		// Without this the kernel refuses the group map: to drop a group must not be a
		// way around permissions that exclude it (CVE-2014-8989). Kernels before 3.19
		// have no such file.
		if err := writeProc(proc+"/setgroups", "deny"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return idtools.NotPermitted(err)
		}
	}
	if err := writeProc(proc+"/gid_map", procMap(p.gids)); err != nil {
		return idtools.NotPermitted(err)
	}
	if err := writeProc(proc+"/uid_map", procMap(p.uids)); err != nil {
		return idtools.NotPermitted(err)
	}
	return nil
}

// writeProc writes a file of proc(5) in one write, as the kernel asks for.
func writeProc(path, content string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(content)
	return err
}

func procMap(maps []idtools.Map) string {
	var b strings.Builder
	for _, m := range maps {
		fmt.Fprintf(&b, "%d %d %d\n", m.ContainerID, m.HostID, m.Size)
	}
	return b.String()
}

// runHelper has newuidmap(1) or newgidmap(1) set a map.
func runHelper(path string, pid int, maps []idtools.Map) error {
	cmd := exec.Command(path, append([]string{strconv.Itoa(pid)}, strings.Fields(procMap(maps))...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", path, err, strings.TrimSpace(string(out[:min(len(out), 1000)])))
	}
	return nil
}
