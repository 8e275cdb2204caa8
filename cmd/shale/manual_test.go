package main

import (
	"bytes"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write the files that the tests compare with")

// tree builds the command tree as run does.
func tree() *cobra.Command {
	p := &program{args: []string{"shale", "docs"}, stdin: strings.NewReader(""), stdout: io.Discard,
		stderr: io.Discard, global: &globalFlags{}}
	return p.rootCommand()
}

// golden compares text with a file, or writes the file when the test is run with -update.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the program says; go test ./cmd/shale -update rewrites it.\n%s", path,
			firstDifference(string(want), string(got)))
	}
}

func firstDifference(want, got string) string {
	wants, gots := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(wants), len(gots)) {
		if wants[i] != gots[i] {
			return "want: " + wants[i] + "\n got: " + gots[i]
		}
	}
	return "one goes on where the other ends"
}

// The manual says what the program does.
func TestManualIsCurrent(t *testing.T) {
	golden(t, filepath.Join("..", "..", "docs", "cli.md"), markdownManual(tree()))
}

func TestHelpTexts(t *testing.T) {
	for _, args := range [][]string{{}, {"import-layer"}, {"layers"}, {"completion"}} {
		got := in(t, "", append(args, "--help")...)
		if got.status != 0 || got.stderr != "" {
			t.Errorf("%v --help: status %d, stderr %q", args, got.status, got.stderr)
		}
		golden(t, filepath.Join("testdata", "help"+strings.Join(append([]string{""}, args...), "-")+".txt"),
			[]byte(got.stdout))
	}
}

// Whoever asks for help gets a sentence, a paragraph and an example.
func TestEveryCommandExplainsItself(t *testing.T) {
	root := tree()
	for _, command := range manualPages(root)[1:] {
		name := command.CommandPath()
		if command.Short == "" || command.Long == "" || command.GroupID == "" ||
			!exampleOf(command).MatchString(command.Example) {
			t.Errorf("%s: group %q, short %q, long %q, example %q", name, command.GroupID, command.Short, command.Long,
				command.Example)
		}
		if strings.HasSuffix(command.Short, ".") {
			t.Errorf("%s: the short text ends in a full stop, which help adds", name)
		}
		for line := range strings.Lines(command.Long + "\n" + command.Example) {
			if len(line) > 108 {
				t.Errorf("%s: line of %d characters: %s", name, len(line), line)
			}
		}
		command.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s --%s: no text", name, f.Name)
			}
		})
	}
	if command, _, _ := root.Find([]string{"copy"}); command != root {
		t.Errorf("copy is kept for images, and %s answers", command.CommandPath())
	}
}

// The table calls each command as it calls itself.
func TestVerbsHaveTheirNames(t *testing.T) {
	p := &program{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard, global: &globalFlags{}}
	for _, verb := range verbs() {
		command := verb.build(p)
		if names := strings.Join(append([]string{command.Name()}, command.Aliases...), " "); names != verb.names {
			t.Errorf("%q is %q", verb.names, names)
		}
	}
}

// exampleOf finds a call of a command.
func exampleOf(command *cobra.Command) *regexp.Regexp {
	return regexp.MustCompile(`shale (.* )?` + command.Name())
}

func TestWrongUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		says string
	}{
		{nil, "which command?"},
		{[]string{"storage"}, "which command?"},
		{[]string{"storage", "lyers"}, "did you mean layers"},
		{[]string{"copy"}, "shale cp"},
		{[]string{"layers", "--format", "yaml"}, "jsonl"},
		{[]string{"layers", "--progress", "loud"}, "plain"},
		{[]string{"nonsense"}, `no command "nonsense"`},
		{[]string{"lyers"}, "did you mean layers"},
		{[]string{"help", "lyers"}, "did you mean layers"},
		{[]string{"--nonsense", "layers"}, "unknown flag: --nonsense"},
		{[]string{"layers", "--nonsense"}, "unknown flag: --nonsense"},
		{[]string{"layers", "-Z"}, "unknown shorthand flag: 'Z'"},
		{[]string{"layers", "--graph"}, "flag needs an argument"},
		{[]string{"layers", "one"}, "too many arguments: one"},
		{[]string{"layer"}, "too few arguments"},
		{[]string{"create-layer", "one", "two", "three"}, "too many arguments: two three"},
		{[]string{"changes"}, "too few arguments"},
		{[]string{"diff", "--gzip", "--zstd", "one"}, "only one of them can be"},
		{[]string{"set-metadata", "one"}, "--metadata"},
		{[]string{"completion", "csh"}, "no completion for csh"},
		{[]string{"create-layer", "--uidmap", "nonsense"}, "nonsense"},
		{[]string{"create-layer", "--hostuidmap", "--uidmap", "0:0:1"}, "--hostuidmap"},
		{[]string{"images-by-digest", "nonsense"}, "nonsense"},
		{[]string{"docs"}, "--man"},
	} {
		dir := t.TempDir()
		if err := os.MkdirAll(dir+"/root/vfs", 0o700); err != nil {
			t.Fatal(err)
		}
		got := in(t, "", append([]string{"-g", dir + "/root", "-R", dir + "/run", "-s", "vfs"}, c.args...)...)
		want := statusUsage
		if len(c.args) > 0 && c.args[0] == storageVerb {
			want = statusFailed
		}
		if got.status != want || got.stdout != "" || !strings.Contains(got.stderr, c.says) ||
			!strings.HasPrefix(got.stderr, "shale: ") {
			t.Errorf("shale %s: status %d, stdout %q, stderr %q; want %q", strings.Join(c.args, " "), got.status,
				got.stdout, got.stderr, c.says)
		}
	}
}

