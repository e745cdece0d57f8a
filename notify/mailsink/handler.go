package mailsink

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/html"
)

//go:embed page
var pages embed.FS

// pageLength is how many messages the list shows at once.
const pageLength = 50

const (
	// pagePolicy lets a page load its own style sheet, script and message frame.
	pagePolicy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; frame-src 'self'; " +
		"img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
	// mailSandbox is all that a mail may do: open its links.
	mailSandbox = "allow-popups allow-popups-to-escape-sandbox allow-top-navigation-by-user-activation"
	// mailPolicy holds for the HTML part of a mail, in its frame or opened by itself.
	mailPolicy = "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'; " +
		"frame-ancestors 'self'; sandbox " + mailSandbox
)

// site answers HTTP for a Sink.
type site struct {
	sink      *Sink
	templates *template.Template
}

// Handler returns the page and the JSON API; the package comment lists its routes. All its links are relative, so it may be
// mounted under a prefix that http.StripPrefix removes.
func (s *Sink) Handler() http.Handler {
	h := &site{sink: s}
	h.templates = template.Must(template.New("").Funcs(template.FuncMap{
		"clock":   h.clock,
		"size":    size,
		"sandbox": func() string { return mailSandbox },
	}).ParseFS(pages, "page/*.html"))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", h.list)
	mux.HandleFunc("GET /messages/{id}", h.message)
	mux.HandleFunc("GET /messages/{id}/html", h.html)
	mux.HandleFunc("GET /messages/{id}/raw", h.raw)
	mux.HandleFunc("GET /messages", h.listJSON)
	mux.HandleFunc("DELETE /messages", h.clear)
	mux.HandleFunc("GET /stats", h.stats)
	mux.HandleFunc("GET /sink.css", asset("page/sink.css"))
	mux.HandleFunc("GET /sink.js", asset("page/sink.js"))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", pagePolicy)
		header.Set("Cache-Control", "no-store")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("X-Content-Type-Options", "nosniff")
		mux.ServeHTTP(w, r)
	})
}

// filter reads the query string. The + of a plus address means a space there unless the caller has escaped it, so in an
// address spaces are read as +.
func filter(r *http.Request) (Filter, error) {
	q := r.URL.Query()
	f := Filter{To: strings.ReplaceAll(q.Get("to"), " ", "+"), Query: q.Get("q")}
	var err error
	if before := q.Get("before"); before != "" {
		if f.Before, err = strconv.ParseInt(before, 10, 64); err != nil || f.Before < 1 {
			return f, fmt.Errorf("before=%s is not the id of a message", before)
		}
	}
	if limit := q.Get("limit"); limit != "" {
		if f.Limit, err = strconv.Atoi(limit); err != nil || f.Limit < 1 {
			return f, fmt.Errorf("limit=%s is not a number from 1", limit)
		}
	}
	return f, nil
}

type listPage struct {
	Query    string
	Messages []Message
	Older    int64 // the id to page back from; 0 at the end
	Kept     int
	Stats    Stats
	Address  string
}

