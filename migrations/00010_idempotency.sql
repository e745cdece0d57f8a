-- +goose Up

-- Requests that are carried out once, however often they are sent (package provisioning/once).

CREATE TABLE requests (
    key_id       uuid NOT NULL REFERENCES api_keys ON DELETE CASCADE,
    route        text COLLATE "C" NOT NULL,
    key          text COLLATE "C" NOT NULL,
    began_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    run_id       uuid NOT NULL,
    leased_until timestamptz NOT NULL,
    changed_at   timestamptz,
    fingerprint  bytea,
    answer       bytea,
    PRIMARY KEY (key_id, route, key),
    CONSTRAINT answered_as_a_whole CHECK ((fingerprint IS NULL) = (answer IS NULL))
);
COMMENT ON TABLE requests IS 'What was sent with an Idempotency-Key, for a day. A request that changed nothing and was not answered with success is forgotten at once.';
COMMENT ON COLUMN requests.run_id IS 'Who carries it out. A run that has lost the request to another one can change nothing.';
COMMENT ON COLUMN requests.leased_until IS 'After this the one who carries it out counts as dead.';
COMMENT ON COLUMN requests.changed_at IS 'Written in the transaction of the first change: from then on it is never carried out again.';
COMMENT ON COLUMN requests.fingerprint IS 'SHA-256 of what was sent.';
COMMENT ON COLUMN requests.answer IS 'Sealed with a key that is derived from the API key, of which the database has only a hash: answers have links and tokens in them.';
CREATE INDEX requests_age ON requests (began_at);
