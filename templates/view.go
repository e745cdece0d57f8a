package templates

import "net/http"

// View is what a page shows. Every type that embeds Letterhead, Gate or Console and stands in the
// table of views is one; a handler fills its fields and hands it to Set.Page.
type View interface {
	// Title is the page's title without the names of the agency and the program.
	Title() string
	// Status is the HTTP status that the page usually goes out with.
	Status() int

	frame() string
}

// views pairs each page type with the file below pages/ that renders it. New fails if a type has
// no file or a file has no type.
func views() map[string]View {
	return map[string]View{
		"invitation":  InvitationPage{},
		"link":        LinkPage{},
		"renewed":     RenewedPage{},
		"result":      ResultPage{},
		"unsubscribe": UnsubscribePage{},
		"refer":       ReferPage{},
		"answer":      AnswerPage{},
		"manager":     ManagerPage{},
		"nothing":     NothingPage{},

		"sign_in":    SignInPage{},
		"setup":      SetupPage{},
		"entry":      EntryPage{},
		"entry_used": EntryUsedPage{},
		"error":      ErrorPage{},

		"second_step":    SecondStepPage{},
		"forgot":         ForgotPage{},
		"reset":          ResetPage{},
		"accept":         AcceptPage{},
		"account":        AccountPage{},
		"second_factor":  SecondFactorPage{},
		"recovery_codes": RecoveryCodesPage{},
		"operators":      OperatorsPage{},
		"keys":           KeysPage{},
		"sign_on":        SignOnPage{},
		"sign_on_failed": SignOnFailedPage{},

		"reference": ReferencePage{},

		"progress":  ProgressPage{},
		"clients":   ClientsPage{},
		"client":    ClientPage{},
		"imports":   ImportsPage{},
		"upload":    UploadPage{},
		"plan":      PlanPage{},
		"import":    ImportPage{},
		"importing": ImportingPage{},

		"client_edit":   ClientEditPage{},
		"client_link":   ClientLinkPage{},
		"client_delete": ClientDeletePage{},
		"client_mail":   ClientMailPage{},

		"bulk":     BulkPage{},
		"bulk_new": BulkNewPage{},
		"bulk_job": BulkJobPage{},

		"reconcile": ReconcilePage{},

		"run": RunPage{},

		"quarantine": QuarantinePage{},

		"provider": ProviderPage{},

		"audit":    AuditPage{},
		"settings": SettingsPage{},
		"doctor":   DoctorPage{},

		"mail":            MailPage{},
		"mail_queue":      MailQueuePage{},
		"mail_suppressed": SuppressedPage{},
		"mail_reports":    MailReportsPage{},
		"mail_report":     MailReportPage{},
		"mail_texts":      MailTextsPage{},
		"mail_text":       MailTextPage{},
		"mail_letterhead": LetterheadPage{},
	}
}

// Status is 200; pages that mean something else say so.
func (Letterhead) Status() int { return http.StatusOK }

func (Letterhead) frame() string { return "owner" }

// Gate is the frame of the pages that an operator meets before being signed in, and of errors.
type Gate struct {
	Agency string
}

// Status is 200; pages that mean something else say so.
func (Gate) Status() int { return http.StatusOK }

func (Gate) frame() string { return "gate" }

// Console is the frame of every page for a signed-in operator.
type Console struct {
	Agency   string
	Operator string // name or address of who is signed in
	Role     Role   // of theirs
}

// Status is 200; pages that mean something else say so.
func (Console) Status() int { return http.StatusOK }

// Looks reports whether whoever is signed in may look and change nothing.
func (c Console) Looks() bool { return c.Role == "viewer" }

func (Console) frame() string { return "console" }
