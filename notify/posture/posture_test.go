package posture_test

import (
	"context"
	"maps"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/notify/posture"
	"github.com/countersign/countersign/notify/posture/zonetest"
)

// examine returns the findings on mail from agency.com, sent as the zone and the changes to it say.
func examine(tb testing.TB, m posture.Mail, zones ...zonetest.Zone) map[posture.Subject]posture.Finding {
	tb.Helper()
	zone := make(zonetest.Zone)
	for _, z := range zones {
		maps.Copy(zone, z)
	}
	findings := make(map[posture.Subject]posture.Finding)
	for _, f := range m.Examine(tb.Context(), posture.NewResolver(zonetest.Serve(tb, zone))) {
		findings[f.Subject] = f
	}
	return findings
}

// agency is what a good agency publishes: its own server at a public address takes and delivers the mail.
func agency() zonetest.Zone {
	return zonetest.Zone{
		"TXT agency.com":             {"some-verification=1", "v=spf1 mx -all"},
		"MX agency.com":              {"10 mx.agency.com"},
		"A mx.agency.com":            {"192.0.2.1"},
		"AAAA mx.agency.com":         {"2001:db8::1"},
		"PTR 1.2.0.192.in-addr.arpa": {"mx.agency.com"},
		"PTR " + ptrSix:              {"mx.agency.com"},
		"TXT _dmarc.agency.com":      {"v=DMARC1; p=reject; rua=mailto:dmarc@agency.com"},
	}
}

const ptrSix = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"

// want is what a finding should have: a verdict, and parts of its words, its cure and its record.
type want struct {
	verdict posture.Verdict
	words   string
	cure    string
	record  string
}

func (w want) check(t *testing.T, f posture.Finding) {
	t.Helper()
	record := ""
	if f.Record != nil {
		record = f.Record.String()
	}
	if f.Verdict != w.verdict || !strings.Contains(f.Words, w.words) || !strings.Contains(f.Cure, w.cure) || (f.Cure == "") != (w.cure == "") ||
		record != w.record {
		t.Errorf("%s is %s: %s (cure: %s; %s)\nwant %s: %s (%s; %s)", f.Subject, f.Verdict, f.Words, f.Cure, record, w.verdict, w.words, w.cure, w.record)
	}
}

func TestGoodAgency(t *testing.T) {
	t.Parallel()
	signature, record := sign(t, "agency.com")
	got := examine(t, posture.Mail{From: "Agency.com.", Server: "mx.agency.com", Signature: signature}, agency(),
		zonetest.Zone{"TXT s1._domainkey.agency.com": {record.Text}})
	for subject, w := range map[posture.Subject]want{
		posture.SPF:     {posture.OK, `agency.com has "v=spf1 mx -all"; it lets mx.agency.com send (192.0.2.1, 2001:db8::1)`, "", ""},
		posture.DKIM:    {posture.OK, "s1._domainkey.agency.com has our key (RSA, 2048 bits)", "", ""},
		posture.DMARC:   {posture.OK, "_dmarc.agency.com has the policy reject (mail that passes neither is refused); ours can pass by DKIM and by SPF", "", ""},
		posture.Returns: {posture.OK, "mail for agency.com goes to mx.agency.com", "", ""},
		posture.Replies: {posture.OK, "mail for agency.com goes to mx.agency.com", "", ""},
		posture.Host:    {posture.OK, "192.0.2.1 is mx.agency.com, and back; 2001:db8::1 is mx.agency.com, and back", "", ""},
	} {
		w.check(t, got[subject])
	}
	if len(got) != 6 {
		t.Errorf("there are %d findings", len(got))
	}
}

