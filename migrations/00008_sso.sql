-- +goose Up

-- API keys that end, and single sign-on (packages authflow/admin and authflow/admin/sso).

ALTER TABLE api_keys
    ADD COLUMN expires_at timestamptz,
    ADD COLUMN created_by text NOT NULL DEFAULT 'command line',
    ADD COLUMN used_from text NOT NULL DEFAULT '',
    ADD COLUMN revoked_by text;
-- Until now only the command line made keys, and revoked them.
ALTER TABLE api_keys ALTER COLUMN created_by DROP DEFAULT;
UPDATE api_keys SET revoked_by = created_by WHERE revoked_at IS NOT NULL;
ALTER TABLE api_keys ADD CONSTRAINT api_keys_revoked CHECK ((revoked_at IS NULL) = (revoked_by IS NULL));
COMMENT ON COLUMN api_keys.expires_at IS 'From then on the key is refused. Null: it does not end by itself.';
COMMENT ON COLUMN api_keys.created_by IS 'The actor who made the key.';
COMMENT ON COLUMN api_keys.used_from IS 'The network address of the last use; empty if it is unknown.';

CREATE TABLE identities (
    issuer      text NOT NULL,
    subject     text NOT NULL,
    operator_id uuid NOT NULL REFERENCES operators ON DELETE CASCADE,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (issuer, subject),
    UNIQUE (operator_id, issuer)
);
COMMENT ON TABLE identities IS 'Who an operator is at an issuer of single sign-on. It is bound at the first sign-in; from then on the address that the issuer tells no longer matters.';

CREATE TABLE sso_attempts (
    state_hash   bytea PRIMARY KEY,
    browser_hash bytea NOT NULL,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL
);
COMMENT ON TABLE sso_attempts IS 'Who went to the issuer to sign in and has not come back. A row is deleted when they do, or soon after it has expired.';
COMMENT ON COLUMN sso_attempts.browser_hash IS 'Of the secret that only the browser has which went; the nonce and the PKCE verifier are derived from it.';
CREATE INDEX sso_attempts_expires ON sso_attempts (expires_at);
