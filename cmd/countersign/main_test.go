package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/countersign/countersign/migrations/pgtest"
)

// TestMain makes the test binary the program itself where it is started under the program's name.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "countersign" {
		main()
	}
	os.Exit(pgtest.Main(m))
}