func TestSPF(t *testing.T) {
	t.Parallel()
	const server = "mx.agency.com"
	includes := func(n int) string {
		return "v=spf1 " + strings.Repeat("a:mx.agency.com ", n) + "-all"
	}
	for name, c := range map[string]struct {
		zone     zonetest.Zone
		server   string
		envelope string
		subject  posture.Subject
		want     want
	}{
		"none": {
			zone: zonetest.Zone{"TXT agency.com": {"other"}},
			want: want{posture.Fail, "agency.com has no SPF record", `"v=spf1 include:… ~all"`, ""},
		},
		"none of a well-known host": {
			zone: zonetest.Zone{"TXT agency.com": {}}, server: "smtp-relay.gmail.com",
			want: want{posture.Fail, "agency.com has no SPF record", "publish this record", `agency.com. TXT "v=spf1 include:_spf.google.com ~all"`},
		},
		"two": {
			zone: zonetest.Zone{"TXT agency.com": {"v=spf1 mx -all", "v=spf1 a -all"}},
			want: want{posture.Fail, "which receivers ignore: there are several SPF records", "put them together", ""},
		},
		"slip": {
			zone: zonetest.Zone{"TXT agency.com": {"v=spf1 ipv4:192.0.2.1 -all"}},
			want: want{posture.Fail, `"v=spf1 ipv4:192.0.2.1 -all", which receivers ignore: a part of it is none that SPF knows`, "correct the record", ""},
		},
		"bad network": {
			zone: zonetest.Zone{"TXT agency.com": {"v=spf1 ip4:192.0.2.1/33 -all"}},
			want: want{posture.Fail, "which receivers ignore: invalid mask", "correct the record", ""},
		},
		"include without record": {
			zone: zonetest.Zone{"TXT agency.com": {"v=spf1 include:gone.com -all"}},
			want: want{posture.Fail, "names a domain that has no SPF record", "correct or remove that name", ""},
		},
		"ten lookups":    {zone: zonetest.Zone{"TXT agency.com": {includes(10)}}, want: want{posture.OK, "it lets mx.agency.com send", "", ""}},
		"eleven lookups": {zone: zonetest.Zone{"TXT agency.com": {includes(11)}}, want: want{posture.Fail, "it needs more than 10 lookups", "take out includes", ""}},
		"lookups behind the match": {
			zone: zonetest.Zone{"TXT agency.com": {"v=spf1 ip4:192.0.2.1 ip6:2001:db8::1 " + strings.TrimPrefix(includes(11), "v=spf1 ")}},
			want: want{posture.Fail, "it needs more than 10 lookups", "take out includes", ""},
		},
		"names that are gone": {
			zone: zonetest.Zone{"TXT agency.com": {"v=spf1 a:a.gone.com a:b.gone.com a:c.gone.com -all"}},
			want: want{posture.Fail, "more than two of the names in it do not exist", "take out the names", ""},
		},
		"everyone": {
			zone: zonetest.Zone{"TXT agency.com": {"v=spf1 mx +all"}},
			want: want{posture.Fail, "lets everyone send", "end the record with ~all or -all", ""},
		},
		"everyone by include": {
			zone: zonetest.Zone{"TXT agency.com": {"v=spf1 include:open.com -all"}, "TXT open.com": {"v=spf1 all"}},
			want: want{posture.Fail, "lets everyone send", "end the record with ~all or -all", ""},
		},
		"no end": {
			zone: zonetest.Zone{"TXT agency.com": {"v=spf1 mx"}},
			want: want{posture.Warn, "says of no host that it may not send; it lets mx.agency.com send", "end the record with ~all or -all", ""},
		},
		"redirect": {
			zone: zonetest.Zone{"TXT agency.com": {"v=spf1 redirect=_spf.agency.com"}, "TXT _spf.agency.com": {"v=spf1 mx:agency.com ~all"}},
			want: want{posture.OK, "it lets mx.agency.com send", "", ""},
		},
		"another host": {
			zone: zonetest.Zone{"TXT agency.com": {"v=spf1 include:_spf.host.com ~all"}, "TXT _spf.host.com": {"v=spf1 ip4:198.51.100.0/24 -all"}},
			want: want{posture.Warn, "it does not let mx.agency.com send: 192.0.2.1 (softfail), 2001:db8::1 (softfail)", "add a:mx.agency.com to the record", ""},
		},
		"one address of two": {
			zone: zonetest.Zone{"TXT agency.com": {"v=spf1 ip4:192.0.2.1 -all"}},
			want: want{posture.Warn, "send: 2001:db8::1 (fail)", "add a:mx.agency.com to the record", ""},
		},
		"included host": {
			zone: zonetest.Zone{
				"TXT agency.com": {"v=spf1 include:mail.agency.com ~all"}, "TXT mail.agency.com": {"v=spf1 include:_spf.google.com ~all"},
				"TXT _spf.google.com": {"v=spf1 ip4:198.51.100.0/24 ~all"},
			},
			server: "smtp.gmail.com",
			want:   want{posture.OK, "it includes _spf.google.com, the hosts that send for smtp.gmail.com", "", ""},
		},
		"forgotten host": {
			server: "SMTP.office365.com",
			want: want{
				posture.Warn, "it does not include spf.protection.outlook.com", "publish this record instead",
				`agency.com. TXT "v=spf1 include:spf.protection.outlook.com mx -all"`,
			},
		},
		"relay on this machine": {
			server: "127.0.0.1",
			want:   want{posture.OK, "127.0.0.1 is reached at 127.0.0.1, an address of a private network, so that it cannot be told from here", "", ""},
		},
		"relay behind a translation": {server: "100.64.0.1", want: want{posture.OK, "an address of a private network", "", ""}},
		"relay of a private name":    {server: "relay.agency.com", want: want{posture.OK, "relay.agency.com has no address in the name system", "", ""}},
		"silent relay": {
			zone: zonetest.Zone{"A relay.agency.com": nil, "AAAA relay.agency.com": nil}, server: "relay.agency.com",
			want: want{posture.OK, "the resolver does not answer for relay.agency.com", "", ""},
		},
		"silent": {
			zone: zonetest.Zone{"TXT agency.com": nil},
			want: want{posture.Skip, "the resolver does not answer the question for agency.com (server misbehaving)", "COUNTERSIGN_DNS", ""},
		},
		"silent include": {
			zone: zonetest.Zone{"TXT agency.com": {"v=spf1 include:_spf.host.com -all"}, "TXT _spf.host.com": nil},
			want: want{posture.Skip, "the question for _spf.host.com", "COUNTERSIGN_DNS", ""},
		},
		"envelope of its own": {
			zone: zonetest.Zone{"TXT bounces.agency.com": {"v=spf1 a:mx.agency.com -all"}}, envelope: "bounces.agency.com",
			want: want{posture.OK, `bounces.agency.com has "v=spf1 a:mx.agency.com -all"; it lets`, "", ""},
		},
		"From beside it": {envelope: "bounces.agency.com", subject: posture.FromSPF, want: want{posture.OK, `agency.com has "v=spf1 mx -all"`, "", ""}},
		"bad From beside it": {
			zone: zonetest.Zone{"TXT agency.com": {"v=spf1 +all"}}, envelope: "bounces.agency.com", subject: posture.FromSPF,
			want: want{posture.Warn, "lets everyone send in its name: receivers hold that against it; our mail is judged by bounces.agency.com", "end the record", ""},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := posture.Mail{From: "agency.com", Envelope: c.envelope, Server: server}
			if c.server != "" {
				m.Server = c.server
			}
			subject := posture.SPF
			if c.subject != "" {
				subject = c.subject
			}
			c.want.check(t, examine(t, m, agency(), c.zone)[subject])
		})
	}
}

