// Release makes a version of all modules of go.work at once, of the last commit:
//
//	release [-dry-run] [-proxy DIRECTORY] VERSION
//
// It cuts CHANGELOG.md's section of what is unreleased into one for the version, writes
// into every go.mod that asks for a module of ours that it asks for this version,
// commits, and tags: v1.2.3 for the library, cmd/v1.2.3 for the programs, and so on. It
// pushes nothing, and says how. It refuses a version that isn't newer than all others,
// and a working tree that isn't committed.
//
// All of this happens in a clone, which comes home only when everything went well, and
// with -dry-run not at all. With -proxy the modules are written into a directory as a Go
// module proxy has them, from which they can be installed before anybody else sees them.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

func main() {
	dryRun := flag.Bool("dry-run", false, "leave nothing but what -proxy asks for")
	proxy := flag.String("proxy", "", "write the modules into this `directory`, for GOPROXY=file://DIRECTORY")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: release [-dry-run] [-proxy DIRECTORY] VERSION")
		os.Exit(2)
	}
	if err := release(flag.Arg(0), *proxy, *dryRun); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

var semver = regexp.MustCompile(`^v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?$`)

func release(version, proxy string, dryRun bool) (err error) {
	if !semver.MatchString(version) {
		return fmt.Errorf("%s is no version like v1.2.3 or v1.2.3-rc.1", version)
	}
	top, err := run("", "git", "rev-parse", "--show-toplevel")
	if err != nil {
		return err
	}
	if changed, err := run(top, "git", "status", "--porcelain"); err != nil || changed != "" && !dryRun {
		return errors.Join(err, fmt.Errorf("%s: not all of it is committed:\n%s", top, changed))
	}
	work, err := os.MkdirTemp("", "shale-release-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	clone := filepath.Join(work, "shale")
	if _, err := run(top, "git", "clone", "-q", top, clone); err != nil {
		return err
	}
	if err := newest(clone, version); err != nil {
		return err
	}
	if proxy == "" {
		proxy = filepath.Join(work, "proxy")
	} else if proxy, err = filepath.Abs(proxy); err != nil {
		return err
	}
	cache := filepath.Join(work, "modules") // the user's own must never see what isn't released yet
	tags, err := prepare(clone, version, &publisher{top: clone, version: version, proxy: proxy, cache: cache})
	if err != nil || dryRun {
		return err
	}
	for _, key := range []string{"user.name", "user.email"} {
		if value, err := run(top, "git", "config", key); err != nil {
			return err
		} else if _, err = run(clone, "git", "config", key, value); err != nil {
			return err
		}
	}
	if _, err := run(clone, "git", "commit", "-q", "-a", "-m", "release: "+version); err != nil {
		return err
	}
	for _, tag := range tags {
		if _, err := run(clone, "git", "tag", "-a", "-m", "Shale "+version, tag); err != nil {
			return err
		}
	}
	if _, err := run(top, "git", "pull", "-q", "--ff-only", "--tags", clone, "HEAD"); err != nil {
		return err
	}
	fmt.Printf("git push --atomic origin HEAD %s\n", strings.Join(tags, " "))
	return nil
}

// newest refuses a version that is there already, or older than another.
func newest(clone, version string) error {
	if _, err := run(clone, "git", "tag", version); err != nil {
		return err
	}
	tags, err := run(clone, "git", "-c", "versionsort.suffix=-", "tag", "--list", "--sort=-version:refname", "v*")
	if err != nil {
		return err
	}
	if first, _, _ := strings.Cut(tags, "\n"); first != version {
		return fmt.Errorf("%s comes before %s, which is there already", version, first)
	}
	_, err = run(clone, "git", "tag", "-d", version)
	return err
}

// prepare makes of a clone what is to be committed, publishes it, and returns the tags.
func prepare(clone, version string, p *publisher) (tags []string, err error) {
	if err := cutChangelog(filepath.Join(clone, "CHANGELOG.md"), version, time.Now()); err != nil {
		return nil, err
	}
	if err := setVersions(clone, version); err != nil {
		return nil, err
	}
	modules, err := workspace(clone)
	if err != nil {
		return nil, err
	}
	for _, m := range modules {
		if m.Folder != "." {
			if err := p.sum(m); err != nil {
				return nil, err
			}
		}
		if err := p.publish(m); err != nil {
			return nil, err
		}
		tags = append(tags, strings.TrimPrefix(m.Folder+"/"+version, "./"))
	}
	return tags, nil
}

var unreleased = []byte("## [Unreleased]\n")

// cutChangelog begins a section for the version below the head of what is unreleased.
func cutChangelog(path, version string, now time.Time) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, after, found := bytes.Cut(text, unreleased)
	section, _, _ := bytes.Cut(after, []byte("\n## "))
	if !found || len(bytes.TrimSpace(section)) == 0 {
		return fmt.Errorf("%s: nothing is unreleased", path)
	}
	name := strings.TrimPrefix(version, "v")
	if bytes.Contains(text, []byte("\n## ["+name+"]")) {
		return fmt.Errorf("%s has %s already", path, name)
	}
	head := fmt.Sprintf("%s\n## [%s] - %s\n", unreleased, name, now.UTC().Format(time.DateOnly))
	return os.WriteFile(path, bytes.Join([][]byte{before, []byte(head), after}, nil), 0o644)
}

// run runs a program in a directory and returns what it printed.
func run(dir, name string, args ...string) (string, error) {
	return output(exec.Command(name, args...), dir)
}

func output(cmd *exec.Cmd, dir string) (string, error) {
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%v: %w: %s", cmd.Args, err, stderr.Bytes())
	}
	return strings.TrimSpace(string(out)), nil
}
