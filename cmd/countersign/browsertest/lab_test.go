package browsertest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// shared is what all tests use. The first that needs it opens it, TestMain closes it.
//
//nolint:gochecknoglobals // a test brings nothing along that could hold it
var shared struct {
	once sync.Once
	lab  *lab
	err  error
}

// lab holds what takes long to make.
type lab struct {
	dir      string // of everything that processes write
	program  string
	demo     *demo
	axe      string          // axe-core, which defines axe
	chromium context.Context //nolint:containedctx // chromedp's handle of the browser is a context
	quit     context.CancelFunc

	mu     sync.Mutex
	owners []owner // of the demo, that no test has yet
}

// What is matched where the tests lack a part.
var (
	errNoBrowser = errors.New("no Chromium was found: install it with apt-get install chromium")
	errNoAxe     = errors.New("axe-core is not installed: run npm ci --prefix cmd/countersign/browsertest/testdata/axe")
)

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.lab != nil {
		if err := shared.lab.close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// need returns the lab. Every test calls it first, directly or not.
func need(t *testing.T) *lab {
	t.Helper()
	shared.once.Do(func() { shared.lab, shared.err = openLab() })
	switch {
	case (errors.Is(shared.err, errNoBrowser) || errors.Is(shared.err, errNoAxe)) && os.Getenv("COUNTERSIGN_TEST_REQUIRE_BROWSER") == "":
		t.Skip(shared.err)
	case shared.err != nil:
		t.Fatal(shared.err)
	}
	return shared.lab
}

func openLab() (_ *lab, err error) {
	chromium, err := findChromium()
	if err != nil {
		return nil, err
	}
	axe, err := os.ReadFile("testdata/axe/node_modules/axe-core/axe.min.js")
	if errors.Is(err, os.ErrNotExist) {
		return nil, errNoAxe
	}
	if err != nil {
		return nil, err
	}
	l := &lab{axe: string(axe), quit: func() {}}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	// As root, the private PostgreSQL server runs as another account, which must be able to come in.
	if l.dir, err = os.MkdirTemp("", "countersign-browsertest-"); err != nil {
		return nil, err
	}
	if err := os.Chmod(l.dir, 0o755); err != nil {
		return nil, err
	}
	if l.program, err = build(l.dir); err != nil {
		return nil, err
	}
	if l.demo, err = startDemo(l); err != nil {
		return nil, err
	}
	if err := l.demo.addOperator(); err != nil {
		return nil, err
	}
	return l, l.openChromium(chromium)
}

func findChromium() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome-stable", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errNoBrowser
}

// build builds the program from the module that this folder lies in.
func build(dir string) (string, error) {
	program := filepath.Join(dir, "countersign")
	out, err := exec.Command("go", "build", "-C", "../../..", "-o", program, "./cmd/countersign").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return program, nil
}

func (l *lab) openChromium(path string) error {
	flags := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path),
		chromedp.NoFirstRun,
		chromedp.NoDefaultBrowserCheck,
		chromedp.DisableGPU,
		chromedp.Flag("headless", "new"),
		chromedp.Flag("hide-scrollbars", true),
		chromedp.Flag("force-color-profile", "srgb"),
		// Nobody types into the address bar, whose list would be a page in a process of its own for every tab.
		chromedp.Flag("disable-features", "WebUIOmniboxPopup,WebUIOmniboxAimPopup,WebUIOmniboxFullPopup"),
	}
	for _, off := range []string{"quic", "background-networking", "component-update", "sync", "breakpad", "dev-shm-usage"} {
		flags = append(flags, chromedp.Flag("disable-"+off, true))
	}
	if os.Geteuid() == 0 {
		flags = append(flags, chromedp.NoSandbox)
	}
	allocator, endAllocator := chromedp.NewExecAllocator(context.Background(), flags...)
	browser, endBrowser := chromedp.NewContext(allocator)
	l.chromium = browser
	l.quit = func() { endBrowser(); endAllocator() }
	if err := chromedp.Do(browser); err != nil {
		return fmt.Errorf("start %s: %w", path, err)
	}
	return nil
}

func (l *lab) close() error {
	l.quit()
	var err error
	if l.demo != nil {
		err = l.demo.process.stop()
	}
	return errors.Join(err, os.RemoveAll(l.dir))
}

// folder makes a folder that an account without rights can pass through, gone when the lab is.
func (l *lab) folder() (string, error) {
	dir, err := os.MkdirTemp(l.dir, "")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
}

// patience is how long a person, and a test, waits for something to happen.
const patience = 20 * time.Second