func TestDMARC(t *testing.T) {
	t.Parallel()
	signed := func(domain string) *posture.Signature { s, _ := sign(t, domain); return s }
	policy := func(record string) zonetest.Zone { return zonetest.Zone{"TXT _dmarc.agency.com": {record}} }
	for name, c := range map[string]struct {
		mail posture.Mail
		zone zonetest.Zone
		want want
	}{
		"none": {
			zone: zonetest.Zone{"TXT _dmarc.agency.com": {"unrelated"}},
			want: want{posture.Warn, "agency.com has no DMARC policy", "publish this record", `_dmarc.agency.com. TXT "v=DMARC1; p=none"`},
		},
		"none of a domain below": {
			mail: posture.Mail{From: "mail.agency.com"}, zone: zonetest.Zone{"TXT _dmarc.agency.com": {}},
			want: want{posture.Warn, "mail.agency.com has no DMARC policy", "publish this record", `_dmarc.agency.com. TXT "v=DMARC1; p=none"`},
		},
		"two": {
			zone: zonetest.Zone{"TXT _dmarc.agency.com": {"v=DMARC1; p=none", "v=DMARC1; p=reject"}},
			want: want{posture.Warn, "_dmarc.agency.com has 2 DMARC records", "leave one", ""},
		},
		"slip":         {zone: policy("v=DMARC1; p=rejct"), want: want{posture.Warn, "is none of none, quarantine and reject", "correct the record", ""}},
		"malformed":    {zone: policy("v=DMARC1; reject"), want: want{posture.Warn, `"reject" is not of the form tag=value`, "correct the record", ""}},
		"twice":        {zone: policy("v=DMARC1; p=none; p=reject"), want: want{posture.Warn, "it has the tag p twice", "correct the record", ""}},
		"unsigned":     {want: want{posture.OK, "ours can pass by SPF, unless it is forwarded; by DKIM, if the mail host signs for agency.com", "", ""}},
		"upper case":   {zone: policy("v=DMARC1; p=None;"), want: want{posture.OK, "has the policy none (mail that passes neither is not refused for that)", "", ""}},
		"organization": {mail: posture.Mail{From: "mail.agency.com"}, want: want{posture.OK, "_dmarc.agency.com has the policy reject", "", ""}},
		"policy for the domains below": {
			mail: posture.Mail{From: "mail.agency.com"}, zone: policy("v=DMARC1; p=reject; sp=quarantine"),
			want: want{posture.OK, "_dmarc.agency.com has the policy quarantine (mail that passes neither goes to spam)", "", ""},
		},
		"own policy below": {
			mail: posture.Mail{From: "mail.agency.com"}, zone: zonetest.Zone{"TXT _dmarc.mail.agency.com": {"v=DMARC1;p=none;sp=reject"}},
			want: want{posture.OK, "_dmarc.mail.agency.com has the policy none", "", ""},
		},
		"registry's domain": {
			mail: posture.Mail{From: "agency.co.uk", Signature: signed("other.co.uk")}, zone: zonetest.Zone{"TXT _dmarc.agency.co.uk": {"v=DMARC1; p=none"}},
			want: want{posture.Warn, "ours can pass by SPF alone", "COUNTERSIGN_DKIM_DOMAIN to agency.co.uk", ""},
		},
		"relaxed": {
			mail: posture.Mail{From: "agency.com", Envelope: "bounces.agency.com", Signature: signed("mail.Agency.com")},
			want: want{posture.OK, "ours can pass by DKIM and by SPF", "", ""},
		},
		"strict": {
			mail: posture.Mail{From: "agency.com", Envelope: "bounces.agency.com", Signature: signed("mail.agency.com")},
			zone: policy("v=DMARC1; p=none; adkim=s; aspf=s"),
			want: want{posture.Fail, "ours cannot pass: SPF proves bounces.agency.com and DKIM mail.agency.com, neither of them agency.com", "COUNTERSIGN_DKIM_DOMAIN", ""},
		},
		"by DKIM alone": {
			mail: posture.Mail{From: "agency.com", Envelope: "host.com", Signature: signed("agency.com")},
			want: want{posture.OK, "ours can pass by DKIM; not by SPF, which proves host.com instead of agency.com", "", ""},
		},
		"by the mail host's DKIM": {
			mail: posture.Mail{From: "agency.com", Envelope: "host.com"},
			want: want{posture.Warn, "ours passes only if the mail host signs for agency.com, as SPF proves host.com", "COUNTERSIGN_BOUNCE_ADDRESS", ""},
		},
		"silent": {
			mail: posture.Mail{From: "mail.agency.com"}, zone: zonetest.Zone{"TXT _dmarc.agency.com": nil},
			want: want{posture.Skip, "the question for _dmarc.agency.com", "COUNTERSIGN_DNS", ""},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.mail.From == "" {
				c.mail.From = "agency.com"
			}
			c.want.check(t, examine(t, c.mail, agency(), c.zone)[posture.DMARC])
		})
	}
}

