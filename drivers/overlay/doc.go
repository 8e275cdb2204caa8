// Package overlay keeps layers as directories that overlayfs stacks.
//
// A layer is a directory of the driver's home, <graph root>/overlay, laid out as
// containers/storage has it:
//
//	<id>/             0700, owned by the layer's root user
//	  diff/           the layer's own files; whiteouts and opaque directories in overlayfs form
//	  diff1/ diff2/   older generations of them, beneath diff; made when the layer's owners are
//	                changed: diff1 is then all that the layer shows, with the new owners
//	  link            the layer's short name, 26 letters and digits
//	  lower           the short names of all parents, nearest first: "l/NAME:l/NAME"; missing without a parent
//	  lower-layers    the same as IDs: "<id>:<id>"; releases before 1.63 neither write nor read it
//	  empty/          the lower directory of a layer without a parent, since overlayfs wants one
//	  work/           overlayfs' scratch space
//	  merged/         where the layer is mounted
//	l/NAME            a symlink ../<id>/diff
//	tempdirs/         what is being made and what is being deleted (package internal/tempdir)
//	staging/          partial pulls, each with a lock that its process holds
//	.has-mount-program    says "true" once a mount program has been used
//	backingFsBlockDev     a device node by which old kernels are asked for quotas
//
// With a split image store, its overlay directory is a second home for the layers that
// aren't writable, with an l and a tempdirs of its own.
//
// Each verb of drivers.Driver has a file of that name; probe.go finds out what the kernel
// can do, by doing it.
package overlay
