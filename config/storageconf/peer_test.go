package storageconf_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/shalestore/shale/config/storageconf"
	"github.com/shalestore/shale/internal/testutil"
	"golang.org/x/sys/unix"
)

// peerOptions is what "containers-storage config" prints, as far as it can be compared.
type peerOptions struct {
	RunRoot         string   `json:"runroot"`
	GraphRoot       string   `json:"root"`
	ImageStore      string   `json:"imagestore"`
	Driver          string   `json:"driver"`
	Priority        []string `json:"driver-priority"`
	Options         []string `json:"driver-options"`
	AutoUser        string   `json:"root_auto_ns_user"`
	AutoMin         uint32   `json:"auto_userns_min_size"`
	AutoMax         uint32   `json:"auto_userns_max_size"`
	DisableVolatile bool     `json:"disable-volatile"`
	Transient       bool     `json:"transient_store"`
}

// The same files and variables mean the same to containers-storage: what it refuses we
// refuse, and what it takes gives the same settings.
func TestSameAsContainersStorage(t *testing.T) {
	testutil.Root(t) // containers-storage opens a store even to print its settings
	peer := testutil.Peer(t)
	for _, tt := range []struct {
		name  string
		env   map[string]string
		files []string // the main file, and then drop-ins by way of the override variable; @ is a directory
		// lenient says why Shale takes what containers-storage refuses, strict the other
		// way round
		lenient, strict string
	}{
		{name: "nothing", files: []string{""}},
		{name: "roots with variables", files: []string{
			"[storage]\ndriver='vfs'\ngraphroot='@/$NAME/../graph-$UID'\nrunroot='@/${NAME}'\n"},
			env: map[string]string{"NAME": "x"}},
		{name: "roots through links", files: []string{
			"[storage]\ndriver='vfs'\ngraphroot='@/link'\nrunroot='@/link/run'\n"}},
		{name: "generic options", files: []string{
			"[storage]\ndriver='overlay'\n[storage.options]\nmountopt='nodev'\nskip_mount_home='true'\nignore_chown" +
				"_errors='false'\nadditionalimagestores=['@', '/']\n[storage.options.overlay]\nmountopt='nodev," +
				"metacopy=on'\n"}},
		{name: "inline tables",
			files: []string{
				"storage={driver='vfs', options={vfs={ignore_chown_errors='true'}, " +
					"pull_options={convert_images='true'}}}"}},
		{name: "dotted keys",
			files: []string{"storage.driver='vfs'\nstorage.options.vfs.ignore_chown_errors='true'\n"}},
		{name: "upper case", files: []string{"[Storage]\nDRIVER='vfs'\n[storage.Options]\nAuto-Userns-Min-Size=7\n"}},
		{name: "automatic user namespaces", files: []string{
			"[storage]\ndriver='vfs'\n[storage.options]\nroot-auto-userns-user='pool'\nauto-userns-min-size=7\nauto" +
				"-userns-max-size=0x10_0000\n"}},
		{name: "two files", files: []string{"[storage]\ndriver='vfs'\ndriver_priority=['vfs']\ngraphroot='@/a'\n",
			"[storage]\ndriver_priority=['overlay',{append=true}]\ngraphroot='@/b'\n"}},
		{name: "a value taken back", files: []string{"[storage]\ndriver='zfs'\n[storage.options.overlay]\nsize='1G'\n",
			"[storage]\ndriver=''\n[storage.options.overlay]\nsize=''\n"}},
		{name: "booleans",
			files: []string{
				"[storage]\ndriver='vfs'\ntransient_store=true\n[storage.options]\ndisable-volatile=true\n"}},
		{name: "image store", files: []string{"[storage]\ndriver='vfs'\nimagestore='@/images'\n"}},
		{name: "image store in the graph root", files: []string{
			"[storage]\ndriver='vfs'\ngraphroot='@/a'\nimagestore='@/a'\n"}},
		{name: "STORAGE_DRIVER", files: []string{"[storage]\ndriver='overlay'\n"},
			env: map[string]string{"STORAGE_DRIVER": "vfs"}},
		{name: "overlay2", files: []string{"[storage]\ndriver='overlay2'\n"}},
		{name: "STORAGE_OPTS", files: []string{"[storage]\ndriver='overlay'\n[storage.options.overlay]\nsize='5'\n"},
			env: map[string]string{"STORAGE_OPTS": "overlay.skip_mount_home=true,zfs.x=1,Mountopt= nodev"}},
		{name: "empty STORAGE_OPTS", files: []string{"[storage]\ndriver='vfs'\n[storage.options]\nmountopt='nodev'\n"},
			env: map[string]string{"STORAGE_OPTS": ""}},
		{name: "mount options for vfs", files: []string{
			"[storage]\ndriver='vfs'\n[storage.options]\nmountopt='nodev'\n"}},
		{name: "vfs.sync", files: []string{"[storage]\ndriver='vfs'\n[storage.options.vfs]\nsync='none'\n"},
			lenient: "containers-storage documents the option and looks for it under a wrong name"},
		{name: "overlay.sync",
			files: []string{"[storage]\ndriver='overlay'\n[storage.options.overlay]\nsync='Filesystem'\n"}},
		{name: "wrong sync", files: []string{"[storage]\ndriver='overlay'\n[storage.options.overlay]\nsync='fast'\n"}},
		{name: "wrong boolean",
			files: []string{"[storage]\ndriver='overlay'\n[storage.options.overlay]\nskip_mount_home='yes'\n"}},
		{name: "boolean without quotes", files: []string{
			"[storage]\ndriver='overlay'\n[storage.options.overlay]\nskip_mount_home=true\n"}},
		{name: "boolean in quotes", files: []string{"[storage]\ndriver='vfs'\ntransient_store='true'\n"}},
		{name: "wrong size", files: []string{"[storage]\ndriver='overlay'\n[storage.options.overlay]\nsize='big'\n"}},
		{name: "wrong mask",
			files: []string{"[storage]\ndriver='overlay'\n[storage.options.overlay]\nforce_mask='rwx'\n"}},
		{name: "unknown driver", files: []string{"[storage]\ndriver='thinpool'\n"}},
		{name: "unknown key", files: []string{"[storage]\ndriver='vfs'\ncolour='grey'\n[elsewhere]\nx=1\n"}},
		{name: "unknown option", files: []string{""}, env: map[string]string{"STORAGE_OPTS": "colour=grey",
			"STORAGE_DRIVER": "vfs"}},
		{name: "option without value", files: []string{""}, env: map[string]string{"STORAGE_OPTS": "colour",
			"STORAGE_DRIVER": "vfs"}},
		{name: "option of an unknown driver", files: []string{""},
			env: map[string]string{"STORAGE_OPTS": "thinpool.size=1", "STORAGE_DRIVER": "vfs"}},
		{name: "no such image store", files: []string{
			"[storage]\ndriver='overlay'\n[storage.options]\nadditionalimagestores=['/nonexistent/x']\n"}},
		{name: "relative image store", files: []string{
			"[storage]\ndriver='overlay'\n[storage.options]\nadditionalimagestores=['x']\n"}},
		{name: "key twice", files: []string{"[storage]\ndriver='vfs'\ndriver='vfs'\n"}},
		{name: "no TOML", files: []string{"[storage"}},
		{name: "a wrong value for another driver",
			files:  []string{"[storage]\ndriver='vfs'\n[storage.options.overlay]\nsize='big'\n"},
			strict: "a file is checked whole"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			if err := os.MkdirAll(filepath.Join(h.root, "real"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(filepath.Join(h.root, "real"), filepath.Join(h.root, "link")); err != nil {
				t.Fatal(err)
			}
			// The roots stand in the weakest file, so that the other program makes its
			// store in here.
			h.env["CONTAINERS_STORAGE_CONF"] = h.write("main.conf", strings.ReplaceAll(tt.files[0], "@", h.root))
			if len(tt.files) > 1 {
				h.env["CONTAINERS_STORAGE_CONF_OVERRIDE"] = h.write("over.conf",
					strings.ReplaceAll(tt.files[1], "@", h.root))
			}
			for k, v := range tt.env {
				h.env[k] = v
			}
			ours, _, err := h.load(storageconf.Overrides{})
			theirs, theirErr := askPeer(t, peer, h)
			switch {
			case tt.lenient != "":
				if err != nil || theirErr == "" {
					t.Errorf("we: %v; they: %s; expected a difference: %s", err, theirErr, tt.lenient)
				}
				return
			case tt.strict != "":
				if err == nil || theirErr != "" {
					t.Errorf("we: %v; they: %s; expected a difference: %s", err, theirErr, tt.strict)
				}
				return
			case (err != nil) != (theirErr != ""):
				t.Fatalf("we: %v; they: %s", err, theirErr)
			case err != nil:
				return
			}
			got := peerOptions{
				RunRoot: ours.RunRoot, GraphRoot: ours.GraphRoot, ImageStore: ours.ImageStore, Driver: ours.Driver,
				Priority: ours.DriverPriority,
				AutoUser: ours.AutoUserns.User, AutoMin: ours.AutoUserns.MinSize, AutoMax: ours.AutoUserns.MaxSize,
				DisableVolatile: ours.DisableVolatile, Transient: ours.TransientStore, Options: ours.DriverOptions(),
			}
			if theirs.AutoMin == 0 {
				theirs.AutoMin = 1024 // they fill in the default later
			}
			if theirs.AutoMax == 0 {
				theirs.AutoMax = 65536
			}
			for i, o := range theirs.Options {
				key, value, _ := strings.Cut(o, "=")
				theirs.Options[i] = strings.ToLower(strings.TrimSpace(key)) + "=" + strings.TrimSpace(value)
			}
			if !reflect.DeepEqual(got, theirs) {
				t.Errorf("we:   %+v\nthey: %+v", got, theirs)
			}
		})
	}
}

// askPeer prints the settings of containers-storage. It opens its store for that, with
// mounts that end with their namespace, and in a file system of its own where the default
// roots are.
func askPeer(t *testing.T, peer string, h *host) (peerOptions, string) {
	t.Helper()
	script := `for d in /var/lib /run; do mount -t tmpfs none $d || exit 99; done; exec "$0" config`
	cmd := exec.Command("sh", "-c", script, peer)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	for k, v := range h.env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if cmd.ProcessState.ExitCode() == 99 {
			t.Skipf("can't mount: %s", stderr.String())
		}
		return peerOptions{}, strings.TrimSpace(stdout.String() + stderr.String())
	}
	var o peerOptions
	if err := json.Unmarshal(stdout.Bytes(), &o); err != nil {
		t.Fatalf("%v in %s", err, stdout.String())
	}
	return o, ""
}