func TestDelivery(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		mail    posture.Mail
		zone    zonetest.Zone
		returns want
		replies want
	}{
		"one domain": {
			returns: want{posture.OK, "mail for agency.com goes to mx.agency.com", "", ""},
			replies: want{posture.OK, "mail for agency.com goes to mx.agency.com", "", ""},
		},
		"three domains": {
			mail: posture.Mail{Envelope: "null.com", ReplyTo: "gone.com"}, zone: zonetest.Zone{"MX null.com": {"0 ."}},
			returns: want{posture.Fail, "null.com says that it takes no mail (its MX record is a single dot): no report", "publish an MX record of null.com", ""},
			replies: want{posture.Fail, "gone.com has neither a mail server (MX record) nor an address: nobody can answer", "publish an MX record", ""},
		},
		"good reply domain": {
			mail: posture.Mail{ReplyTo: "answers.com"}, zone: zonetest.Zone{"MX answers.com": {"10 gone.com", "20 mx.agency.com"}},
			returns: want{posture.OK, "mail for agency.com", "", ""},
			replies: want{posture.OK, "mail for agency.com goes to mx.agency.com; mail for answers.com goes to gone.com, mx.agency.com", "", ""},
		},
		"address alone": {
			zone:    zonetest.Zone{"MX agency.com": {}, "AAAA agency.com": {"2001:db8::2"}},
			returns: want{posture.Warn, "only the address 2001:db8::2", "publish an MX record of agency.com", ""},
			replies: want{posture.Warn, "only the address 2001:db8::2", "publish an MX record of agency.com", ""},
		},
		"server without address": {
			zone:    zonetest.Zone{"MX agency.com": {"10 mx.gone.com"}},
			returns: want{posture.Fail, "the mail server of agency.com, mx.gone.com, has no address: no report", "publish an MX record", ""},
			replies: want{posture.Fail, "mx.gone.com, has no address: nobody can answer", "publish an MX record", ""},
		},
		"silent": {
			mail: posture.Mail{Envelope: "bounces.com"}, zone: zonetest.Zone{"MX bounces.com": {}, "AAAA bounces.com": nil, "MX agency.com": nil},
			returns: want{posture.Skip, "the question for bounces.com", "COUNTERSIGN_DNS", ""},
			replies: want{posture.Skip, "the question for agency.com", "COUNTERSIGN_DNS", ""},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.mail.From = "agency.com"
			got := examine(t, c.mail, agency(), c.zone)
			c.returns.check(t, got[posture.Returns])
			c.replies.check(t, got[posture.Replies])
		})
	}
}

