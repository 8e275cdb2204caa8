package storageconf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/shalestore/shale/config"
	"github.com/shalestore/shale/errdefs"
	"github.com/shalestore/shale/mount"
)

// driverOption is one option on its way to a driver. The files, STORAGE_OPTS and
// --storage-opt all give such options, and what one of them says of an option is said in
// the same words in the others.
type driverOption struct {
	driver string // whose option it is; "" for that of whatever driver is used
	name   string
	value  string
	origin Origin
	file   bool   // set in a file, whose grammar is checked for every driver
	key    string // how to call it in messages
}

// String is the option in containers-storage's form.
func (o driverOption) String() string {
	if o.driver == "" {
		return o.name + "=" + o.value
	}
	return o.driver + "." + o.name + "=" + o.value
}

// fileOptions lists the driver options that the files give.
func (l *loader) fileOptions() []driverOption {
	var opts []driverOption
	for _, k := range keys() {
		e, ok := l.entries[k.name]
		if !ok || k.option == "" {
			continue
		}
		o := driverOption{name: k.option, origin: e.origin, file: true, key: k.name}
		if driver, name, ok := strings.Cut(k.option, "."); ok {
			o.driver, o.name = driver, name
		}
		switch {
		case k.kind == list:
			for _, v := range e.list {
				o.value = v
				opts = append(opts, o)
			}
			continue
		case k.kind == integer: // force_mask, where 0 means nothing
			n, _ := strconv.ParseUint(e.text, 10, 32)
			if n == 0 {
				continue
			}
			o.value = strconv.FormatUint(n, 8)
		case e.text == "":
			continue
		default:
			o.value = e.text
		}
		opts = append(opts, o)
	}
	return opts
}

// splitOptions parses "key=value" and "driver.key=value" strings. Spaces around key and
// value don't count, nor does the case of the key.
func splitOptions(args []string, at Origin) ([]driverOption, error) {
	var opts []driverOption
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		if !ok {
			hint := ""
			if at.Env != "" {
				hint = "; a value with commas in it can only be given in storage.conf or with --storage-opt"
			}
			return nil, wrong(at, "option", "%q is not of the form key=value%s", arg, hint)
		}
		o := driverOption{name: strings.ToLower(strings.TrimSpace(key)), value: strings.TrimSpace(value), origin: at}
		if driver, name, ok := strings.Cut(o.name, "."); ok {
			if driver != "" && !familyDriver(driver) {
				return nil, wrong(at, "option", "%q is for an unknown driver", arg)
			}
			o.driver, o.name = driver, name
		}
		o.key = strings.TrimSuffix(o.String(), "="+o.value)
		if strings.ContainsRune(o.value, 0) {
			return nil, wrong(at, o.key, "holds a NUL byte")
		}
		opts = append(opts, o)
	}
	return opts, nil
}

// decodeOptions sets the typed fields from c.options, of which the last one wins. An
// option of another driver than the one in use is passed over, except that what a file
// says must make sense for any driver.
func (c *Settings) decodeOptions() error {
	for _, o := range c.options {
		known, err := true, error(nil)
		switch driver := o.driver; {
		case driver == "btrfs" || driver == "zfs":
		case driver == "vfs":
			if o.file || c.Driver != "overlay" {
				known, err = c.vfsOption(o)
			}
		case driver != "": // overlay and overlay2
			if o.file || c.Driver != "vfs" {
				known, err = c.overlayOption(o)
			}
		case c.Driver == "vfs":
			known, err = c.vfsOption(o)
		default:
			if known, err = c.overlayOption(o); known && err == nil && o.name == "ignore_chown_errors" &&
				c.Driver == "" {
				known, err = c.vfsOption(o)
			}
		}
		if err != nil && !errors.Is(err, errdefs.ErrInvalid) {
			err = fmt.Errorf("%w: %w", errdefs.ErrInvalid, err)
		}
		if err != nil {
			return fmt.Errorf("%s: %s: %w", o.origin, o.key, err)
		}
		if !known {
			driver := o.driver
			if driver == "" {
				if driver = c.Driver; driver == "" {
					driver = "overlay"
				}
			}
			return wrong(o.origin, o.key, "driver %s has no such option", driver)
		}
	}
	return nil
}

