package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/provisioning/constantcontact/sandbox"
)

const (
	sandboxClientID = "countersign-sandbox"
	sandboxSecret   = "sandbox-secret"
	sandboxSeed     = 1 // the same accounts at every start

	sandboxPartnerID     = "countersign-partner"
	sandboxPartnerSecret = "partner-secret"
	sandboxPartnerKey    = "partner-key"
)

// sandboxFlags say how the imitation of the provider is run.
type sandboxFlags struct {
	listen      string
	accounts    string
	made        int
	redirectURI []string
	pkce        bool
	longLived   bool
	unlimited   bool
}

func (p *program) sandboxCommand() *cobra.Command {
	var f sandboxFlags
	cmd := &cobra.Command{
		Use:   "sandbox",
		Short: "Run an imitation of the provider, to try everything without an account there",
		Long: "Sandbox imitates Constant Contact's authorization server and of its API the account and the partner's\n" +
			"list, with faults that can be switched on. It prints the settings that make countersign serve use it. It keeps nothing.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			listener, err := new(net.ListenConfig).Listen(cmd.Context(), "tcp", f.listen)
			if err != nil {
				return err
			}
			base := "http://" + listener.Addr().String()
			box, err := f.open(base)
			if err != nil {
				return errors.Join(err, listener.Close())
			}
			fmt.Fprintf(p.out, "The sandbox imitates the provider at %s\n"+
				"Accounts, logins, passwords and faults: %s/_sandbox/\n\n"+
				"Settings for countersign serve:\n%s", base, base, sandboxSettings(base))
			return serveUntil(cmd.Context(), listener, box)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.listen, "listen", "127.0.0.1:8082", "`host:port` to serve at")
	flags.StringVar(&f.accounts, "accounts", "", "JSON `file` of accounts and users; by default they are made up. Those of the partner have the encoded_partner_id "+sandbox.MadePartnerID)
	flags.IntVar(&f.made, "made", 20, "how many accounts to make up")
	flags.StringArrayVar(&f.redirectURI, "redirect-uri", []string{"http://127.0.0.1:8080/oauth/callback", "http://localhost:8080/oauth/callback"}, "registered redirect `URI` of the app; may be repeated")
	flags.BoolVar(&f.pkce, "require-pkce", false, "refuse authorize requests without PKCE")
	flags.BoolVar(&f.longLived, "long-lived", false, "give refresh tokens that do not rotate")
	flags.BoolVar(&f.unlimited, "unlimited", false, "lift the provider's rate limits")
	return cmd
}

func (f sandboxFlags) open(base string) (*sandbox.Sandbox, error) {
	accounts := sandbox.MakeAccounts(f.made, sandboxSeed)
	if f.accounts != "" {
		file, err := os.Open(f.accounts)
		if err != nil {
			return nil, err
		}
		defer file.Close() //nolint:errcheck // It was only read.
		if accounts, err = sandbox.LoadAccounts(file); err != nil {
			return nil, fmt.Errorf("%s: %w", f.accounts, err)
		}
	}
	return sandbox.New(sandbox.Options{
		BaseURL: base,
		Apps: []sandbox.App{{
			ClientID:     sandboxClientID,
			Secret:       sandboxSecret,
			Name:         "Countersign",
			RedirectURIs: f.redirectURI,
			LongLived:    f.longLived,
			RequirePKCE:  f.pkce,
		}},
		Accounts:  accounts,
		Partners:  []sandbox.Partner{sandboxPartner()},
		Unlimited: f.unlimited,
		Control:   true,
		Now:       time.Now,
	})
}

// sandboxSettings are the settings that make the service take the sandbox for its provider.
func sandboxSettings(base string) string {
	var b strings.Builder
	for _, s := range [][2]string{
		{"OAUTH_CLIENT_ID", sandboxClientID},
		{"OAUTH_CLIENT_SECRET", sandboxSecret},
		{"PROVIDER_AUTHORIZE_URL", base + "/oauth2/default/v1/authorize"},
		{"PROVIDER_TOKEN_URL", base + "/oauth2/default/v1/token"},
		{"PROVIDER_API_URL", base + "/v3"},
		{"PARTNER_CLIENT_ID", sandboxPartnerID},
		{"PARTNER_CLIENT_SECRET", sandboxPartnerSecret},
		{"PARTNER_API_KEY", sandboxPartnerKey},
		{"PARTNER_TOKEN_URL", base + "/partners/oauth2/default/v1/token"},
	} {
		fmt.Fprintf(&b, "  export %s%s=%s\n", prefix, s[0], s[1])
	}
	return b.String()
}

func sandboxPartner() sandbox.Partner {
	return sandbox.Partner{ClientID: sandboxPartnerID, Secret: sandboxPartnerSecret, APIKey: sandboxPartnerKey, AccountID: sandbox.MadePartnerID}
}