func TestHost(t *testing.T) {
	t.Parallel()
	const ptr = "PTR 1.2.0.192.in-addr.arpa"
	for name, c := range map[string]struct {
		server string
		zone   zonetest.Zone
		want   want
	}{
		"by address":      {server: "192.0.2.1", want: want{posture.OK, "192.0.2.1 is mx.agency.com, and back", "", ""}},
		"several names":   {server: "192.0.2.1", zone: zonetest.Zone{ptr: {"gone.com", "mx.agency.com"}}, want: want{posture.OK, "192.0.2.1 is mx.agency.com", "", ""}},
		"no name":         {server: "192.0.2.9", want: want{posture.Warn, "192.0.2.9 has no name (PTR record): receivers refuse", "set its PTR record", ""}},
		"one without":     {server: "mx.agency.com", zone: zonetest.Zone{ptr: {}}, want: want{posture.Warn, "192.0.2.1 has no name (PTR record): ", "set its PTR record", ""}},
		"not back":        {server: "192.0.2.1", zone: zonetest.Zone{ptr: {"www.agency.com"}, "A www.agency.com": {"192.0.2.7"}}, want: want{posture.Warn, "192.0.2.1 is named www.agency.com, which does not resolve to it", "set its PTR record", ""}},
		"private":         {server: "10.0.0.1", want: want{posture.Skip, "10.0.0.1 is reached at 10.0.0.1, an address of a private network: from which address", "", ""}},
		"this machine":    {server: "localhost", want: want{posture.Skip, "localhost is reached at ", "", ""}},
		"without address": {server: "gone.com", want: want{posture.Skip, "gone.com has no address", "", ""}},
		"silent":          {server: "mx.agency.com", zone: zonetest.Zone{"AAAA mx.agency.com": nil}, want: want{posture.Skip, "the question for mx.agency.com", "COUNTERSIGN_DNS", ""}},
		"silent name":     {server: "192.0.2.1", zone: zonetest.Zone{ptr: nil}, want: want{posture.Skip, "the question for 192.0.2.1", "COUNTERSIGN_DNS", ""}},
		"silent way back": {server: "192.0.2.1", zone: zonetest.Zone{"A mx.agency.com": nil}, want: want{posture.Skip, "the question for mx.agency.com", "COUNTERSIGN_DNS", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.want.check(t, examine(t, posture.Mail{From: "agency.com", Server: c.server}, agency(), c.zone)[posture.Host])
		})
	}
}

