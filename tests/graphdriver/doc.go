// Package graphdriver runs the tests and benchmarks that containers/storage has for graph drivers (go.podman.io/storage/drivers/graphtest) on Shale's
// drivers, through the adapter in compat/graphdriver.
//
// Two of them are missing. DriverTestSetQuota wants a file system with project quotas. DriverBenchDiffApplyN applies no tar at all and then expects its
// files: it fails on containers/storage's own drivers too.
package graphdriver
