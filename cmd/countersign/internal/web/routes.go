package web

import (
	"fmt"
	"net/http"
	"runtime/debug"

	"github.com/gin-gonic/gin"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

// routes is every address that this server answers.
func (s *Server) routes() (http.Handler, error) {
	gin.SetMode(gin.ReleaseMode)
	router := gin.New()
	router.HandleMethodNotAllowed = true
	if err := router.SetTrustedProxies(s.Proxies); err != nil {
		return nil, fmt.Errorf("trusted proxies: %w", err)
	}
	router.ContextWithFallback = true // a *gin.Context is then the request's context too
	router.UseRawPath = true          // a client's ref may have a slash, as %2F
	router.Use(s.recover, s.protect)
	router.NoRoute(s.answer(func(*gin.Context) error { return errNoRoute }))
	router.NoMethod(s.answer(func(*gin.Context) error { return errNoMethod }))

	get := func(routes gin.IRoutes, path string, h handler) {
		routes.GET(path, s.answer(h))
		routes.HEAD(path, s.answer(h))
	}

	get(router, "/", func(c *gin.Context) error {
		c.Redirect(http.StatusSeeOther, "/admin")
		return nil
	})
	get(router, "/healthz", s.healthy)
	get(router, "/readyz", s.ready)
	static := gin.WrapH(s.Templates.Static())
	router.GET(templates.StaticPath+"*file", static)
	router.HEAD(templates.StaticPath+"*file", static)

	// What owners see. Looking changes nothing; buttons are throttled.
	get(router, "/i/:token", s.invitation)
	get(router, "/i/:token/unsubscribe", s.askUnsubscribe)
	get(router, "/i/:token/refer", s.askRefer)
	for _, button := range []string{"begin", "decline", "not-me", "undo", "renew"} {
		get(router, "/i/:token/"+button, s.backToInvitation)
	}
	get(router, "/oauth/callback", s.callback)
	get(router, "/consent", s.lost)
	get(router, "/consent/:id", s.consent)
	get(router, "/logo/:digest", s.logo)
	owners := router.Group("", s.throttle(), s.sameOrigin(), s.bound())
	owners.POST("/i/:token/begin", s.answer(s.begin))
	owners.POST("/i/:token/decline", s.answer(s.decline))
	owners.POST("/i/:token/not-me", s.answer(s.notMe))
	owners.POST("/i/:token/refer", s.answer(s.refer))
	owners.POST("/i/:token/undo", s.answer(s.undo))
	owners.POST("/i/:token/renew", s.answer(s.renew))
	owners.POST("/consent/:id/begin", s.answer(s.again))
	// The one that others press for the owner: whole mail providers from one address, and web mail from
	// pages of its own. There is no cookie to abuse, and who knows the link may.
	router.POST("/i/:token/unsubscribe", s.throttleLink(), s.answer(s.unsubscribe))

	// The way in for operators.
	get(router, "/admin/sign-in", s.signInPage)
	get(router, "/admin/enter/:token", s.entry)
	gate := router.Group("", s.throttle(), s.sameOrigin(), s.bound())
	gate.POST("/admin/sign-in", s.answer(s.signIn))
	gate.POST("/admin/enter/:token", s.answer(s.enter))
	gate.POST("/admin/sign-out", s.answer(s.signOut))

	// What signed-in operators see.
	console := router.Group("/admin", s.requireOperator())
	get(console, "", s.progress)
	get(console, "/progress", s.progressFragment)
	get(console, "/clients", s.clients)
	get(console, "/clients/:id", s.client)
	for _, button := range []string{
		"username", "invite", "opt-in", "owner", "referral/accept", "referral/dismiss",
		"reminder/plan", "reminder/skip", "reminder/send", "pause", "resume",
	} {
		get(console, "/clients/:id/"+button, s.backToClient)
	}
	get(console, "/quarantine", s.quarantine)
	get(console, "/quarantine/:id", s.confined)
	for _, button := range []string{"accept", "discard", "move"} {
		get(console, "/quarantine/:id/"+button, s.backToHeld)
	}
	get(console, "/provider", s.provider)
	get(console, "/imports", s.imports)
	get(console, "/imports/template.csv", s.template)
	get(console, "/imports/:id", s.imported)
	get(console, "/imports/:id/rejects.csv", s.rejects)
	get(console, "/uploads/:id", s.columns)
	get(console, "/uploads/:id/plan", s.plan)
	get(console, "/reconcile", s.reconcile)
	get(console, "/reconcile/:id/missing.csv", s.missing)
	get(console, "/mail", s.mail)
	for _, button := range []string{"pause", "resume", "referrals/:id/accept", "referrals/:id/dismiss"} {
		get(console, "/mail/"+button, s.backToMail)
	}
	get(console, "/mail/reports", s.mailReports)
	get(console, "/mail/reports/:id", s.mailReport)
	get(console, "/mail/texts", s.mailTexts)
	get(console, "/mail/texts/*key", s.mailText)
	get(console, "/mail/preview/*key", s.previewFrame)
	get(console, "/mail/letterhead", s.mailLetterhead)
	for _, button := range []string{"fill", "add"} {
		get(console, "/reconcile/:id/"+button, s.backToReconcile)
	}
	for _, button := range []string{"import", "discard"} {
		get(console, "/uploads/:id/"+button, s.backToUpload)
	}

	// What they do. A file is bounded by who reads it.
	actions := router.Group("/admin", s.throttle(), s.sameOrigin(), s.requireOperator())
	actions.POST("/clients/:id/username", s.bound(), s.act(s.rename))
	actions.POST("/clients/:id/invite", s.bound(), s.act(s.invite))
	actions.POST("/clients/:id/opt-in", s.bound(), s.act(s.optIn))
	actions.POST("/clients/:id/owner", s.bound(), s.act(s.changeOwner))
	actions.POST("/clients/:id/referral/accept", s.bound(), s.act(s.acceptReferral))
	actions.POST("/clients/:id/referral/dismiss", s.bound(), s.act(s.dismissReferral))
	actions.POST("/clients/:id/reminder/plan", s.bound(), s.act(s.planReminder))
	actions.POST("/clients/:id/reminder/skip", s.bound(), s.act(s.skipReminder))
	actions.POST("/clients/:id/reminder/send", s.bound(), s.act(s.sendReminder))
	actions.POST("/clients/:id/pause", s.bound(), s.act(s.turn(true)))
	actions.POST("/clients/:id/resume", s.bound(), s.act(s.turn(false)))
	actions.POST("/quarantine/:id/accept", s.bound(), s.answer(s.acceptHeld))
	actions.POST("/quarantine/:id/discard", s.bound(), s.answer(s.discardHeld))
	actions.POST("/quarantine/:id/move", s.bound(), s.answer(s.moveHeld))
	actions.POST("/imports", s.answer(s.upload))
	actions.POST("/uploads/:id/import", s.bound(), s.answer(s.commit))
	actions.POST("/uploads/:id/discard", s.bound(), s.answer(s.discard))
	actions.POST("/reconcile", s.bound(), s.answer(s.startReconcile))
	actions.POST("/reconcile/:id/fill", s.bound(), s.answer(s.apply(provisioning.StepFill)))
	actions.POST("/reconcile/:id/add", s.bound(), s.answer(s.apply(provisioning.StepAdd)))
	actions.POST("/mail/pause", s.bound(), s.answer(s.pauseMail))
	actions.POST("/mail/resume", s.bound(), s.answer(s.resumeMail))
	actions.POST("/mail/referrals/:id/accept", s.bound(), s.answer(s.acceptNamed))
	actions.POST("/mail/referrals/:id/dismiss", s.bound(), s.answer(s.dismissNamed))
	actions.POST("/mail/reports/:id/aside", s.bound(), s.answer(s.putAside))
	actions.POST("/mail/texts/*key", s.bound(), s.answer(s.writeText))
	actions.POST("/mail/letterhead", s.bound(), s.answer(s.writeLetterhead))
	actions.POST("/mail/letterhead/logo", s.answer(s.saveLogo))
	actions.POST("/mail/letterhead/logo/remove", s.bound(), s.answer(s.removeLogo))

	s.api(router)
	return unshared{router}, nil
}

// unshared gives every request a gin.Context of its own. Gin would hand it to another request later, but the rooms
// take it for a context.Context, which what they have begun may ask after the answer: a connection that is still
// being made, a request to the provider whose body still goes out.
type unshared struct{ router *gin.Engine }

func (u unshared) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := gin.CreateTestContextOnly(w, u.router)
	c.Request = r
	u.router.HandleContext(c)
}

// recover answers a panic like any error of ours. http.ErrAbortHandler is not one: it breaks off an
// answer that has begun.
func (s *Server) recover(c *gin.Context) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			panic(p)
		default:
			s.fail(c, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
			c.Abort()
		}
	}()
	c.Next()
}

// healthy tells that the process answers.
func (s *Server) healthy(c *gin.Context) error {
	c.String(http.StatusOK, "ok\n")
	return nil
}

// ready tells that requests can be served: the database answers.
func (s *Server) ready(c *gin.Context) error {
	if s.Ready != nil {
		if err := s.Ready(c); err != nil {
			s.Log.WarnContext(c, "not ready", "err", err)
			c.String(http.StatusServiceUnavailable, "the database does not answer\n")
			return nil
		}
	}
	c.String(http.StatusOK, "ok\n")
	return nil
}