// Nothing is held against a domain because of a resolver that is broken.
func TestBrokenResolver(t *testing.T) {
	t.Parallel()
	signature, _ := sign(t, "agency.com")
	m := posture.Mail{From: "agency.com", Envelope: "bounces.com", ReplyTo: "answers.com", Server: "mx.agency.com", Signature: signature}
	for name, zone := range map[string]zonetest.Zone{
		"fails":                 {"NS ": nil},
		"knows no root servers": {"NS ": {}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := examine(t, m, agency(), zone)
			if len(got) != 1 {
				t.Errorf("there are %d findings", len(got))
			}
			want{posture.Skip, "the resolver does not answer the question for the root servers", "COUNTERSIGN_DNS", ""}.check(t, got[posture.DNS])
		})
	}
	t.Run("fails for all but the root servers", func(t *testing.T) {
		t.Parallel()
		got := examine(t, m, agency(), zonetest.Zone{
			"TXT agency.com": nil, "TXT bounces.com": nil, "TXT s1._domainkey.agency.com": nil, "TXT _dmarc.agency.com": nil,
			"MX agency.com": nil, "MX bounces.com": nil, "MX answers.com": nil, "A mx.agency.com": nil, "AAAA mx.agency.com": nil,
		})
		if len(got) != 7 {
			t.Errorf("there are %d findings", len(got))
		}
		for _, f := range got {
			want{posture.Skip, "the resolver does not answer the question for", "COUNTERSIGN_DNS", ""}.check(t, f)
		}
	})
	t.Run("is not there", func(t *testing.T) {
		t.Parallel()
		for _, f := range m.Examine(t.Context(), posture.NewResolver("127.0.0.1:1")) {
			want{posture.Skip, "connection refused", "COUNTERSIGN_DNS", ""}.check(t, f)
		}
	})
}

