package lockfile

// FD is the lock's descriptor, for tests of what other copies of it do.
func (l *Lock) FD() int { return l.fd }
