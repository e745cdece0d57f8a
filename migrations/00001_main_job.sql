-- +goose Up

-- Who is to be authorized, and how far each one is (package provisioning).

-- Words are taken from the text of a client and from what an operator types by one function, so that
-- they are split alike, at punctuation, in any locale.

-- +goose StatementBegin
CREATE FUNCTION search_words(content text) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN array_remove(string_to_array(regexp_replace(lower(content), '[^[:alnum:]]+', ' ', 'g'), ' '), '');
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION search_query(typed text) RETURNS tsquery
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    -- What is longer than any word of a client, a tsquery would refuse.
    SELECT string_agg(word || ':*', ' & ')::tsquery FROM unnest(search_words(left(typed, 500))) word;
END;
-- +goose StatementEnd
COMMENT ON FUNCTION search_query IS 'Finds clients in whose column search every word that was typed begins one; none if no word was typed.';

CREATE TABLE clients (
    id            uuid PRIMARY KEY,
    ref           text CHECK (ref <> ''),
    name          text NOT NULL CHECK (name <> ''),
    owner_name    text NOT NULL DEFAULT '',
    owner_email   text NOT NULL CHECK (owner_email <> ''),
    account_id    text CHECK (account_id <> ''),
    username      text NOT NULL,
    route         text NOT NULL DEFAULT 'owner' CHECK (route IN ('owner', 'manager', 'partner', 'external')),
    stage         text NOT NULL DEFAULT 'imported'
                  CHECK (stage IN ('imported', 'invited', 'started', 'authorized', 'lapsed', 'stalled')),
    reason        text CHECK (reason IN ('bounced', 'declined', 'wrong_account', 'missing_scope', 'unsubscribed', 'expired', 'conflict')),
    paused        boolean NOT NULL DEFAULT false,
    site_url      text NOT NULL DEFAULT '',
    locale        text NOT NULL DEFAULT '',
    time_zone     text NOT NULL DEFAULT '',
    tags          text[] NOT NULL DEFAULT '{}',
    extra         jsonb NOT NULL DEFAULT '{}',
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    stage_at      timestamptz NOT NULL DEFAULT now(),
    invited_at    timestamptz,
    started_at    timestamptz,
    authorized_at timestamptz,
    proven_at     timestamptz,
    search        tsvector NOT NULL GENERATED ALWAYS AS (
                      array_to_tsvector(search_words(
                          name || ' ' || coalesce(ref, '') || ' ' || coalesce(account_id, '') || ' ' ||
                          owner_name || ' ' || owner_email || ' ' || username
                      ))
                  ) STORED,
    CONSTRAINT clients_account_id UNIQUE (account_id) DEFERRABLE, -- one statement may exchange them
    CONSTRAINT reason_says_why_it_stalled CHECK ((stage = 'stalled') = (reason IS NOT NULL))
);
COMMENT ON TABLE clients IS 'One child account to be authorized: a row of the roster.';
COMMENT ON COLUMN clients.ref IS 'The agency''s own key.';
COMMENT ON COLUMN clients.account_id IS 'The provider''s encoded account id: expected from the roster, or learnt from the first verified grant.';
COMMENT ON COLUMN clients.username IS 'The plus-addressed Account Manager username. Given once, never changed.';
COMMENT ON COLUMN clients.proven_at IS 'First refresh that worked: a grant made through a partner login works for a day and then dies.';
COMMENT ON COLUMN clients.search IS 'Words of every field an operator searches by, split at punctuation so that any part of an address is found.';

CREATE UNIQUE INDEX clients_ref ON clients (ref);
CREATE UNIQUE INDEX clients_username ON clients (lower(username));
CREATE INDEX clients_name_owner ON clients (lower(name), lower(owner_email));
CREATE INDEX clients_owner_email ON clients (lower(owner_email));
CREATE INDEX clients_stage ON clients (stage, id);
CREATE INDEX clients_route ON clients (route, id);
CREATE INDEX clients_reason ON clients (reason, id) WHERE reason IS NOT NULL;
CREATE INDEX clients_tags ON clients USING gin (tags);
CREATE INDEX clients_search ON clients USING gin (search);

