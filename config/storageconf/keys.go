package storageconf

// kind is the TOML type that the grammar asks for.
type kind int

const (
	text    kind = iota // a string, also where a number or "true" is meant
	boolean             // true or false, without quotes
	integer             // a number of 0 or more
	list                // an array of strings, {append=true} possibly among them
)

func (k kind) String() string {
	return [...]string{`a string in quotes`, `true or false without quotes`, `a whole number`, `an array of strings`}[k]
}

// key is one key that the grammar knows.
type key struct {
	name string // with its tables
	kind kind
	// option is the driver option that the key stands for, "" when the store itself uses
	// it.
	option string
	// unused says why a key has no effect.
	unused string
}

// keys lists every key of storage.conf, those that become driver options in the order in
// which containers-storage hands them to its driver, where the last one wins: what a
// driver's own table says wins over [storage.options].
func keys() []key {
	return []key{
		{name: "storage.driver"},
		{name: "storage.driver_priority", kind: list},
		{name: "storage.runroot"},
		{name: "storage.graphroot"},
		{name: "storage.imagestore"},
		{name: "storage.rootless_storage_path"},
		{name: "storage.transient_store", kind: boolean},

		{name: "storage.options.additionalimagestores", kind: list, option: "imagestore"},
		{name: "storage.options.additionallayerstores", kind: list, option: "additionallayerstore"},
		{name: "storage.options.size", option: "size"},
		{name: "storage.options.mount_program", option: "mount_program"},
		{name: "storage.options.skip_mount_home", option: "skip_mount_home"},
		{name: "storage.options.ignore_chown_errors", option: "ignore_chown_errors"},
		{name: "storage.options.force_mask", kind: integer, option: "force_mask"},
		{name: "storage.options.mountopt", option: "mountopt"},
		{name: "storage.options.btrfs.min_space", option: "btrfs.min_space"},
		{name: "storage.options.btrfs.size", option: "btrfs.size"},
		{name: "storage.options.overlay.ignore_chown_errors", option: "overlay.ignore_chown_errors"},
		{name: "storage.options.overlay.mount_program", option: "overlay.mount_program"},
		{name: "storage.options.overlay.mountopt", option: "overlay.mountopt"},
		{name: "storage.options.overlay.size", option: "overlay.size"},
		{name: "storage.options.overlay.inodes", option: "overlay.inodes"},
		{name: "storage.options.overlay.skip_mount_home", option: "overlay.skip_mount_home"},
		{name: "storage.options.overlay.force_mask", option: "overlay.force_mask"},
		{name: "storage.options.overlay.use_composefs", option: "overlay.use_composefs"},
		{name: "storage.options.overlay.sync", option: "overlay.sync"},
		{name: "storage.options.vfs.ignore_chown_errors", option: "vfs.ignore_chown_errors"},
		{name: "storage.options.vfs.sync", option: "vfs.sync"},
		{name: "storage.options.zfs.fsname", option: "zfs.fsname"},
		{name: "storage.options.zfs.mountopt", option: "zfs.mountopt"},
		{name: "storage.options.zfs.size", option: "zfs.size"},

		{name: "storage.options.root-auto-userns-user"},
		{name: "storage.options.auto-userns-min-size", kind: integer},
		{name: "storage.options.auto-userns-max-size", kind: integer},
		{name: "storage.options.disable-volatile", kind: boolean},
		{name: "storage.options.pull_options.enable_partial_images"},
		{name: "storage.options.pull_options.convert_images"},
		{name: "storage.options.pull_options.use_hard_links"},
		{name: "storage.options.pull_options.ostree_repos"},
		{name: "storage.options.pull_options.insecure_allow_unpredictable_image_contents"},

		{name: "storage.options.imagestore", unused: "storage.imagestore is the key that counts"},
		{name: "storage.options.use_composefs", unused: "storage.options.overlay.use_composefs is the key that counts"},
	}
}
