//go:build linux || darwin

package postgres

import "io"

// Doors for tests to parts whose whole input cannot be had on one machine.

func InstallLine(osRelease string, version int) string { return installLine(osRelease, version) }

func Unpack(archive io.Reader, dir string) error { return unpack(archive, dir) }
