// Package storageconf fills a config.Config from storage.conf(5), the environment and the
// command line.
//
// The files and the grammar are those that Podman, Buildah, Skopeo and CRI-O read, so
// that a host is set up once for all of them. What differs is what happens to a mistake:
// a wrong value stops Shale with the file and the line, and a key that Shale doesn't know
// is handed back as a Warning with its file and line, since a host may carry newer files
// than Shale.
//
// Nothing inward sees a string map. The drivers' options, which containers-storage
// carries as "key=value" strings down to each driver, are decoded here, wherever they
// came from. This is also the only package that reads the environment: what others want
// to know of it, they find in the Config.
//
// Reading the source: load.go has what comes in and what goes out; search.go finds the
// files; parse.go turns one into entries with line numbers; keys.go lists every key;
// merge.go puts entries, environment and command line together; options.go decodes driver
// options; settings.go tells where each value came from.
package storageconf
