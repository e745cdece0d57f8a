package grant_test

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/countersign/countersign/migrations/pgtest"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if *replicaFlag != "" {
		fmt.Fprintln(os.Stderr, beReplica(*replicaFlag))
		os.Exit(1)
	}
	os.Exit(pgtest.Main(m))
}