func (h *site) list(w http.ResponseWriter, r *http.Request) {
	f, err := filter(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	// The page's script asks again and again; a version spares both sides the same answer.
	version := h.sink.version()
	w.Header().Set("ETag", version)
	if r.Header.Get("If-None-Match") == version {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	f.Limit = pageLength + 1
	page := listPage{
		Query:    f.Query,
		Messages: h.sink.Messages(f),
		Kept:     h.sink.Count(),
		Stats:    h.sink.Stats(),
		Address:  h.sink.address(),
	}
	if len(page.Messages) > pageLength {
		page.Messages = page.Messages[:pageLength]
		page.Older = page.Messages[pageLength-1].ID
	}
	h.render(w, r, "list.html", page)
}

type messagePage struct {
	Message
	View  string
	Views []string
	Spans []span
}

func (h *site) message(w http.ResponseWriter, r *http.Request) {
	m, ok := h.find(w, r)
	if !ok {
		return
	}
	page := messagePage{Message: m, Views: []string{"Text", "Headers", "Envelope", "Source"}}
	if m.HTML != "" {
		page.Views = append([]string{"HTML"}, page.Views...)
	}
	page.View = page.Views[0]
	for _, view := range page.Views {
		if strings.EqualFold(view, r.URL.Query().Get("view")) {
			page.View = view
		}
	}
	page.Spans = spans(m.Text)
	h.render(w, r, "message.html", page)
}

// Source is the message as far as a page can show bytes.
func (p messagePage) Source() string { return toUTF8(p.Raw) }

func (h *site) html(w http.ResponseWriter, r *http.Request) {
	m, ok := h.find(w, r)
	if !ok {
		return
	}
	w.Header().Set("Content-Security-Policy", mailPolicy)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write([]byte(linksInNewTabs(m.HTML)))
}

func (h *site) raw(w http.ResponseWriter, r *http.Request) {
	m, ok := h.find(w, r)
	if !ok {
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write(m.Raw)
}

// find answers 404 itself.
func (h *site) find(w http.ResponseWriter, r *http.Request) (Message, bool) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err == nil {
		if m, ok := h.sink.message(id); ok {
			return m, true
		}
	}
	http.Error(w, "No such message. Only the newest are kept, and none after a restart.", http.StatusNotFound)
	return Message{}, false
}

// messageJSON is a message in the JSON API.
type messageJSON struct {
	ID           int64     `json:"id"`
	EnvelopeFrom string    `json:"envelope_from"`
	EnvelopeTo   []string  `json:"envelope_to"`
	Subject      string    `json:"subject"`
	MessageID    string    `json:"message_id"`
	ReceivedAt   time.Time `json:"received_at"`
	Text         string    `json:"text"`
	Links        []string  `json:"links"`
}

func (h *site) listJSON(w http.ResponseWriter, r *http.Request) {
	f, err := filter(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer := []messageJSON{}
	for _, m := range h.sink.Messages(f) {
		answer = append(answer, messageJSON{
			ID:           m.ID,
			EnvelopeFrom: m.From,
			EnvelopeTo:   m.To,
			Subject:      m.Subject,
			MessageID:    m.MessageID,
			ReceivedAt:   m.ReceivedAt,
			Text:         m.Text,
			Links:        append([]string{}, m.Links...),
		})
	}
	h.json(w, r, answer)
}

func (h *site) clear(w http.ResponseWriter, _ *http.Request) {
	h.sink.Clear()
	w.WriteHeader(http.StatusNoContent)
}

func (h *site) stats(w http.ResponseWriter, r *http.Request) { h.json(w, r, h.sink.Stats()) }

func asset(file string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, pages, file) }
}

func (h *site) json(w http.ResponseWriter, r *http.Request, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		h.sink.opts.Log.DebugContext(r.Context(), "mail sink: answer not delivered", "error", err)
	}
}

// render writes a page whole or not at all.
func (h *site) render(w http.ResponseWriter, r *http.Request, name string, data any) {
	var page bytes.Buffer
	if err := h.templates.ExecuteTemplate(&page, name, data); err != nil {
		h.sink.opts.Log.ErrorContext(r.Context(), "mail sink: page failed", "page", name, "error", err)
		http.Error(w, "The page could not be made; the log says why.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = page.WriteTo(w)
}

// clock shows the time of day, with the date if it is another day.
func (h *site) clock(t time.Time) string {
	now := h.sink.opts.Now()
	if t = t.In(now.Location()); t.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return t.Format("15:04:05")
	}
	return t.Format("2 Jan 15:04")
}

func size(bytes int) string {
	if bytes < 1000 {
		return fmt.Sprintf("%d bytes", bytes)
	}
	return fmt.Sprintf("%.1f kB", float64(bytes)/1000)
}

// span is a stretch of plain text; with a Link it is one.
type span struct{ Text, Link string }

func spans(text string) []span {
	var found []span
	done := 0
	for _, at := range textLinks(text) {
		link := text[at[0]:at[1]]
		found = append(found, span{Text: text[done:at[0]]}, span{Text: link, Link: link})
		done = at[1]
	}
	return append(found, span{Text: text[done:]})
}

// linksInNewTabs rewrites the links of a mail and leaves every other byte alone.
func linksInNewTabs(markup string) string {
	var out strings.Builder
	z := html.NewTokenizer(strings.NewReader(markup))
	for {
		kind := z.Next()
		if kind == html.ErrorToken {
			return out.String()
		}
		original := string(z.Raw()) // before TagName lower-cases it in place
		if name, _ := z.TagName(); !opensLink(kind, string(name)) {
			out.WriteString(original)
			continue
		}
		out.WriteString(linkInNewTab(original))
	}
}

func linkInNewTab(tag string) string {
	z := html.NewTokenizer(strings.NewReader(tag))
	z.Next()
	t := z.Token()
	attrs := []html.Attribute{{Key: "target", Val: "_blank"}, {Key: "rel", Val: "noopener noreferrer"}}
	for _, a := range t.Attr {
		if a.Key != "target" && a.Key != "rel" {
			attrs = append(attrs, a)
		}
	}
	t.Attr = attrs
	return t.String()
}
