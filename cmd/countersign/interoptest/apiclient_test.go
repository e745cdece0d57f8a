package interoptest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A client that another make's generator writes from the running server's document, checked by its compiler,
// finds that the API does what the document says.
func TestGeneratedClient(t *testing.T) {
	t.Parallel()
	const folder = "testdata/api-client"
	node := needNode(t, folder, "openapi-typescript")
	address := freeAddress(t)
	s := &server{authorizeURL: "http://" + address + "/authorize", tokenURL: "http://" + address + "/token", apiURL: "http://" + address + "/v3"}
	v := startService(t, build(t), address, s)
	words := strings.Fields(v.run(t, "", "key", "create", "--name", "generated", "--scopes", "read,write"))

	work := t.TempDir()
	packages, err := filepath.Abs(folder + "/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(packages, work+"/node_modules"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"package.json", "round_trip.ts"} {
		text, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(work, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"node_modules/openapi-typescript/bin/cli.js", v.url + "/api/v1/openapi.json", "--output", "schema.d.ts"},
		{
			"node_modules/typescript/bin/tsc", "--strict", "--module", "nodenext", "--target", "es2022", "--lib", "es2022,dom,dom.iterable",
			"--skipLibCheck", "round_trip.ts",
		},
		{"round_trip.js", v.url + "/api/v1", words[len(words)-1]},
	} {
		cmd := exec.CommandContext(t.Context(), node, args...)
		cmd.Dir = work
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", args[0], err, out)
		}
	}
}
