package web

import (
	"errors"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"golang.org/x/time/rate"
)

// protect sets the headers that every answer has. A page may load what this server serves, and
// nothing else; no other site may frame it, and none learns the address it was left from.
func (s *Server) protect(c *gin.Context) {
	h := c.Writer.Header()
	h.Set("Content-Security-Policy", policy("'self'"))
	h.Set("X-Content-Type-Options", "nosniff")
	// With no-referrer, forms would be posted with "Origin: null", which the check against other sites
	// refuses from browsers that send no Sec-Fetch-Site.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	h.Set("Cache-Control", "no-store")
	if s.secure() {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
}

// allowProvider lets the forms of an owner's page end at the provider. Browsers hold form-action
// against every redirect that follows a form, and the provider moves between hosts of its own.
func (s *Server) allowProvider(c *gin.Context) {
	targets := "'self' https:"
	if !s.secure() {
		targets += " http://localhost:* http://127.0.0.1:*"
	}
	c.Header("Content-Security-Policy", policy(targets))
}

func policy(formAction string) string {
	return strings.Join([]string{
		"default-src 'none'",
		"style-src 'self'",
		"script-src 'self'",
		"img-src 'self' data:",
		"connect-src 'self'",
		"form-action " + formAction,
		"frame-ancestors 'none'",
		"base-uri 'none'",
	}, "; ")
}

var (
	errCrossOrigin = errors.New("the request came from another site")
	errThrottled   = errors.New("too many requests")
)

// sameOrigin refuses what another site's page makes a browser send. Requests without browser headers
// pass: programs have no cookies to abuse.
func (s *Server) sameOrigin() gin.HandlerFunc {
	protection := http.NewCrossOriginProtection()
	// A proxy may call us by another name than browsers do. A malformed one trusts nobody more.
	_ = protection.AddTrustedOrigin(s.PublicURL)
	return s.step(func(c *gin.Context) error {
		if err := protection.Check(c.Request); err != nil {
			return errors.Join(errCrossOrigin, err)
		}
		return nil
	})
}

// doors limits how often one address may press the buttons that anybody can reach. It is kept in
// memory: a replica more lets a visitor in a little more often, no harm done.
type doors struct {
	mu       sync.Mutex
	visitors map[string]*rate.Limiter
}

const (
	pressesPerSecond = 10
	pressesAtOnce    = 100
	mostVisitors     = 10_000 // remembered; beyond that all start anew

	// throttleRest is how long a person is asked to wait. A tenth of a second would do, if the robot that has
	// pressed before them from the same address, such as their company's mail scanner, is done.
	throttleRest = 10 * time.Second
)

func newDoors() *doors { return &doors{visitors: make(map[string]*rate.Limiter)} }

func (d *doors) allow(now time.Time, address string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := visitor(address)
	v, ok := d.visitors[key]
	if !ok {
		if len(d.visitors) >= mostVisitors {
			clear(d.visitors)
		}
		v = rate.NewLimiter(pressesPerSecond, pressesAtOnce)
		d.visitors[key] = v
	}
	return v.AllowN(now, 1)
}

// visitor takes a /64 of IPv6 addresses for one: every household and every rented server has one.
func visitor(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil || ip.Unmap().Is4() {
		return address
	}
	return netip.PrefixFrom(ip.WithZone(""), 64).Masked().String()
}

// throttle guards the doors that need no sign-in.
func (s *Server) throttle() gin.HandlerFunc {
	return s.step(func(c *gin.Context) error {
		return s.pass(c, s.doors, c.ClientIP())
	})
}

// pass lets a visitor through, or tells when to come again.
func (s *Server) pass(c *gin.Context, d *doors, visitor string) error {
	if d.allow(s.Now(), visitor) {
		return nil
	}
	c.Header("Retry-After", strconv.Itoa(int(throttleRest.Seconds())))
	return errThrottled
}

// bound reads a form of limited size.
func (s *Server) bound() gin.HandlerFunc {
	const form = 64 << 10
	return s.step(func(c *gin.Context) error {
		c.Request.Body = http.MaxBytesReader(c.Writer, c.Request.Body, form)
		if err := c.Request.ParseForm(); err != nil {
			return errors.Join(errBadRequest, err)
		}
		return nil
	})
}

// setCookie sets a cookie that no script and no other host can read. Its name says so to the browser
// by the prefix __Host-, which needs https.
func (s *Server) setCookie(c *gin.Context, name, value string, maxAge int) {
	http.SetCookie(c.Writer, &http.Cookie{ //nolint:gosec // Secure follows the public URL, which is http on this machine only.
		Name:     s.cookieName(name),
		Value:    value,
		Path:     "/",
		MaxAge:   maxAge,
		Secure:   s.secure(),
		HttpOnly: true,
		SameSite: http.SameSiteLaxMode,
	})
}

// cookie returns the value of a cookie, empty if there is none.
func (s *Server) cookie(c *gin.Context, name string) string {
	found, err := c.Request.Cookie(s.cookieName(name))
	if err != nil {
		return ""
	}
	return found.Value
}

func (s *Server) cookieName(name string) string {
	if s.secure() {
		return "__Host-" + name
	}
	return name
}
