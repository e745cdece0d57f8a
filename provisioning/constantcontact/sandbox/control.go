package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
)

// shownAccounts is how many accounts the control door shows at once.
const shownAccounts = 50

type controlData struct {
	Message  string
	Search   string
	Accounts []Account
	Partners []Partner
	Total    int
	Live     map[string]int // live grants by account id
	Faults   []shownFault
}

type shownFault struct {
	Name   Fault
	About  string
	Rate   Rate
	Struck int
}

// controlRoutes is the control door: a page for people, and JSON for scripts.
//
//	GET  /_sandbox/                  logins with passwords, grants, fault switches
//	POST /_sandbox/faults            the page's form
//	POST /_sandbox/revoke            form field account: ends its grants
//	GET  /_sandbox/accounts?search=  as LoadAccounts reads them, the first 50
//	GET  /_sandbox/grants            []Grant
//	GET  /_sandbox/stats             Stats
//	GET  /_sandbox/faults            Faults
//	PUT  /_sandbox/faults            Faults, replacing all
func (s *Sandbox) controlRoutes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /_sandbox/{$}", func(w http.ResponseWriter, r *http.Request) {
		s.controlPage(w, r, http.StatusOK, "")
	})
	mux.HandleFunc("POST /_sandbox/faults", s.faultForm)
	mux.HandleFunc("POST /_sandbox/revoke", func(w http.ResponseWriter, r *http.Request) {
		s.Revoke(r.PostFormValue("account"))
		http.Redirect(w, r, "/_sandbox/", http.StatusSeeOther)
	})
	reply := func(read func(*http.Request) any) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			(&answer{status: http.StatusOK, body: read(r)}).send(w)
		}
	}
	mux.HandleFunc("GET /_sandbox/accounts", reply(func(r *http.Request) any {
		accounts, _ := s.find(r.URL.Query().Get("search"), shownAccounts)
		return accounts
	}))
	mux.HandleFunc("GET /_sandbox/grants", reply(func(*http.Request) any { return s.Grants() }))
	mux.HandleFunc("GET /_sandbox/stats", reply(func(*http.Request) any { return s.Stats() }))
	mux.HandleFunc("GET /_sandbox/faults", reply(func(*http.Request) any { return s.Faults() }))
	mux.HandleFunc("PUT /_sandbox/faults", s.putFaults)
	return mux
}

func (s *Sandbox) controlPage(w http.ResponseWriter, r *http.Request, status int, message string) {
	data := controlData{
		Message: message, Search: r.URL.Query().Get("search"), Partners: s.options.Partners, Live: map[string]int{},
	}
	data.Accounts, data.Total = s.find(data.Search, shownAccounts)
	for _, g := range s.Grants() {
		if g.Ended == Live {
			data.Live[g.AccountID]++
		}
	}
	active, stats := s.Faults(), s.Stats()
	for _, f := range s.faults {
		data.Faults = append(data.Faults, shownFault{f.name, f.about, active[f.name], stats.Faults[f.name]})
	}
	s.page(w, r, status, "control", data)
}

func (s *Sandbox) faultForm(w http.ResponseWriter, r *http.Request) {
	faults, err := s.readFaultForm(r)
	if err == nil {
		err = s.SetFaults(faults)
	}
	if err != nil {
		s.controlPage(w, r, http.StatusBadRequest, err.Error())
		return
	}
	http.Redirect(w, r, "/_sandbox/#faults", http.StatusSeeOther)
}

func (s *Sandbox) readFaultForm(r *http.Request) (Faults, error) {
	faults := Faults{}
	var errs []error
	for _, f := range s.faults {
		next, nextErr := strconv.Atoi(orZero(r.PostFormValue("next." + string(f.name))))
		probability, probabilityErr := strconv.ParseFloat(orZero(r.PostFormValue("probability."+string(f.name))), 64)
		if nextErr != nil || probabilityErr != nil {
			errs = append(errs, fmt.Errorf("fault %q: give a whole number and a probability from 0 to 1", f.name))
		}
		if rate := (Rate{next, probability}); rate != (Rate{}) {
			faults[f.name] = rate
		}
	}
	return faults, errors.Join(errs...)
}

// orZero lets a person empty a field to switch a fault off.
func orZero(field string) string {
	if field == "" {
		return "0"
	}
	return field
}

func (s *Sandbox) putFaults(w http.ResponseWriter, r *http.Request) {
	var faults Faults
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&faults)
	if err == nil {
		err = s.SetFaults(faults)
	}
	if err != nil {
		apiTrouble(http.StatusBadRequest, "sandbox.faults", err.Error()).send(w)
		return
	}
	(&answer{status: http.StatusOK, body: s.Faults()}).send(w)
}
