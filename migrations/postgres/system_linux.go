package postgres

import "syscall"

func signalAtParentsDeath(attr *syscall.SysProcAttr, signal syscall.Signal) { attr.Pdeathsig = signal }

// syncDisks waits until all that was written is on disk.
func syncDisks() { syscall.Sync() }
