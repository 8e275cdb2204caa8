// Package store ties layers, images and containers together.
package store
