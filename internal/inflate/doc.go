// Package inflate decompresses gzip (RFC 1952), which nearly all layers in registries
// are, at nearly twice the speed of the usual Go libraries. Inflating is what takes
// longest in unpacking a layer, and nothing else can help a stage that must go byte after
// byte.
//
// It gains that by the ways of libdeflate, written anew in Go: 64 bits of input at a time
// and one refill for a whole match; tables whose entries hold all that a symbol means, so
// that most symbols cost one look-up; up to three literals between two refills; matches
// copied in words; and an input buffer padded at its end, so that the inner loop checks
// once a round for input and room and for nothing else.
//
// All indices are checked by the compiler: what a hostile stream can reach is the buffers
// of its own Reader.
package inflate
