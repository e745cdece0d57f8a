-- +goose Up

-- The route partner (package provisioning/partner).

ALTER TABLE clients
    DROP CONSTRAINT clients_reason_check,
    ADD CONSTRAINT clients_reason_check CHECK (reason IN (
        'bounced', 'declined', 'wrong_account', 'missing_scope', 'unsubscribed', 'expired', 'conflict',
        'no_activation', 'username_taken', 'user_limit', 'unmanaged', 'no_account'
    )),
    ADD COLUMN checked_at timestamptz,
    ADD COLUMN check_at timestamptz NOT NULL DEFAULT '-infinity',
    ADD COLUMN refusals smallint NOT NULL DEFAULT 0;
COMMENT ON COLUMN clients.checked_at IS 'When the provider last answered whether the partner''s token opens the account.';
COMMENT ON COLUMN clients.check_at IS 'When it is asked next. Of clients on the route partner.';
COMMENT ON COLUMN clients.refusals IS 'How often in a row it said no.';
CREATE INDEX clients_check ON clients (check_at, id) WHERE route = 'partner' AND NOT paused;

-- What is known of another account, or from another time on that route, says nothing.
-- +goose StatementBegin
CREATE FUNCTION clients_check_anew() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.check_at := '-infinity';
    NEW.refusals := 0;
    RETURN NEW;
END $$;
-- +goose StatementEnd
CREATE TRIGGER clients_check_anew BEFORE UPDATE OF route, account_id, paused ON clients FOR EACH ROW
    WHEN (NEW.route = 'partner' AND (OLD.route, OLD.account_id, OLD.paused) IS DISTINCT FROM (NEW.route, NEW.account_id, NEW.paused))
    EXECUTE FUNCTION clients_check_anew();

CREATE TABLE partner_tokens (
    name       text COLLATE "C" PRIMARY KEY,
    sealed     bytea,
    expires_at timestamptz,
    leased_by   uuid,
    leased_till timestamptz NOT NULL DEFAULT '-infinity'
);
COMMENT ON TABLE partner_tokens IS 'The partner''s token, one for all replicas, sealed. It lives an hour, and no backup needs it.';
COMMENT ON COLUMN partner_tokens.name IS 'Of the partner and of where its tokens come from.';
COMMENT ON COLUMN partner_tokens.leased_till IS 'Until then one replica is asking for another token, and the others wait for it.';
