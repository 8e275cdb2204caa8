// Package quota bounds what the files beneath a directory may take, with the project
// quotas of XFS and ext4.
//
// A project is a number on inodes. A directory that hands its project down
// (FS_XFLAG_PROJINHERIT) gives it to every file made in it, and the file system counts
// each project's bytes and inodes as it goes, so that asking for them is one system call
// however many files there are, and a write beyond a limit fails. The directory must get
// its project while it is empty: what is in it already keeps the project it has.
//
// Home is a directory whose subdirectories get a project each. The IDs are those that
// containers/storage would use there (section 9 of the storage format), so both can have
// limits in one home:
//
//	home, err := quota.Open("/var/lib/containers/storage/overlay")
//	err = home.Assign(ctx, dir, quota.Limits{Bytes: 10 << 30}) // dir is an empty directory
//	limits, usage, err := home.Read(dir)
//	err = home.Lift(dir) // before its files are removed
//
// Where there are no quotas, Open's errdefs.ErrUnsupported says what to mount or to
// format.
//
// An ID is in use as long as the file system counts an inode with it. That is all there
// is to know: an ID becomes free when the last file is gone, whoever removed it, and no
// list of them can go stale. Assign chooses under a lock on the home, so no two processes
// that use this package choose the same.
//
// What the kernel does is not the same everywhere. ext4 answers EDQUOT, and lets a
// process with CAP_SYS_RESOURCE go beyond all limits, but not through overlayfs, which
// never uses that capability of whoever mounted it. XFS answers ENOSPC where it is a
// project's limit, and makes no exceptions. On both a project's limit is what df shows
// beneath it.
//
// Setting limits takes CAP_SYS_ADMIN in the initial user namespace.
package quota
