// Package browsertest drives the built program with Chromium, as its people do: an owner with a phone,
// an operator at a desk. It is a module of its own, so that nobody who builds or tests Countersign needs
// a browser, and it imports nothing of Countersign: what it knows is what the program prints and serves.
//
//	go test -race -count=1 .
//
// (-count=1, because Go remembers a result as long as nothing changes in this folder)
//
//	lab_test.go          what the tests share: the program, a demo, a browser
//	program_test.go      running the program, as a process or for one command
//	demo_test.go         a demo, its owners and their mail
//	tab_test.go          one tab of somebody's browser, and how a person uses it
//	trouble_test.go      what must not happen in a tab: errors, violations, failed requests
//	inspect_test.go      how a page must be built, at every width (rules.js, axe-core), its weight, its screenshots
//	walk_test.go         the whole way from a roster to the console
//	owner_test.go        every other way through the owner's pages
//	console_test.go      the operator's pages
//	progress_test.go     the first of them, under the eyes of an operator
//	imports_test.go      a roster file's way into the roster
//	mail_test.go         the room for mail: the switch, the texts, the letterhead
//	provider_test.go     how we stand with the provider
//	reconcile_test.go    the roster beside the provider's own list
//	quarantine_test.go   grants of unexpected accounts
//	bulk_test.go         one thing done to many clients
//	people_test.go       letting operators in, their second factor, their sessions
//	rooms_test.go        mails that wait, settings, the doctor's report
//	doors_test.go        who comes in by single sign-on, who may only look, and programs with their keys
//	audit_test.go        who changed what
//	keyboard_test.go     every page without a mouse
//	screenshots_test.go  simulated owners at work, and the pictures of the README
//
// Where Chromium or axe-core (npm ci --prefix testdata/axe) is not installed the tests are skipped; they fail if
// COUNTERSIGN_TEST_REQUIRE_BROWSER is set, so that a green run of a build server means that a browser has seen the pages.
// With COUNTERSIGN_SCREENSHOTS set to a folder, every page that a test inspects is painted there.
package browsertest
