package partner_test

import (
	"os"
	"testing"

	"github.com/countersign/countersign/migrations/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
