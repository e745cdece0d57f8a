-- +goose Up

-- The route manager (package authflow/manager), and progress by route.

ALTER TABLE clients
    DROP CONSTRAINT clients_reason_check,
    ADD CONSTRAINT clients_reason_check CHECK (reason IN (
        'bounced', 'declined', 'wrong_account', 'missing_scope', 'unsubscribed', 'expired', 'conflict',
        'no_activation', 'username_taken', 'user_limit'
    ));

-- An operator consents without an invitation.
ALTER TABLE consents
    ALTER COLUMN invitation_id DROP NOT NULL,
    ADD COLUMN actor text NOT NULL DEFAULT 'owner';
COMMENT ON COLUMN consents.invitation_id IS 'Whose link began the walk; null if an operator did, signed in as the client''s Account Manager.';
COMMENT ON COLUMN consents.actor IS 'Who walks.';

CREATE TABLE managers (
    client_id       uuid PRIMARY KEY REFERENCES clients ON DELETE CASCADE,
    open            boolean NOT NULL,
    asked_names     integer NOT NULL DEFAULT 0,
    claimed_at      timestamptz,
    activation_at   timestamptz,
    activation_from text NOT NULL DEFAULT '',
    activation_link bytea,
    active_at       timestamptz,
    missed          boolean NOT NULL DEFAULT false,
    ready_at        timestamptz GENERATED ALWAYS AS (coalesce(active_at, activation_at)) STORED
);
COMMENT ON TABLE managers IS 'How far the Account Manager user of a client on the route manager is, between the invitation and the consent.';
COMMENT ON COLUMN managers.open IS 'The client is on the route manager and not authorized: somebody has something to do. Kept by a trigger on clients.';
COMMENT ON COLUMN managers.asked_names IS 'How often the owner said that the username is taken.';
COMMENT ON COLUMN managers.claimed_at IS 'When the owner said that they have added the user.';
COMMENT ON COLUMN managers.activation_at IS 'When the provider''s mail for the new user came.';
COMMENT ON COLUMN managers.activation_from IS 'Whom that mail says that it is from.';
COMMENT ON COLUMN managers.activation_link IS 'Its link, sealed: whoever has it chooses the user''s password. Gone once the user is active.';
COMMENT ON COLUMN managers.active_at IS 'When an operator said that the user can sign in, or the provider''s API made it.';
COMMENT ON COLUMN managers.missed IS 'That mail did not come in time after the owner''s word.';
CREATE INDEX managers_ready ON managers (ready_at, client_id) WHERE open AND ready_at IS NOT NULL;
CREATE INDEX managers_claimed ON managers (claimed_at, client_id) WHERE open AND ready_at IS NULL AND NOT missed;

-- +goose StatementBegin
CREATE FUNCTION managers_follow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE managers
    SET open = NEW.route = 'manager' AND NEW.stage <> 'authorized'
    WHERE client_id = NEW.id
        AND open <> (NEW.route = 'manager' AND NEW.stage <> 'authorized');
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER managers_follow AFTER UPDATE OF stage, route ON clients FOR EACH ROW
    WHEN ((OLD.route = 'manager' OR NEW.route = 'manager') AND (OLD.route, OLD.stage) IS DISTINCT FROM (NEW.route, NEW.stage))
    EXECUTE FUNCTION managers_follow();

-- Operators who take the ready clients one after the other.

CREATE TABLE runs (
    id         uuid PRIMARY KEY,
    operator   text NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at   timestamptz
);
COMMENT ON TABLE runs IS 'An operator''s way through many clients, one after the other.';
CREATE UNIQUE INDEX runs_open ON runs (operator) WHERE ended_at IS NULL;

CREATE TABLE run_turns (
    run_id    uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
    client_id uuid NOT NULL REFERENCES clients ON DELETE CASCADE,
    taken_at  timestamptz NOT NULL,
    until     timestamptz NOT NULL,
    ended_at  timestamptz,
    outcome   text CHECK (outcome IN ('authorized', 'skipped', 'left')),
    why       text NOT NULL DEFAULT '',
    PRIMARY KEY (run_id, client_id),
    CONSTRAINT ended_with_an_outcome CHECK ((ended_at IS NULL) = (outcome IS NULL))
);
COMMENT ON TABLE run_turns IS 'The clients of a run. One that is open has nobody else at work on it.';
COMMENT ON COLUMN run_turns.until IS 'When an operator who has fallen silent loses the client to others.';
CREATE UNIQUE INDEX run_turns_open ON run_turns (client_id) WHERE ended_at IS NULL;
CREATE INDEX run_turns_client ON run_turns (client_id);

-- Progress by route.

DROP TRIGGER clients_tally_update ON clients;
DROP TRIGGER clients_tally_delete ON clients;
DROP FUNCTION clients_tally();
DROP FUNCTION tally_of(text, text, boolean, timestamptz, timestamptz);

-- +goose StatementBegin
CREATE FUNCTION tally_of(route text, stage text, reason text, paused boolean, invited_at timestamptz, authorized_at timestamptz)
RETURNS TABLE (metric text, label text, day date)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 'stage', stage, DATE '1970-01-01'
    UNION ALL SELECT 'route', route || '/' || stage, DATE '1970-01-01'
    UNION ALL SELECT 'reason', reason, DATE '1970-01-01' WHERE reason IS NOT NULL
    UNION ALL SELECT 'paused', '', DATE '1970-01-01' WHERE paused
    UNION ALL SELECT 'invited', '', (invited_at AT TIME ZONE 'UTC')::date WHERE invited_at IS NOT NULL
    UNION ALL SELECT 'authorized', '', (authorized_at AT TIME ZONE 'UTC')::date WHERE authorized_at IS NOT NULL;
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION clients_tally() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO tally_deltas (metric, label, day, n)
        SELECT t.metric, t.label, t.day, -count(*)
        FROM before_rows c, tally_of(c.route, c.stage, c.reason, c.paused, c.invited_at, c.authorized_at) t
        GROUP BY 1, 2, 3;
    ELSE
        INSERT INTO tally_deltas (metric, label, day, n)
        SELECT d.metric, d.label, d.day, sum(d.n)
        FROM (SELECT t.*, 1 AS n
              FROM after_rows c, tally_of(c.route, c.stage, c.reason, c.paused, c.invited_at, c.authorized_at) t
              UNION ALL
              SELECT t.*, -1
              FROM before_rows c, tally_of(c.route, c.stage, c.reason, c.paused, c.invited_at, c.authorized_at) t) d
        GROUP BY 1, 2, 3
        HAVING sum(d.n) <> 0;
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd

CREATE TRIGGER clients_tally_update AFTER UPDATE ON clients
    REFERENCING OLD TABLE AS before_rows NEW TABLE AS after_rows FOR EACH STATEMENT EXECUTE FUNCTION clients_tally();
CREATE TRIGGER clients_tally_delete AFTER DELETE ON clients
    REFERENCING OLD TABLE AS before_rows FOR EACH STATEMENT EXECUTE FUNCTION clients_tally();

INSERT INTO tally (metric, label, day, n)
SELECT 'route', route || '/' || stage, DATE '1970-01-01', count(*)
FROM clients
GROUP BY 2;
