package main

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
)

// peakMemory returns the most bytes of memory that this process ever had resident, as Linux counts them.
func peakMemory() (int64, error) { return peakMemoryOf(os.Getpid()) }

// peakMemoryOf is peakMemory of another process.
func peakMemoryOf(process int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", process))
	if err != nil {
		return 0, fmt.Errorf("memory is only measured on Linux: %w", err)
	}
	found := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	if found == nil {
		return 0, errors.New("no VmHWM in the status of the process")
	}
	kilobytes, err := strconv.ParseInt(string(found[1]), 10, 64)
	return kilobytes << 10, err
}

// forgetPeak has Linux begin anew: the most bytes of a process are from here on those that it has now.
func forgetPeak(process int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", process), []byte("5"), 0)
}
