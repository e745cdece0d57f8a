package sandbox

import (
	"encoding/json"
	"io"
	"net/http"
)

// answer is a whole reply of the token endpoint or the API.
type answer struct {
	status int
	header map[string]string
	body   any // a string or an io.Reader goes out as it is, anything else as JSON
}

func (a *answer) send(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Pragma", "no-cache")
	for name, value := range a.header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(a.status)
	if stream, ok := a.body.(io.Reader); ok {
		_, _ = io.Copy(flusher{w}, stream) // ends when the client has had enough
		return
	}
	_, _ = io.WriteString(w, a.text()) //nolint:gosec // JSON, or a fault's own page; a client that left early is no concern of ours
}

// text is the body, unless it is a stream.
func (a *answer) text() string {
	if text, ok := a.body.(string); ok {
		return text
	}
	raw, err := json.Marshal(a.body)
	if err != nil {
		panic(err) // every body is one of our own types
	}
	return string(raw)
}

// flusher sends at once what it is given.
type flusher struct{ w http.ResponseWriter }

func (f flusher) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err == nil {
		err = http.NewResponseController(f.w).Flush()
	}
	return n, err
}

// oauthError is an error of the token endpoint.
func oauthError(status int, problem, description string) *answer {
	return &answer{status: status, body: struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}{problem, description}}
}

// apiError is one error of the API. Most come in an array, those about
// authorization alone.
type apiError struct {
	Key     string `json:"error_key"`
	Message string `json:"error_message"`
}

func unauthorized() *answer {
	return &answer{
		status: http.StatusUnauthorized,
		header: map[string]string{
			"WWW-Authenticate": "Bearer realm=api.cc.email",
			"x-amzn-ErrorType": "UnauthorizedException",
		},
		body: apiError{"unauthorized", "Unauthorized"},
	}
}

func apiTrouble(status int, key, message string) *answer {
	return &answer{status: status, body: []apiError{{key, message}}}
}
