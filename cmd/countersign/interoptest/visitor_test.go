package interoptest_test

import (
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// visitor is a person's browser: it keeps cookies, follows redirects and presses buttons.
type visitor struct {
	t      *testing.T
	client *http.Client
}

// newVisitor opens a browser that follows no redirect to the address stopAt, if there is one: nobody
// has to be there.
func newVisitor(t *testing.T, stopAt string) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &visitor{t: t, client: &http.Client{Jar: jar, CheckRedirect: func(request *http.Request, _ []*http.Request) error {
		if stopAt != "" && strings.HasPrefix(request.URL.String(), stopAt) {
			return http.ErrUseLastResponse
		}
		return nil
	}}}
}

// page is what a visitor looks at.
type page struct {
	visitor *visitor
	address *url.URL
	status  int
	kind    string // content type
	body    string
}

func (v *visitor) open(address string) page {
	v.t.Helper()
	return v.do(http.MethodGet, address, nil)
}

func (v *visitor) do(method, address string, form url.Values) page {
	v.t.Helper()
	request, err := http.NewRequestWithContext(v.t.Context(), method, address, strings.NewReader(form.Encode()))
	if err != nil {
		v.t.Fatal(err)
	}
	request.Header.Set("Accept", "text/html")
	if form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	response, err := v.client.Do(request)
	if err != nil {
		v.t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // It was only read.
	body, err := io.ReadAll(response.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	p := page{
		visitor: v,
		address: response.Request.URL,
		status:  response.StatusCode,
		kind:    response.Header.Get("Content-Type"),
		body:    string(body),
	}
	if location, err := response.Location(); err == nil {
		p.address = location
	}
	return p
}

// press posts the first form of the page, with its hidden fields and what the visitor fills in.
func (p page) press(filled url.Values) page {
	p.visitor.t.Helper()
	form := url.Values{}
	for _, hidden := range regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)"`).FindAllStringSubmatch(p.body, -1) {
		form.Set(hidden[1], html.UnescapeString(hidden[2]))
	}
	for name, values := range filled {
		if !strings.Contains(p.body, ` name="`+name+`"`) {
			p.visitor.t.Fatalf("%s has no field %s:\n%s", p.address, name, p.body)
		}
		form[name] = values
	}
	return p.visitor.do(http.MethodPost, p.find(regexp.MustCompile(` action="([^"]+)"`)), form)
}

// follow opens the first address of the page that is like that.
func (p page) follow(like *regexp.Regexp) page {
	p.visitor.t.Helper()
	return p.visitor.open(p.find(like))
}

func (p page) find(like *regexp.Regexp) string {
	p.visitor.t.Helper()
	found := like.FindStringSubmatch(p.body)
	if found == nil {
		p.visitor.t.Fatalf("%s has no %s:\n%s", p.address, like, p.body)
	}
	target, err := p.address.Parse(html.UnescapeString(found[1]))
	if err != nil {
		p.visitor.t.Fatal(err)
	}
	return target.String()
}
