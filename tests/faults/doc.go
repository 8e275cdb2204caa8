// Package faults damages what a store stands on: its files, by fuzzing, and each write of
// its commands, by a disk that is full, over quota or broken.
package faults
