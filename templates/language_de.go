package templates

import "fmt"

func german() language {
	return language{
		tag:  "de",
		name: "German",
		may: map[string]string{
			"account_read":   "Name, Adresse und Kontaktdaten des Kontos sehen",
			"account_update": "Name, Adresse und Kontaktdaten des Kontos ändern",
			"contact_data":   "Ihre Kontakte und Listen sehen, ergänzen, ändern und löschen",
			"campaign_data":  "Ihre E-Mail-Kampagnen sehen, schreiben, ändern, versenden und löschen sowie deren Berichte lesen",
			"billing_data":   "Ihre Abrechnungsdaten sehen",
			"offline_access": "Verbunden bleiben, damit Sie sich nicht jedes Mal anmelden müssen",
		},
		other: "Die Berechtigung nutzen, die bei %[1]s „%[2]s“ heißt",
		mayNot: []limit{
			{"", "Ihr Passwort sehen oder erfahren"},
			{"billing_data", "Ihren Tarif, Ihre Rechnungen oder Zahlungen sehen oder ändern"},
			{"", "Benutzer hinzufügen oder entfernen"},
			{"account_update", "Name, Adresse oder Einstellungen Ihres Kontos ändern"},
			{"contact_data", "Ihre Kontakte sehen oder ändern"},
			{"campaign_data", "Ihre E-Mails sehen, ändern oder versenden"},
		},
		months: [12]string{"Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September", "Oktober", "November", "Dezember"},
		date: func(day int, month string, year int) string {
			return fmt.Sprintf("%d. %s %d", day, month, year)
		},
		button:      "Seite öffnen",
		address:     "Falls die Schaltfläche nicht funktioniert, kopieren Sie diese Adresse in Ihren Browser:",
		whyAsked:    "Sie erhalten diese E-Mail, weil {agency} das Konto von {client} bei {provider} verbinden möchte und dafür Ihre Adresse hinterlegt ist.",
		whyThanked:  "Sie erhalten diese E-Mail, weil für das Konto von {client} bei {provider} Ihre Adresse hinterlegt ist.",
		questions:   "Fragen? {support}",
		unsubscribe: "Keine weiteren Erinnerungen dazu",
		colon:       ":",
	}
}
