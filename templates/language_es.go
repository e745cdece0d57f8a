package templates

import "fmt"

func spanish() language {
	return language{
		tag:  "es",
		name: "Spanish",
		may: map[string]string{
			"account_read":   "Ver el nombre, la dirección y los datos de contacto de la cuenta",
			"account_update": "Modificar el nombre, la dirección y los datos de contacto de la cuenta",
			"contact_data":   "Ver, añadir, modificar y eliminar sus contactos y listas", //nolint:misspell // Spanish
			"campaign_data":  "Ver, redactar, modificar, enviar y eliminar sus campañas de correo, y leer sus informes",
			"billing_data":   "Ver sus datos de facturación",
			"offline_access": "Mantener la conexión, para que usted no tenga que iniciar sesión cada vez",
		},
		other: "Usar el permiso que %[1]s llama «%[2]s»",
		mayNot: []limit{
			{"", "Ver o conocer su contraseña"},
			{"billing_data", "Ver o modificar su plan, sus facturas o sus pagos"},
			{"", "Añadir o eliminar usuarios"},
			{"account_update", "Modificar el nombre, la dirección o los ajustes de su cuenta"},
			{"contact_data", "Ver o modificar sus contactos"}, //nolint:misspell // Spanish
			{"campaign_data", "Ver, modificar o enviar sus correos"},
		},
		months: [12]string{"enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto", "septiembre", "octubre", "noviembre", "diciembre"},
		date: func(day int, month string, year int) string {
			return fmt.Sprintf("%d de %s de %d", day, month, year)
		},
		button:      "Abrir la página",
		address:     "Si el botón no funciona, copie esta dirección en su navegador:",
		whyAsked:    "Recibe este correo porque {agency} desea conectar la cuenta de {provider} de {client}, y la dirección registrada para esa cuenta es la suya.",
		whyThanked:  "Recibe este correo porque la dirección registrada para la cuenta de {provider} de {client} es la suya.",
		questions:   "¿Tiene preguntas? {support}",
		unsubscribe: "No recibir más recordatorios sobre esto",
		colon:       ":",
	}
}
