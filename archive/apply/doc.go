// Package apply takes a layer's tar stream apart: its members become files of a
// directory, and a tar-split file records what is needed to put the stream together
// again.
//
// # How Tar works
//
// The stream goes through once, and all stages work at the same time:
//
//	read ── sha256 ──▶ decompress ──┬──▶ sha256 (DiffID)
//	                                └──▶ parse ──┬──▶ tar-split records ── gzip ──▶ the caller's file
//	                                             └──▶ plan ──▶ writers, 2 of them
//
// Uncompressed data travels in blocks of 256 KiB that the stages share and count; nothing
// is copied on the way from the decompressor to write(2). There are 96 of them. A stage
// that wants one when all are in use waits, so a fast source is slowed down by a slow
// disk and memory stays the same for every layer. The parser reads header blocks in
// place. The planner, which is the parser's goroutine, decides for each member what
// becomes of it, makes everything but regular files itself, and hands those to the
// writers with a directory's descriptor and a name that is free there. plan.go says why
// the result is that of the members' order although files are finished in any order.
//
// # What an archive can't do
//
//   - Reach anything outside the directory. Paths are walked one component at a time,
//     each opened with openat2(2) below its parent's descriptor. A symlink on the way is
//     resolved with the layer's root as its "/". Names and hard link targets that climb
//     out as text are refused; symlink targets are data and stored as they are.
//   - Follow what it planted. Files are made with O_EXCL and O_NOFOLLOW, and get their
//     owner, mode, attributes and times by their own descriptor; symlinks and special
//     files by the forms that don't follow. A name that is taken is removed first, never
//     written to.
//   - Replace the root, give a file an ID that wraps around, hide members from one reader
//     of tars that another one sees, or make Tar remember more than a bounded number of
//     bytes a member. archive.Limits bounds the rest: size, members, expansion.
//
// Malformed input is an error and errdefs.ErrInvalid, with the entry's name. What was
// made until then stays, so the directory has to be one that is thrown away.
//
// # What is kept, and what is not
//
// Kept: content, with its holes; modes with their special bits; owners, through the ID
// map; times to the nanosecond, also before 1970, those of directories too; hard links;
// extended attributes with capabilities and ACLs; names in any encoding; devices, FIFOs,
// symlinks. Directories that no entry describes are 0755 and root's. The exact bytes of
// the tar are kept in the tar-split file, whatever they are.
//
// Not kept: change times; the label security.selinux; attributes that the file system
// can't hold or a user namespace may not set, and devices in a user namespace; user and
// group names, ACLs in text (SCHILY.acl.*) and global PAX headers, which are ignored, as
// containers/storage ignores them.
//
// A few archives mean more here than to containers/storage, which refuses them: those
// with GNU sparse members, with the same name more than once, and with a whiteout for a
// file of the same layer. The last member counts. A directory that follows its own
// whiteout becomes opaque.
//
// Not promised: that anything is on disk when Tar returns (the caller syncs), and that a
// zstd stream with a window of up to 128 MiB, or an xz stream with a dictionary of up to
// 64 MiB, is read in less memory than it asks for. Larger ones are refused.
package apply
