package templates

import "fmt"

func portuguese() language {
	return language{
		tag:  "pt",
		name: "Portuguese",
		may: map[string]string{
			"account_read":   "Ver o nome, o endereço e os dados de contato da conta",
			"account_update": "Alterar o nome, o endereço e os dados de contato da conta",
			"contact_data":   "Ver, adicionar, alterar e excluir seus contatos e listas",
			"campaign_data":  "Ver, escrever, alterar, enviar e excluir suas campanhas de e-mail, e ler os relatórios delas",
			"billing_data":   "Ver suas informações de cobrança",
			"offline_access": "Manter a conexão, para que você não precise entrar na conta a cada vez",
		},
		other: "Usar a permissão que %[1]s chama de “%[2]s”",
		mayNot: []limit{
			{"", "Ver ou descobrir sua senha"},
			{"billing_data", "Ver ou alterar seu plano, suas faturas ou seus pagamentos"},
			{"", "Adicionar ou remover usuários"},
			{"account_update", "Alterar o nome, o endereço ou as configurações da sua conta"},
			{"contact_data", "Ver ou alterar seus contatos"},
			{"campaign_data", "Ver, alterar ou enviar seus e-mails"},
		},
		months: [12]string{"janeiro", "fevereiro", "março", "abril", "maio", "junho", "julho", "agosto", "setembro", "outubro", "novembro", "dezembro"},
		date: func(day int, month string, year int) string {
			return fmt.Sprintf("%d de %s de %d", day, month, year)
		},
		button:      "Abrir a página",
		address:     "Se o botão não funcionar, copie este endereço no seu navegador:",
		whyAsked:    "Você recebe este e-mail porque {agency} deseja conectar a conta {provider} de {client}, e o endereço registrado para ela é o seu.",
		whyThanked:  "Você recebe este e-mail porque o endereço registrado para a conta {provider} de {client} é o seu.",
		questions:   "Dúvidas? {support}",
		unsubscribe: "Não receber mais lembretes sobre este assunto",
		colon:       ":",
	}
}
