package main

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
)

// peakMemory returns the most bytes of memory that this process ever had resident, as Linux counts them.
func peakMemory() (int64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, fmt.Errorf("memory is only measured on Linux: %w", err)
	}
	found := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	if found == nil {
		return 0, errors.New("no VmHWM in /proc/self/status")
	}
	kilobytes, err := strconv.ParseInt(string(found[1]), 10, 64)
	return kilobytes << 10, err
}