// flagsOfPeer are the commands of containers-storage with their flags, as its manual and
// --help list them.
const flagsOfPeer = `
create-layer createlayer: name n, id i, label l, readonly r, json j, hostuidmap, hostgidmap, uidmap, gidmap, subuidmap, subgidmap
import-layer importlayer: name n, id i, label l, readonly r, json j, file f, hostuidmap, hostgidmap, uidmap, gidmap, subuidmap, subgidmap
create-image createimage: name n, id i, digest d, metadata m, metadata-file f, json j
create-container createcontainer: name n, volatile, id i, metadata m, metadata-file f, json j, hostuidmap, hostgidmap, uidmap, gidmap, subuidmap, subgidmap
layers: tree t, quick q, json j
images: quiet q, json j
images-by-digest: quiet q, json j
containers: json j
layer: json j
image: json j
container: json j
exists: quiet q, layer l, image i, container c, json j
metadata: quiet q, json j
set-metadata setmetadata: metadata m, metadata-file f
get-names getnames: json j
add-names addnames: name n, json j
remove-names removenames: name n, json j
set-names setnames: name n, json j
list-layer-data listlayerdata: json j
get-layer-data getlayerdata: file f
set-layer-data setlayerdata: file f
list-image-data listimagedata: json j
get-image-data getimagedata: file f
get-image-data-size getimagedatasize:
get-image-data-digest getimagedatadigest:
set-image-data setimagedata: file f
get-image-dir getimagedir:
get-image-run-dir getimagerundir:
list-container-data listcontainerdata: json j
get-container-data getcontainerdata: file f
get-container-data-size getcontainerdatasize:
get-container-data-digest getcontainerdatadigest:
set-container-data setcontainerdata: file f
get-container-dir getcontainerdir:
get-container-run-dir getcontainerrundir:
mount: opt o, label l, read-only r, ro, json j
unmount umount: json j, force f
mounted: json j
changes: json j
diff: file f, uncompressed u, gzip c, bzip2 b, bz2, xz x
diffsize diff-size:
applydiff apply-diff: file f
delete: json j
delete-layer deletelayer: json j
delete-image deleteimage: test t, json j
delete-container deletecontainer: json j
gc: json j
shutdown: json j, force f
status: json j
version: json j
wipe: json j
config:
unshare:
`

func TestPeersCommandsAndFlagsExist(t *testing.T) {
	p := &program{args: []string{peerName, "docs"}, stdin: strings.NewReader(""), stdout: io.Discard,
		stderr: io.Discard,
		global: &globalFlags{}, peer: true}
	root := p.rootCommand()
	for line := range strings.Lines(strings.TrimPrefix(flagsOfPeer, "\n")) {
		names, flags, _ := strings.Cut(strings.TrimSpace(line), ":")
		for _, name := range strings.Fields(names) {
			command, _, err := root.Find([]string{name})
			if err != nil || command == root {
				t.Errorf("there is no command %s", name)
				continue
			}
			for flag := range strings.SplitSeq(flags, ",") {
				long, short, _ := strings.Cut(strings.TrimSpace(flag), " ")
				if long == "" {
					continue
				}
				found := command.Flags().Lookup(long)
				if found == nil || short != "" && found.Shorthand != short {
					t.Errorf("%s: flag --%s -%s is missing", name, long, short)
				}
			}
		}
	}
}

func TestManPages(t *testing.T) {
	dir := t.TempDir()
	if got := in(t, "", "docs", "--man", dir); got.status != 0 {
		t.Fatal(got.stderr)
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err != nil || len(pages) < 50 {
		t.Fatalf("%d man pages: %v", len(pages), err)
	}
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Skip("groff is not installed: the markup of the man pages was not checked")
	}
	for _, page := range pages {
		complaints, err := exec.Command(groff, "-man", "-ww", "-z", page).CombinedOutput()
		if err != nil || len(complaints) > 0 {
			t.Errorf("%s: %v\n%s", page, err, complaints)
		}
	}
}

func TestCompletionScriptsParse(t *testing.T) {
	for shell, check := range map[string][]string{"bash": {"-n"}, "zsh": {"-n"}, "fish": {"--no-execute"}} {
		t.Run(shell, func(t *testing.T) {
			got := in(t, "", "completion", shell)
			if got.status != 0 || !strings.Contains(got.stdout, "shale") {
				t.Fatalf("status %d: %s", got.status, got.stderr)
			}
			path, err := exec.LookPath(shell)
			if err != nil {
				t.Skipf("%s is not installed", shell)
			}
			script := filepath.Join(t.TempDir(), "script")
			if err := os.WriteFile(script, []byte(got.stdout), 0o644); err != nil {
				t.Fatal(err)
			}
			if complaint, err := exec.Command(path, append(check, script)...).CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, complaint)
			}
		})
	}
}
