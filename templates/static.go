package templates

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
)

// StaticPath is where the handler of Set.Static has to be mounted.
const StaticPath = "/static/"

// assets are the files of static/ by name, such as "console.css".
type assets map[string]asset

type asset struct {
	name        string // with the hash: "console.3f2a….css"
	contentType string
	plain, gzip []byte
}

func newAssets(files fs.FS) (assets, error) {
	entries, err := fs.ReadDir(files, "static")
	if err != nil {
		return nil, fmt.Errorf("list the static files: %w", err)
	}
	all := assets{}
	for _, entry := range entries {
		body, err := fs.ReadFile(files, "static/"+entry.Name())
		if err != nil {
			return nil, fmt.Errorf("read a static file: %w", err)
		}
		a, err := newAsset(entry.Name(), body)
		if err != nil {
			return nil, fmt.Errorf("static file %s: %w", entry.Name(), err)
		}
		all[entry.Name()] = a
	}
	return all, nil
}

func newAsset(name string, body []byte) (asset, error) {
	ext := path.Ext(name)
	contentType, ok := map[string]string{
		".css": "text/css; charset=utf-8",
		".js":  "text/javascript; charset=utf-8",
		".svg": "image/svg+xml",
	}[ext]
	if !ok {
		return asset{}, fmt.Errorf("no content type is known for %q", ext)
	}
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return asset{}, err
	}
	if _, err := z.Write(body); err != nil {
		return asset{}, err
	}
	if err := z.Close(); err != nil {
		return asset{}, err
	}
	sum := sha256.Sum256(body)
	return asset{
		name:        strings.TrimSuffix(name, ext) + "." + hex.EncodeToString(sum[:8]) + ext,
		contentType: contentType,
		plain:       body,
		gzip:        b.Bytes(),
	}, nil
}

// url is the address of the file called name, the same for ever for the same content.
func (all assets) url(name string) (string, error) {
	a, ok := all[name]
	if !ok {
		return "", fmt.Errorf("there is no static file %q", name)
	}
	return StaticPath + a.name, nil
}

// Static serves the style sheets, scripts and the icon below StaticPath. A name with the right hash
// may be kept for ever. One with another hash gets the present file, not to be kept: while replicas
// of two versions run, a page of one may ask the other for its style sheet.
func (s *Set) Static() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked := strings.TrimPrefix(r.URL.Path, StaticPath)
		a, ok := s.static[withoutHash(asked)]
		if !ok {
			http.NotFound(w, r)
			return
		}
		h := w.Header()
		h.Set("Content-Type", a.contentType)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Vary", "Accept-Encoding")
		h.Set("Cache-Control", "no-cache")
		if asked == a.name {
			h.Set("Cache-Control", "public, max-age=31536000, immutable")
		}
		body := a.plain
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			h.Set("Content-Encoding", "gzip")
			body = a.gzip
		}
		h.Set("Content-Length", strconv.Itoa(len(body)))
		if r.Method != http.MethodHead {
			_, _ = w.Write(body) // the visitor is gone: nobody to tell
		}
	})
}

// withoutHash turns "console.3f2a….css" into "console.css".
func withoutHash(name string) string {
	ext := path.Ext(name)
	stem := strings.TrimSuffix(name, ext)
	if dot := strings.LastIndexByte(stem, '.'); dot >= 0 {
		if _, err := hex.DecodeString(stem[dot+1:]); err == nil {
			stem = stem[:dot]
		}
	}
	return stem + ext
}
