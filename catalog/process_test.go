package catalog_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/shalestore/shale/catalog"
	"github.com/shalestore/shale/internal/step"
	"github.com/shalestore/shale/internal/testutil"
	"github.com/shalestore/shale/layers"
)

// namesEach is how many names one of our processes adds.
const namesEach = 20

// The test binary plays other processes on a catalog, to be killed, traced or raced with.
func TestMain(m *testing.M) {
	if role := os.Getenv("CATALOG_TEST_ROLE"); role != "" {
		if err := play(role, os.Args[1], os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	testutil.Main(m)
}

func play(role, dir string, args []string) error {
	ctx, c := context.Background(), layerCatalog(dir)
	insert := func(id string) error {
		return c.Update(ctx, func(tx *writeTx) error { return tx.Insert(layers.Layer{ID: id}, 0) })
	}
	switch role {
	case "insert": // one record
		return insert(args[0])
	case "insert on": // records until killed, each announced once it is acknowledged
		for i := 0; ; i++ {
			id := args[0] + "-" + strconv.Itoa(i)
			if err := insert(id); err != nil {
				return err
			}
			fmt.Println(id)
		}
	case "die at": // at the nth step of a kind
		left, _ := strconv.Atoi(args[1])
		ctx = step.Watch(ctx, func(name string) {
			if left--; name == args[0] && left <= 0 {
				p, _ := os.FindProcess(os.Getpid())
				p.Kill()
				select {}
			}
		})
		return insert(args[2])
	case "name": // gives the layer names, one at a time
		for i := range namesEach {
			err := c.Update(ctx, func(tx *writeTx) error {
				l, err := tx.Get(args[0])
				if err != nil {
					return err
				}
				l.Names = append(l.Names, args[1]+"-"+strconv.Itoa(i))
				return tx.Replace(l)
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("no role %q", role)
}

func actor(role, dir string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], append([]string{dir}, args...)...)
	cmd.Env = append(os.Environ(), "CATALOG_TEST_ROLE="+role)
	return cmd
}

// known reads the catalog as a new process would and returns its IDs.
func known(t *testing.T, dir string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	view(t, layerCatalog(dir), func(tx *readTx) error {
		all, err := tx.All()
		for _, l := range all {
			found[l.ID] = true
		}
		return err
	})
	return found
}

// Killed at any moment, a writer leaves a file that reads, with every record that it has
// announced.
func TestKilledWriter(t *testing.T) {
	dir := t.TempDir()
	for i := range 200 {
		update(t, layerCatalog(dir), func(tx *writeTx) error { return tx.Insert(imageLayer(i), 0) })
	}
	var acknowledged []string
	for round := range 15 {
		cmd := actor("insert on", dir, "r"+strconv.Itoa(round))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := rand.IntN(12); n > 0 && lines.Scan(); n-- {
			acknowledged = append(acknowledged, lines.Text())
		}
		cmd.Process.Kill()
		for lines.Scan() {
			acknowledged = append(acknowledged, lines.Text())
		}
		cmd.Wait()
		found := known(t, dir)
		for _, id := range acknowledged {
			if !found[id] {
				t.Fatalf("round %d: %s was acknowledged and is gone", round, id)
			}
		}
	}
	if len(known(t, dir)) < 200+len(acknowledged) {
		t.Error("records of before are gone")
	}
	t.Logf("%d acknowledged records survived", len(acknowledged))
}

// Killed at each step of a save in turn: the record is there or it isn't, and everyone
// who remembers the old state notices.
func TestDeathAtEachStep(t *testing.T) {
	for _, tt := range []struct {
		step    string
		written bool
	}{{"layer token written", false}, {"layer records written", true}} {
		dir := t.TempDir()
		c := layerCatalog(dir)
		update(t, c, func(tx *writeTx) error { return tx.Insert(layers.Layer{ID: "before"}, 0) })
		lock := content(t, dir, "layers.lock")
		if err := actor("die at", dir, tt.step, "1", "new").Run(); err == nil ||
			!strings.Contains(err.Error(), "killed") {
			t.Fatalf("%s: %v, want it killed", tt.step, err)
		}
		if content(t, dir, "layers.lock") == lock {
			t.Errorf("%s: no token written", tt.step)
		}
		for _, c := range []*catalog.Catalog[layers.Layer]{c, layerCatalog(dir)} {
			view(t, c, func(tx *readTx) error {
				if _, err := tx.Get("new"); (err == nil) != tt.written {
					t.Errorf("%s: %v", tt.step, err)
				}
				_, err := tx.Get("before")
				return err
			})
		}
	}
}

// Killed as it enters each system call of a save.
func TestDeathAtEachSystemCall(t *testing.T) {
	strace := testutil.Tool(t, "strace", "strace")
	dir := t.TempDir()
	update(t, layerCatalog(dir), func(tx *writeTx) error { return tx.Insert(layers.Layer{ID: "before"}, 0) })
	for _, tt := range []struct {
		call    string
		written bool
	}{{"pwrite64", false}, {"fdatasync", false}, {"/^rename", false}, {"fsync", true}} {
		before := len(known(t, dir))
		id := strings.Trim(tt.call, "/^")
		cmd := actor("insert", dir, id)
		cmd.Args = append([]string{strace, "-f", "-qq", "-o", os.DevNull, "-e", "trace=" + tt.call, "-e", "inject=" +
			tt.call + ":signal=KILL", os.Args[0]}, cmd.Args[1:]...)
		cmd.Path = strace
		out, err := cmd.CombinedOutput()
		if strings.Contains(string(out), "PTRACE") {
			t.Skipf("needs ptrace: %s", out)
		}
		if err == nil {
			t.Errorf("%s is never called", tt.call)
		}
		found := known(t, dir)
		if !found["before"] || found[id] != tt.written || len(found) < before {
			t.Errorf("killed in %s: records %v, want the new one to be there: %v", tt.call, found, tt.written)
		}
	}
}

// The order that makes a change safe next to others and next to a power cut, as the
// kernel sees it: token, content, rename, directory.
func TestOrderOfSystemCalls(t *testing.T) {
	strace := testutil.Tool(t, "strace", "strace")
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	cmd := actor("insert", dir, "id")
	cmd.Args = append([]string{strace, "-f", "-y", "-o", log, "-e",
		"trace=pwrite64,write,fdatasync,fsync,/^rename,fcntl,close", os.Args[0]}, cmd.Args[1:]...)
	cmd.Path = strace
	if out, err := cmd.CombinedOutput(); err != nil {
		if strings.Contains(string(out), "PTRACE") {
			t.Skipf("needs ptrace: %s", out)
		}
		t.Fatalf("%v: %s", err, out)
	}
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	var calls []string
	call := regexp.MustCompile(
		`(pwrite64|write|fdatasync|fsync|rename)\w*\(|F_OFD_SETLKW?, \{l_type=(F_\w+)|(close)\(\d+<\S+\.lock>`)
	for line := range strings.Lines(string(data)) {
		m := call.FindStringSubmatch(line)
		if m != nil && strings.Contains(line, dir) {
			calls = append(calls, m[1]+m[2]+m[3])
		}
	}
	// Closing the lock file gives the lock back.
	if got, want := strings.Join(calls, " "), "F_WRLCK pwrite64 write fdatasync rename fsync close"; got != want {
		t.Errorf("got  %s\nwant %s\n%s", got, want, data)
	}
}

// Eight processes, every second one the peer's CLI, add names to one record: each adds to
// what the one before it wrote.
func TestNoLostUpdateBesideThePeer(t *testing.T) {
	p := newPeer(t)
	id := p.run("create-layer")
	const ours, theirs, peerRounds = 4, 4, 8
	errs := make(chan error)
	for w := range ours {
		go func() {
			out, err := actor("name", p.dir("layers"), id, fmt.Sprintf("ours-%d", w)).CombinedOutput()
			if err != nil {
				err = fmt.Errorf("%w: %s", err, out)
			}
			errs <- err
		}()
	}
	for w := range theirs {
		go func() {
			errs <- func() error {
				for i := range peerRounds {
					if out, err := p.command("add-names", "-n", fmt.Sprintf("theirs-%d-%d", w, i),
						id).CombinedOutput(); err != nil {
						return fmt.Errorf("%w: %s", err, out)
					}
				}
				return nil
			}()
		}()
	}
	for range ours + theirs {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	want := ours*namesEach + theirs*peerRounds
	view(t, layerCatalog(p.dir("layers")), func(tx *readTx) error {
		l, err := tx.Get(id)
		if len(l.Names) != want {
			t.Errorf("we see %d names, want %d", len(l.Names), want)
		}
		return err
	})
	if got := len(strings.Fields(p.run("get-names", id))); got != want {
		t.Errorf("the peer sees %d names, want %d", got, want)
	}
}

// peer is the peer's CLI on a root of its own, with a driver that needs no mounts.
type peer struct {
	t                *testing.T
	path, root, runs string
}

func newPeer(t *testing.T) *peer {
	t.Helper()
	testutil.Root(t)
	dir := t.TempDir()
	return &peer{t, testutil.Peer(t), filepath.Join(dir, "root"), filepath.Join(dir, "run")}
}

func (p *peer) dir(kind string) string { return filepath.Join(p.root, "vfs-"+kind) }

func (p *peer) command(args ...string) *exec.Cmd {
	return exec.Command(p.path, append([]string{"--graph", p.root, "--run", p.runs, "--storage-driver", "vfs"},
		args...)...)
}

// run returns what the CLI says, without the last newline.
func (p *peer) run(args ...string) string {
	p.t.Helper()
	cmd := p.command(args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		p.t.Fatalf("containers-storage %s: %v: %s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return strings.TrimSuffix(string(out), "\n")
}
