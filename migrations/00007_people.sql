-- +goose Up

-- Roles, second factors, and all one-time links of operators in one table (package authflow/admin).

ALTER TABLE operators
    ADD COLUMN role text NOT NULL DEFAULT 'owner' CHECK (role IN ('owner', 'operator', 'viewer')),
    ADD COLUMN totp bytea,
    ADD COLUMN totp_at timestamptz,
    ADD COLUMN totp_step bigint NOT NULL DEFAULT 0,
    ADD CONSTRAINT totp_of_something CHECK (totp_at IS NULL OR totp IS NOT NULL);
-- Whoever was let in before there were roles could do everything.
ALTER TABLE operators ALTER COLUMN role DROP DEFAULT;
COMMENT ON COLUMN operators.totp IS 'The secret of the second factor, sealed.';
COMMENT ON COLUMN operators.totp_at IS 'When the second factor was confirmed by a first code: it is asked for since then, and not before.';
COMMENT ON COLUMN operators.totp_step IS 'The last time step whose code was accepted: no code of it, or of an earlier one, is accepted again.';

CREATE TABLE recovery_codes (
    operator_id uuid NOT NULL REFERENCES operators ON DELETE CASCADE,
    code_hash   bytea NOT NULL,
    PRIMARY KEY (operator_id, code_hash)
);
COMMENT ON TABLE recovery_codes IS 'What stands in for a second factor that is lost. A code that was used is gone.';

ALTER TABLE sessions
    ADD COLUMN id uuid NOT NULL DEFAULT gen_random_uuid(),
    ADD COLUMN browser text NOT NULL DEFAULT '',
    ADD COLUMN address text NOT NULL DEFAULT '';
COMMENT ON COLUMN sessions.id IS 'Names the session on pages, where its token must not stand.';
COMMENT ON COLUMN sessions.browser IS 'Where it was begun, in words such as Firefox on Linux.';
COMMENT ON COLUMN sessions.address IS 'The network address that it was begun from.';

ALTER TABLE entry_links
    ADD COLUMN id uuid NOT NULL DEFAULT gen_random_uuid() UNIQUE,
    ADD COLUMN purpose text CHECK (purpose IN ('set_up', 'sign_in', 'second_step', 'invitation', 'reset')),
    ADD COLUMN email text,
    ADD COLUMN role text CHECK (role IN ('owner', 'operator', 'viewer')),
    ADD COLUMN made_by text;
UPDATE entry_links SET purpose = CASE WHEN operator_id IS NULL THEN 'set_up' ELSE 'sign_in' END;
ALTER TABLE entry_links
    ALTER COLUMN purpose SET NOT NULL,
    ADD CONSTRAINT operator_of_link CHECK ((operator_id IS NULL) = (purpose IN ('set_up', 'invitation'))),
    ADD CONSTRAINT email_of_invitation CHECK ((purpose = 'invitation') = (email IS NOT NULL AND role IS NOT NULL AND made_by IS NOT NULL));
COMMENT ON TABLE entry_links IS 'One-time links and what they are good for: to set up the first operator, to sign in, to take the second step of signing in, to become an operator, to set another password.';
COMMENT ON COLUMN entry_links.id IS 'Names an invitation on pages. The tokens of links that are mailed are derived from it by a MAC, so that a repeated mail has the same bytes.';
CREATE UNIQUE INDEX entry_links_invited ON entry_links (lower(email)) WHERE purpose = 'invitation' AND used_at IS NULL;
CREATE INDEX entry_links_operator ON entry_links (operator_id) WHERE operator_id IS NOT NULL;

ALTER TABLE messages
    DROP CONSTRAINT messages_of_nobody,
    ADD CONSTRAINT messages_of_nobody CHECK ((client_id IS NULL) = (kind IN ('digest', 'operator_invitation', 'password_reset')));
COMMENT ON COLUMN messages.client_id IS 'Null for what goes to operators: digests, invitations, links to set another password.';