CREATE TABLE events (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    client_id uuid NOT NULL REFERENCES clients ON DELETE CASCADE,
    at        timestamptz NOT NULL DEFAULT now(),
    kind      text NOT NULL,
    actor     text NOT NULL,
    stage     text,
    reason    text,
    detail    jsonb NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE events IS 'A client''s history: when, who, what. Append-only.';
COMMENT ON COLUMN events.stage IS 'The stage that this event moved the client to; null if it did not move.';
CREATE INDEX events_client ON events (client_id, id);

CREATE TABLE username_counters (
    stem text PRIMARY KEY,
    last integer NOT NULL
);
COMMENT ON TABLE username_counters IS 'The last number tried behind a username''s stem, so that the next one is never searched for.';

CREATE TABLE imports (
    id          uuid PRIMARY KEY,
    file_name   text NOT NULL,
    actor       text NOT NULL,
    at          timestamptz NOT NULL DEFAULT now(),
    header      text[] NOT NULL,
    rows        integer NOT NULL,
    created     integer NOT NULL,
    updated     integer NOT NULL,
    unchanged   integer NOT NULL,
    rejected    integer NOT NULL
);
COMMENT ON COLUMN imports.header IS 'The columns of the file as it came, for the file of rejects.';

CREATE TABLE import_rejects (
    import_id   uuid NOT NULL REFERENCES imports ON DELETE CASCADE,
    line        integer NOT NULL,
    column_name text NOT NULL,
    code        text NOT NULL,
    message     text NOT NULL,
    record      text[] NOT NULL,
    PRIMARY KEY (import_id, line)
);

-- Progress. A count over the roster would grow with it, and one counter row would make every writer
-- wait for every other, so changes are appended as deltas and folded into the tally now and then.

CREATE TABLE tally (
    metric text NOT NULL,
    label  text NOT NULL,
    day    date NOT NULL,
    n      bigint NOT NULL,
    PRIMARY KEY (metric, label, day)
);
COMMENT ON TABLE tally IS 'Clients by stage, reason, route and paused (day is then the epoch), and first invitations and authorizations by UTC day.';

CREATE TABLE tally_deltas (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    metric text NOT NULL,
    label  text NOT NULL,
    day    date NOT NULL,
    n      bigint NOT NULL
);
COMMENT ON TABLE tally_deltas IS 'Changes not yet folded into the tally.';

-- +goose StatementBegin
CREATE FUNCTION tally_of(stage text, reason text, paused boolean, invited_at timestamptz, authorized_at timestamptz)
RETURNS TABLE (metric text, label text, day date)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 'stage', stage, DATE '1970-01-01'
    UNION ALL SELECT 'reason', reason, DATE '1970-01-01' WHERE reason IS NOT NULL
    UNION ALL SELECT 'paused', '', DATE '1970-01-01' WHERE paused
    UNION ALL SELECT 'invited', '', (invited_at AT TIME ZONE 'UTC')::date WHERE invited_at IS NOT NULL
    UNION ALL SELECT 'authorized', '', (authorized_at AT TIME ZONE 'UTC')::date WHERE authorized_at IS NOT NULL;
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION clients_tally() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO tally_deltas (metric, label, day, n)
        SELECT t.metric, t.label, t.day, count(*)
        FROM after_rows c, tally_of(c.stage, c.reason, c.paused, c.invited_at, c.authorized_at) t
        GROUP BY 1, 2, 3;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO tally_deltas (metric, label, day, n)
        SELECT t.metric, t.label, t.day, -count(*)
        FROM before_rows c, tally_of(c.stage, c.reason, c.paused, c.invited_at, c.authorized_at) t
        GROUP BY 1, 2, 3;
    ELSE
        INSERT INTO tally_deltas (metric, label, day, n)
        SELECT d.metric, d.label, d.day, sum(d.n)
        FROM (SELECT t.*, 1 AS n
              FROM after_rows c, tally_of(c.stage, c.reason, c.paused, c.invited_at, c.authorized_at) t
              UNION ALL
              SELECT t.*, -1
              FROM before_rows c, tally_of(c.stage, c.reason, c.paused, c.invited_at, c.authorized_at) t) d
        GROUP BY 1, 2, 3
        HAVING sum(d.n) <> 0;
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd

CREATE TRIGGER clients_tally_insert AFTER INSERT ON clients
    REFERENCING NEW TABLE AS after_rows FOR EACH STATEMENT EXECUTE FUNCTION clients_tally();
CREATE TRIGGER clients_tally_update AFTER UPDATE ON clients
    REFERENCING OLD TABLE AS before_rows NEW TABLE AS after_rows FOR EACH STATEMENT EXECUTE FUNCTION clients_tally();
CREATE TRIGGER clients_tally_delete AFTER DELETE ON clients
    REFERENCING OLD TABLE AS before_rows FOR EACH STATEMENT EXECUTE FUNCTION clients_tally();

-- The way to consent (package authflow).

CREATE TABLE secrets (
    name       text PRIMARY KEY,
    sealed     bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE secrets IS 'Random keys of this installation, sealed by the vault: the key that invitation links are derived with, and a canary that names a missing vault key at start.';

CREATE TABLE invitations (
    id         uuid PRIMARY KEY,
    client_id  uuid NOT NULL REFERENCES clients ON DELETE CASCADE,
    token_hash bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    spent_at   timestamptz,
    revoked_at timestamptz,
    expired_at timestamptz
);
COMMENT ON TABLE invitations IS 'Links handed to owners. The token is derived from the id by a MAC, so that a repeated mail has the same bytes; only its SHA-256 is stored.';
COMMENT ON COLUMN invitations.spent_at IS 'Set only by the transaction that stores a verified grant.';
COMMENT ON COLUMN invitations.revoked_at IS 'Set when the owner''s address changed: the link went to somebody else.';
COMMENT ON COLUMN invitations.expired_at IS 'Set when the end of its life was noted in the client''s history.';
CREATE UNIQUE INDEX invitations_token ON invitations (token_hash);
CREATE INDEX invitations_client ON invitations (client_id);
CREATE INDEX invitations_open ON invitations (expires_at) WHERE spent_at IS NULL AND revoked_at IS NULL AND expired_at IS NULL;

CREATE TABLE consents (
    id             uuid PRIMARY KEY,
    client_id      uuid NOT NULL REFERENCES clients ON DELETE CASCADE,
    invitation_id  uuid NOT NULL REFERENCES invitations ON DELETE CASCADE,
    state_hash     bytea NOT NULL,
    browser_hash   bytea NOT NULL,
    verifier       bytea,
    token_url      text NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    expires_at     timestamptz NOT NULL,
    claimed_at     timestamptz,
    outcome        text,
    found_account  text,
    found_organization text,
    missing_scopes text[] NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE consents IS 'One walk through the provider: state, PKCE verifier (sealed), browser, ten minutes.';
COMMENT ON COLUMN consents.claimed_at IS 'Set by the one callback that may redeem the code.';
COMMENT ON COLUMN consents.token_url IS 'The token endpoint that belongs to the authorize endpoint this walk was sent to: a mix-up cannot redirect the code.';
CREATE UNIQUE INDEX consents_state ON consents (state_hash);
CREATE INDEX consents_client ON consents (client_id);
CREATE INDEX consents_invitation ON consents (invitation_id);
CREATE INDEX consents_age ON consents (created_at);

CREATE TABLE grants (
    id                uuid PRIMARY KEY,
    client_id         uuid NOT NULL REFERENCES clients ON DELETE CASCADE,
    account_id        text NOT NULL,
    organization      text NOT NULL,
    contact_email     text NOT NULL,
    subject           text NOT NULL,
    scopes            text[] NOT NULL,
    status            text NOT NULL CHECK (status IN ('active', 'quarantined', 'replaced')),
    generation        integer NOT NULL DEFAULT 1,
    access_token      bytea,
    access_expires_at timestamptz,
    refresh_token     bytea,
    created_at        timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE grants IS 'Sealed tokens of one verified account. A quarantined grant opened another account than expected and is not used until an operator decides.';
COMMENT ON COLUMN grants.generation IS 'Raised by every change of the tokens; part of what the seal authenticates.';
CREATE UNIQUE INDEX grants_active_account ON grants (account_id) WHERE status = 'active';
CREATE UNIQUE INDEX grants_active_client ON grants (client_id) WHERE status = 'active';
CREATE INDEX grants_client ON grants (client_id);

-- Mail (package notify).

CREATE TABLE messages (
    id            uuid PRIMARY KEY,
    client_id     uuid NOT NULL REFERENCES clients ON DELETE CASCADE,
    invitation_id uuid NOT NULL REFERENCES invitations ON DELETE CASCADE,
    kind          text NOT NULL,
    state         text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'sending', 'deferred', 'sent', 'failed', 'cancelled')),
    to_name       text NOT NULL,
    to_address    text NOT NULL,
    client_name   text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    attempts      integer NOT NULL DEFAULT 0,
    attempted_at  timestamptz,
    sent_at       timestamptz,
    unknown       integer NOT NULL DEFAULT 0,
    error         text
);
COMMENT ON TABLE messages IS 'One mail to one owner, with what it says fixed when it was queued, so that a retry sends the same bytes.';
COMMENT ON COLUMN messages.state IS 'sending: an attempt has begun and its end is not known; after a crash that means it may have been accepted.';
COMMENT ON COLUMN messages.unknown IS 'Attempts whose outcome stayed unknown before the message was sent again.';
CREATE INDEX messages_client ON messages (client_id, created_at);
CREATE INDEX messages_invitation ON messages (invitation_id);
CREATE UNIQUE INDEX messages_pending ON messages (client_id) WHERE state IN ('queued', 'sending', 'deferred');

-- Letting operators and programs in (package authflow/admin).

CREATE TABLE operators (
    id            uuid PRIMARY KEY,
    email         text NOT NULL,
    name          text NOT NULL,
    password_hash text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    signed_in_at  timestamptz
);
CREATE UNIQUE INDEX operators_email ON operators (lower(email));

CREATE TABLE sessions (
    token_hash  bytea PRIMARY KEY,
    operator_id uuid NOT NULL REFERENCES operators ON DELETE CASCADE,
    created_at  timestamptz NOT NULL DEFAULT now(),
    seen_at     timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL
);
CREATE INDEX sessions_operator ON sessions (operator_id);

CREATE TABLE entry_links (
    token_hash  bytea PRIMARY KEY,
    operator_id uuid REFERENCES operators ON DELETE CASCADE,
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL,
    used_at     timestamptz
);
COMMENT ON TABLE entry_links IS 'One-time links: with an operator they sign in, without one they set up the first operator.';

CREATE TABLE api_keys (
    id           uuid PRIMARY KEY,
    name         text NOT NULL,
    key_hash     bytea NOT NULL UNIQUE,
    scopes       text[] NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    used_at      timestamptz,
    revoked_at   timestamptz
);
CREATE UNIQUE INDEX api_keys_name ON api_keys (name) WHERE revoked_at IS NULL;

-- Running jobs (package provisioning/queue, beside River's own tables).

CREATE TABLE replicas (
    id      text PRIMARY KEY,
    seen_at timestamptz NOT NULL
);
COMMENT ON TABLE replicas IS 'Processes that work jobs. Jobs of a replica that was not seen for a while are given to another.';
