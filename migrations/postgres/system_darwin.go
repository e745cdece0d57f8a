package postgres

import "syscall"

// signalAtParentsDeath does nothing: this system has no such signal. A server that its process leaves behind
// goes on, and the next process adopts it.
func signalAtParentsDeath(*syscall.SysProcAttr, syscall.Signal) {}

// syncDisks waits until all that was written is on disk.
func syncDisks() { _ = syscall.Sync() }
