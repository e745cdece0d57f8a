// Package interoptest has the program meet two authorization servers that nobody here wrote: npm's
// oidc-provider, which the OpenID Foundation certified, and the example provider of the Go module
// github.com/zitadel/oidc. It is a module of its own, so that nobody who builds or tests Countersign needs
// what they are made of.
//
//	npm ci --prefix testdata/oidc-provider
//	go test -race -count=1 .
//
// (-count=1, because the program that the walks are made through lies outside this module)
//
//	facts_test.go         what each server does, seen through the program's own client: the table to read first
//	owner_test.go         owners' whole walks through the program and the servers' own pages
//	keeper_test.go        two replicas that keep grants at each server
//	server_test.go        what both servers have in common, and the API beside them
//	oidcprovider_test.go  the one: asks for consent, names itself (RFC 9207), ends a grant whose token is reused
//	zitadel_test.go       the other: signs people in and asks no more, says nothing of itself, forgives reuse
//	program_test.go       the program at work
//	process_test.go       any program at work
//	visitor_test.go       somebody's browser
//
// Where a part is not installed the tests are skipped; they fail if COUNTERSIGN_TEST_REQUIRE_PARTS is set, for the
// database COUNTERSIGN_TEST_REQUIRE_DATABASE, so that a green run of a build server means that all took part.
// What no server of these two does, package provisioning/constantcontact/sandbox imitates.
package interoptest
