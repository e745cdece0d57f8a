package web

import (
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/klauspost/compress/gzhttp"
)

const (
	// compressFrom is more than an owner's page has: what fits into a dozen packets arrives no sooner for the work.
	compressFrom = 16 << 10
	// compressJitter is by how much the length of a compressed answer is blurred. Pages show what a visitor typed beside
	// what is secret; by the exact length, whoever listens could guess the one with the other (BREACH, CVE-2013-3587).
	compressJitter = 64
)

// edge has the routes answer, large pages compressed.
type edge struct {
	*gin.Engine

	answer http.Handler
}

func newEdge(router *gin.Engine) (http.Handler, error) {
	compress, err := gzhttp.NewWrapper(
		gzhttp.ContentTypes([]string{"text/html", "application/json"}), gzhttp.MinSize(compressFrom), gzhttp.EnableZstd(false),
		gzhttp.RandomJitter(compressJitter, 0, false))
	if err != nil {
		return nil, fmt.Errorf("set up compression: %w", err)
	}
	return edge{router, compress(unshared{router})}, nil
}

func (e edge) ServeHTTP(w http.ResponseWriter, r *http.Request) { e.answer.ServeHTTP(w, r) }

// unshared gives every request a gin.Context of its own. Gin would hand it to another request later, but the rooms
// take it for a context.Context, which what they have begun may ask after the answer: a connection that is still
// being made, a request to the provider whose body still goes out.
type unshared struct{ router *gin.Engine }

func (u unshared) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := gin.CreateTestContextOnly(w, u.router)
	c.Request = r
	u.router.HandleContext(c)
}
