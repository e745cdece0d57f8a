package templates

import "fmt"

func french() language {
	return language{
		tag:  "fr",
		name: "French",
		may: map[string]string{
			"account_read":   "Voir le nom, l’adresse et les coordonnées du compte",
			"account_update": "Modifier le nom, l’adresse et les coordonnées du compte",
			"contact_data":   "Voir, ajouter, modifier et supprimer vos contacts et vos listes",
			"campaign_data":  "Voir, rédiger, modifier, envoyer et supprimer vos campagnes d’e-mails, et lire leurs rapports",
			"billing_data":   "Voir vos informations de facturation",
			"offline_access": "Rester connecté, pour que vous n’ayez pas à vous identifier chaque fois",
		},
		other: "Utiliser l’autorisation que %[1]s appelle « %[2]s »",
		mayNot: []limit{
			{"", "Voir ou connaître votre mot de passe"},
			{"billing_data", "Voir ou modifier votre forfait, vos factures ou vos paiements"},
			{"", "Ajouter ou supprimer des utilisateurs"},
			{"account_update", "Modifier le nom, l’adresse ou les réglages de votre compte"},
			{"contact_data", "Voir ou modifier vos contacts"},
			{"campaign_data", "Voir, modifier ou envoyer vos e-mails"},
		},
		months: [12]string{"janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre", "novembre", "décembre"},
		date: func(day int, month string, year int) string {
			if day == 1 {
				return fmt.Sprintf("1er %s %d", month, year)
			}
			return fmt.Sprintf("%d %s %d", day, month, year)
		},
		button:      "Ouvrir la page",
		address:     "Si le bouton ne fonctionne pas, copiez cette adresse dans votre navigateur :",
		whyAsked:    "Vous recevez cet e-mail parce que {agency} souhaite connecter le compte {provider} de {client}, et que votre adresse est celle enregistrée pour ce compte.",
		whyThanked:  "Vous recevez cet e-mail parce que votre adresse est celle enregistrée pour le compte {provider} de {client}.",
		questions:   "Des questions ? {support}",
		unsubscribe: "Ne plus recevoir de rappels à ce sujet",
		colon:       " :",
		elided:      []string{"de ", "que ", "Que "},
	}
}
