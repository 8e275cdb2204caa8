// Package compress reads and writes compressed streams. They are known by their first
// bytes, never by a name or a media type: a registry's label can be wrong, the bytes
// can't.
package compress
