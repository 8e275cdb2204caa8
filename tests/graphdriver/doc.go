// Package graphdriver runs the tests and benchmarks that containers/storage has for graph
// drivers (go.podman.io/storage/drivers/graphtest) on Shale's drivers, through the
// adapter in compat/graphdriver.
//
// DriverTestSetQuota runs in the virtual machine (make test-vm). One is missing:
// DriverBenchDiffApplyN applies no tar at all and then expects its files: it fails on
// containers/storage's own drivers too.
package graphdriver