// mute is a resolver that never answers.
type mute struct{ posture.Resolver }

func (mute) LookupNS(ctx context.Context, name string) ([]*net.NS, error) {
	<-ctx.Done()
	return nil, &net.DNSError{Err: "i/o timeout", Name: name, IsTimeout: true}
}

func TestMuteResolver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, f := range (posture.Mail{From: "agency.com", Server: "mx.agency.com"}).Examine(t.Context(), mute{}) {
			want{posture.Skip, "the resolver does not answer the question for the root servers (i/o timeout)", "COUNTERSIGN_DNS", ""}.check(t, f)
		}
	})
}

func TestParseResults(t *testing.T) {
	t.Parallel()
	type results map[string]string // by method and property
	for name, c := range map[string]struct {
		field  string
		server string
		want   results
	}{
		"Gmail": {
			field: "mx.google.com;\r\n       dkim=pass header.i=@agency.com header.s=s1 header.b=\"q+/=abcd\";\r\n" +
				"       spf=pass (google.com: domain of bounce+x=y@agency.com designates 192.0.2.1 as permitted sender) smtp.mailfrom=\"bounce+x=y@agency.com\";\r\n" +
				"       dmarc=pass (p=REJECT sp=REJECT dis=NONE) header.from=agency.com",
			server: "mx.google.com",
			want: results{
				"dkim": "pass", "dkim header.i": "@agency.com", "dkim header.s": "s1", "dkim header.b": "q+/=abcd",
				"spf": "pass", "spf smtp.mailfrom": "bounce+x=y@agency.com", "dmarc": "pass", "dmarc header.from": "agency.com",
			},
		},
		"Exchange Online": {
			field: "spf=pass (sender IP is 192.0.2.1)\r\n smtp.mailfrom=agency.com; dkim=fail (body hash did not verify)\r\n" +
				" header.d=agency.com;dmarc=bestguesspass action=none header.from=agency.com;compauth=pass reason=109",
			want: results{
				"spf": "pass", "spf smtp.mailfrom": "agency.com", "dkim": "fail", "dkim header.d": "agency.com",
				"dmarc": "bestguesspass", "dmarc action": "none", "dmarc header.from": "agency.com", "compauth": "pass", "compauth reason": "109",
			},
		},
		"OpenDKIM": {
			field:  `mail.owner.com 1; dkim=pass (2048-bit key; unprotected) header.d=agency.com header.a=rsa-sha256; dkim-atps=neutral`,
			server: "mail.owner.com",
			want:   results{"dkim": "pass", "dkim header.d": "agency.com", "dkim header.a": "rsa-sha256", "dkim-atps": "neutral"},
		},
		"comments, versions, spaces and case": {
			field:  `example.com (a (nested) \) one) 1 ; SPF/1 (x) = (y) Fail reason = "no; \"such\" host" policy.IPrev= 192.0.2.1`,
			server: "example.com",
			want:   results{"spf": "fail", "spf reason": `no; "such" host`, "spf policy.iprev": "192.0.2.1"},
		},
		"nothing":      {field: "mail.owner.com; none", server: "mail.owner.com", want: results{}},
		"empty":        {want: results{}},
		"oddities":     {field: "host; =; dkim=; ;;; (unclosed; spf=pass", server: "host", want: results{"": "", "dkim": ""}},
		"closed twice": {field: `host; spf=pass) smtp.helo="x`, server: "host", want: results{"spf": "pass)", "spf smtp.helo": "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, parsed := posture.ParseResults(c.field)
			got := make(results)
			for _, r := range parsed {
				got[r.Method] = r.Value
				for name, value := range r.Properties {
					got[r.Method+" "+name] = value
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" || server != c.server {
				t.Errorf("server %q, results (-want +got):\n%s", server, diff)
			}
		})
	}
}
