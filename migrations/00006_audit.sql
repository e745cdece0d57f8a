-- +goose Up

-- The audit trail: what operators, keys and the command line changed (package provisioning/audit).

CREATE TABLE audit (
    id      bigint PRIMARY KEY CHECK (id > 0),
    version smallint NOT NULL DEFAULT 1,
    at      timestamptz NOT NULL,
    actor   text COLLATE "C" NOT NULL,
    action  text COLLATE "C" NOT NULL,
    object  text COLLATE "C" NOT NULL,
    before  json,
    after   json,
    hash    bytea NOT NULL CHECK (octet_length(hash) = 32)
);
COMMENT ON TABLE audit IS 'One line for each change that an operator, a key or the command line made. Rows are added by package provisioning/audit alone, which holds the row of audit_head meanwhile, and never change.';
COMMENT ON COLUMN audit.id IS 'Without gaps from 1, in the order of the chain.';
COMMENT ON COLUMN audit.version IS 'Which of the encodings that package provisioning/audit describes the hash is over.';
COMMENT ON COLUMN audit.before IS 'Of the type json, which keeps the text byte by byte: the hash is over that text.';
COMMENT ON COLUMN audit.hash IS 'SHA-256 over the hash of the entry before and all of this entry.';
CREATE INDEX audit_at ON audit (at);
CREATE INDEX audit_actor ON audit (actor, id);
CREATE INDEX audit_object ON audit (object, id);
CREATE INDEX audit_action ON audit (action);

CREATE TABLE audit_head (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    id     bigint NOT NULL,
    hash   bytea NOT NULL CHECK (octet_length(hash) = 32)
);
COMMENT ON TABLE audit_head IS 'The newest entry of the chain. Whoever adds one holds this row until the commit, which makes the ids gapless, and shows when the end of the chain is cut off.';
INSERT INTO audit_head (id, hash)
VALUES (0, decode(repeat('00', 32), 'hex'));

-- +goose StatementBegin
CREATE FUNCTION audit_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of % is refused: the audit trail is append-only', TG_OP, TG_TABLE_NAME;
END $$;
-- +goose StatementEnd
CREATE TRIGGER audit_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_stays();
CREATE TRIGGER audit_head_stays BEFORE DELETE OR TRUNCATE ON audit_head
    FOR EACH STATEMENT EXECUTE FUNCTION audit_stays();
