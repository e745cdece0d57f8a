package web

import (
	"fmt"
	"net/http"
	"runtime/debug"

	"github.com/gin-gonic/gin"

	"github.com/countersign/countersign/authflow/admin"
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
	for _, button := range []string{"begin", "decline", "not-me", "undo", "renew", "done", "not-yet", "taken", "limit"} {
		get(router, "/i/:token/"+button, s.backToInvitation)
	}
	get(router, "/oauth/callback", s.callback)
	get(router, "/consent", s.lost)
	get(router, "/consent/:id", s.consent)
	get(router, "/logo/:digest", s.logo)
	get(router, templates.BrandPath, s.brand)
	owners := router.Group("", s.throttle(), s.sameOrigin(), s.bound())
	owners.POST("/i/:token/begin", s.answer(s.begin))
	owners.POST("/i/:token/done", s.answer(s.done))
	owners.POST("/i/:token/not-yet", s.answer(s.notYet))
	owners.POST("/i/:token/taken", s.answer(s.taken))
	owners.POST("/i/:token/limit", s.answer(s.limit))
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
	get(router, "/admin/sign-in/code", s.secondStepPage)
	get(router, "/admin/forgot", s.forgot)
	get(router, "/admin/enter/:token", s.entry)
	get(router, "/admin/sso", func(c *gin.Context) error { return s.toSignIn(c, "") })
	router.GET(SignOnPath, s.throttle(), s.answer(s.endSignOn))
	gate := router.Group("", s.throttle(), s.sameOrigin(), s.bound())
	gate.POST("/admin/sign-in", s.answer(s.signIn))
	gate.POST("/admin/sign-in/code", s.answer(s.secondStep))
	gate.POST("/admin/forgot", s.answer(s.requestReset))
	gate.POST("/admin/enter/:token", s.answer(s.enter))
	gate.POST("/admin/sso", s.answer(s.beginSignOn))
	gate.POST("/admin/sign-out", s.answer(s.signOut))

	// What signed-in operators see.
	console := router.Group("/admin", s.requireOperator())
	governing := console.Group("", s.requireRole(admin.RoleOwner)) // what lets people and programs in, and the audit trail
	get(console, "", s.progress)
	get(console, "/progress", s.progressFragment)
	get(console, "/progress/events", s.progressEvents)
	get(console, "/clients", s.clients)
	get(console, "/clients/columns", s.backToClients)
	get(console, "/export.csv", s.exportClients)
	get(console, "/bulk", s.bulkJobs)
	get(console, "/bulk/new", s.askBulk)
	get(console, "/bulk/:id", s.bulkJob)
	get(console, "/bulk/:id/skipped.csv", s.bulkSkipped)
	for _, button := range []string{"stop", "undo"} {
		get(console, "/bulk/:id/"+button, s.backToBulk)
	}
	get(console, "/clients/:id", s.client)
	get(console, "/clients/:id/edit", s.editClient)
	get(console, "/clients/:id/link", s.askLink)
	get(console, "/clients/:id/delete", s.askDelete)
	get(console, "/clients/:id/mails/:mail", s.sentMail)
	get(console, "/clients/:id/mails/:mail/html", s.sentFrame)
	for _, button := range []string{
		"username", "invite", "opt-in", "owner", "referral/accept", "referral/dismiss",
		"reminder/plan", "reminder/skip", "reminder/send", "pause", "resume", "active", "check",
	} {
		get(console, "/clients/:id/"+button, s.backToClient)
	}
	get(console, "/run", s.run)
	for _, button := range []string{"start", "continue", "skip", "end"} {
		get(console, "/run/"+button, s.backToRun)
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
	get(console, "/uploads/:id/importing", s.importing)
	get(console, "/reconcile", s.reconcile)
	get(console, "/reconcile/:id/missing.csv", s.missing)
	get(console, "/mail", s.mail)
	for _, button := range []string{"pause", "resume", "referrals/:id/accept", "referrals/:id/dismiss"} {
		get(console, "/mail/"+button, s.backToMail)
	}
	get(console, "/mail/queue", s.mailQueue)
	get(console, "/mail/suppressed", s.suppressed)
	for _, button := range []string{"queue/hurry", "queue/again", "suppressed/:id/let-in"} {
		get(console, "/mail/"+button, s.backToList)
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

	get(console, "/account", s.account)
	get(console, "/account/second-factor", s.secondFactor)
	for _, button := range []string{
		"name", "password", "sessions/end", "sessions/:id/end", "second-factor/confirm", "second-factor/codes", "second-factor/off",
	} {
		get(console, "/account/"+button, s.backToAccount)
	}
	get(governing, "/audit", s.audit)
	get(governing, "/audit/check", s.checkAudit)
	get(console, "/settings", s.settings)
	get(console, "/settings/doctor", s.doctor)
	get(governing, "/settings/operators", s.operators)
	get(governing, "/settings/keys", s.keys)
	get(governing, "/settings/keys/:id/revoke", s.backToKeys)
	get(governing, "/settings/sign-in", s.signOnSettings)
	for _, button := range []string{
		"operators/:id/role", "operators/:id/sign-out", "operators/:id/second-factor", "operators/:id/remove",
		"invitations/:id/again", "invitations/:id/take-back",
	} {
		get(governing, "/settings/"+button, s.backToOperators)
	}

	// What they do. A file is bounded by who reads it.
	// Everybody does what concerns their own account, operators what concerns the roster and its mail, and owners what lets
	// people and programs in.
	own := router.Group("/admin", s.throttle(), s.sameOrigin(), s.requireOperator())
	actions := own.Group("", s.requireRole(admin.RoleOperator))
	governs := own.Group("", s.requireRole(admin.RoleOwner))
	actions.POST("/bulk", s.bound(), s.answer(s.startBulk))
	actions.POST("/bulk/:id/stop", s.bound(), s.answer(s.stopBulkJob))
	actions.POST("/bulk/:id/undo", s.bound(), s.answer(s.undoBulkJob))
	own.POST("/clients/columns", s.bound(), s.answer(s.chooseColumns))
	actions.POST("/clients/:id/edit", s.bound(), s.answer(s.saveClient))
	actions.POST("/clients/:id/link", s.bound(), s.answer(s.handOver))
	actions.POST("/clients/:id/delete", s.bound(), s.answer(s.endClient))
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
	actions.POST("/clients/:id/active", s.bound(), s.act(s.activate))
	actions.POST("/clients/:id/check", s.bound(), s.act(s.check))
	actions.POST("/run/start", s.bound(), s.answer(s.startRun))
	actions.POST("/run/continue", s.bound(), s.answer(s.continueRun))
	actions.POST("/run/skip", s.bound(), s.answer(s.skipTurn))
	actions.POST("/run/end", s.bound(), s.answer(s.endRun))
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
	actions.POST("/mail/queue/hurry", s.bound(), s.answer(s.hurryMail))
	actions.POST("/mail/queue/again", s.bound(), s.answer(s.inviteAgain))
	actions.POST("/mail/suppressed/:id/let-in", s.bound(), s.answer(s.letBackIn))
	actions.POST("/settings/doctor", s.bound(), s.answer(s.startDoctor))
	actions.POST("/mail/reports/:id/aside", s.bound(), s.answer(s.putAside))
	actions.POST("/mail/texts/*key", s.bound(), s.answer(s.writeText))
	actions.POST("/mail/letterhead", s.bound(), s.answer(s.writeLetterhead))
	actions.POST("/mail/letterhead/logo", s.answer(s.saveLogo))
	actions.POST("/mail/letterhead/logo/remove", s.bound(), s.answer(s.removeLogo))
	own.POST("/account/name", s.bound(), s.answer(s.changeName))
	own.POST("/account/password", s.bound(), s.answer(s.changePassword))
	own.POST("/account/sessions/end", s.bound(), s.answer(s.endOtherSessions))
	own.POST("/account/sessions/:id/end", s.bound(), s.answer(s.endSession))
	own.POST("/account/second-factor", s.bound(), s.answer(s.beginSecondFactor))
	own.POST("/account/second-factor/confirm", s.bound(), s.answer(s.confirmSecondFactor))
	own.POST("/account/second-factor/codes", s.bound(), s.answer(s.renewRecoveryCodes))
	own.POST("/account/second-factor/off", s.bound(), s.answer(s.endSecondFactor))
	governs.POST("/settings/operators", s.bound(), s.answer(s.inviteOperator))
	governs.POST("/settings/operators/:id/role", s.bound(), s.rule("role", s.setRole))
	governs.POST("/settings/operators/:id/sign-out", s.bound(), s.rule("signed-out", s.signOthersOut))
	governs.POST("/settings/operators/:id/second-factor", s.bound(), s.rule("factor-off", s.resetSecondFactor))
	governs.POST("/settings/operators/:id/remove", s.bound(), s.rule("removed", s.removeOperator))
	governs.POST("/settings/invitations/:id/again", s.bound(), s.answer(s.inviteOperatorAgain))
	governs.POST("/settings/keys", s.bound(), s.answer(s.createKey))
	governs.POST("/settings/keys/:id/revoke", s.bound(), s.answer(s.revokeKey))
	governs.POST("/settings/invitations/:id/take-back", s.bound(), s.rule("taken-back", s.takeBackInvitation))

	reference := s.reference(s.api(router).OpenAPI())
	get(router, apiPath, func(c *gin.Context) error { return s.show(c, reference) })
	return newEdge(router)
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