// overlayOption sets one option of the overlay driver; known is false when there is none
// of that name.
func (c *Settings) overlayOption(o driverOption) (known bool, err error) {
	v, to := o.value, &c.Overlay
	key := "storage.options.overlay." + o.name
	switch o.name {
	case "mountopt":
		to.MountOptions = splitMountOptions(v)
		// what no kernel would take; whether this one knows the others it says when it
		// mounts
		_, _, err = mount.ParseOptions(to.MountOptions)
	case "size":
		to.Size, err = ParseSize(v)
	case "inodes":
		if to.Inodes, err = strconv.ParseUint(v, 10, 64); err != nil {
			err = fmt.Errorf("%q is not a whole number", v)
		}
	case "imagestore", "additionalimagestore":
		return true, c.addImageStores(o)
	case "additionallayerstore":
		return true, c.addLayerStores(o)
	case "use_composefs":
		to.UseComposefs, err = parseBool(v)
	case "mount_program":
		if to.MountProgram = v; v != "" {
			_, err = os.Stat(v)
		}
	case "skip_mount_home":
		to.SkipMountHome, err = parseBool(v)
	case "ignore_chown_errors":
		to.IgnoreChownErrors, err = parseBool(v)
	case "force_mask":
		to.ForceMask, err = parseMask(v)
	case "sync":
		to.Sync, err = parseSync(v)
	case "override_kernel_check":
		return true, nil // of Docker's days: accepted, without effect, as in containers-storage
	default:
		return false, nil
	}
	c.Origins[key] = o.origin
	return true, err
}

// vfsOption is overlayOption for the vfs driver.
func (c *Settings) vfsOption(o driverOption) (known bool, err error) {
	switch o.name {
	case "ignore_chown_errors":
		c.VFS.IgnoreChownErrors, err = parseBool(o.value)
	case "sync":
		c.VFS.Sync, err = parseSync(o.value)
	case "imagestore", "additionalimagestore":
		return true, c.addImageStores(o)
	default:
		return false, nil
	}
	c.Origins["storage.options.vfs."+o.name] = o.origin
	return true, err
}

// addImageStores adds the read-only stores of a comma-separated list.
func (c *Settings) addImageStores(o driverOption) error {
	for path := range strings.SplitSeq(o.value, ",") {
		if path == "" {
			continue
		}
		path, err := directory(path)
		if err != nil {
			return err
		}
		c.AdditionalImageStores = append(c.AdditionalImageStores, path)
		c.Origins["storage.options.additionalimagestores"] = o.origin
	}
	return nil
}

// addLayerStores adds the layer stores of a comma-separated list, each a path that ":ref"
// may follow.
func (c *Settings) addLayerStores(o driverOption) error {
	for item := range strings.SplitSeq(o.value, ",") {
		if item == "" {
			continue
		}
		path, flag, flagged := strings.Cut(item, ":")
		if flagged && flag != "ref" {
			return fmt.Errorf("%q: only \"ref\" may follow the colon", item)
		}
		path, err := directory(path)
		if err != nil {
			return err
		}
		c.AdditionalLayerStores = append(c.AdditionalLayerStores, config.LayerStore{Path: path, WithReference: flagged})
		c.Origins["storage.options.additionallayerstores"] = o.origin
	}
	return nil
}

// directory returns path cleaned, if it is an absolute one of an existing directory.
func directory(path string) (string, error) {
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("%q is not an absolute path", path)
	}
	path = filepath.Clean(path)
	st, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !st.IsDir() {
		return "", fmt.Errorf("%s is not a directory", path)
	}
	return path, nil
}

// splitMountOptions splits at commas, but not at those in quotes, which SELinux contexts
// have.
func splitMountOptions(s string) []string {
	quoted := false
	var opts []string
	for _, o := range strings.FieldsFunc(s, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return r == ',' && !quoted
	}) {
		if o = strings.TrimSpace(o); o != "" {
			opts = append(opts, o)
		}
	}
	return opts
}

func parseBool(s string) (bool, error) {
	b, err := strconv.ParseBool(s)
	if err != nil {
		return false, fmt.Errorf(`%q is neither "true" nor "false"`, s)
	}
	return b, nil
}

// parseMask reads force_mask: permissions in octal, or one of two names.
func parseMask(s string) (*fs.FileMode, error) {
	var mode fs.FileMode
	switch s {
	case "shared":
		mode = 0o755
	case "private":
		mode = 0o700
	default:
		n, err := strconv.ParseUint(s, 8, 32)
		if err != nil || n > 0o777 {
			return nil, fmt.Errorf(`%q is none of "shared", "private" and the octal numbers up to 0777`, s)
		}
		mode = fs.FileMode(n)
	}
	return &mode, nil
}

func parseSync(s string) (string, error) {
	switch s = strings.ToLower(strings.TrimSpace(s)); s {
	case "none", "filesystem", "":
		return s, nil
	}
	return "", fmt.Errorf(`%q is neither "none" nor "filesystem"`, s)
}
