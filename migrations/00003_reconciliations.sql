-- +goose Up

CREATE TABLE reconciliations (
    id         uuid PRIMARY KEY,
    actor      text NOT NULL,
    at         timestamptz NOT NULL DEFAULT now(),
    state      text NOT NULL DEFAULT 'reading'
               CHECK (state IN ('reading', 'compared', 'applying', 'done', 'failed')),
    done       integer NOT NULL DEFAULT 0,
    total      integer,
    steps      text[] NOT NULL DEFAULT '{}' CHECK (steps <@ '{fill,add}'),
    applied_by text,
    applied_at timestamptz,
    found      jsonb,
    outcome    jsonb,
    error      text,
    ended_at   timestamptz
);
COMMENT ON TABLE reconciliations IS 'Comparisons of the roster with the provider''s own list of accounts, as the console shows them. Removed after a day: what was applied remains as imports.';
COMMENT ON COLUMN reconciliations.done IS 'Progress of the job that is at work: accounts read, or asked for their owners.';
COMMENT ON COLUMN reconciliations.total IS 'How many there will be, as far as that is known.';
COMMENT ON COLUMN reconciliations.steps IS 'What was applied or is being applied, in this order. How many there are tells a second press of a button from the first.';
COMMENT ON COLUMN reconciliations.found IS 'The comparison: numbers, and the first findings of each kind.';
COMMENT ON COLUMN reconciliations.outcome IS 'What the last of the steps did.';
COMMENT ON COLUMN reconciliations.error IS 'Why the provider''s list was not read, or the last of the steps ended early, with the cure.';

-- One at a time: the provider allows few calls a second.
CREATE UNIQUE INDEX reconciliations_running ON reconciliations ((true)) WHERE state IN ('reading', 'applying');

CREATE TABLE reconciliation_accounts (
    reconciliation_id uuid NOT NULL REFERENCES reconciliations ON DELETE CASCADE,
    account_id        text COLLATE "C" NOT NULL,
    organization      text NOT NULL,
    owner_login       text NOT NULL,
    billing_status    text NOT NULL,
    managed           boolean NOT NULL,
    PRIMARY KEY (reconciliation_id, account_id)
);
COMMENT ON TABLE reconciliation_accounts IS 'The provider''s list, so that what an operator has looked at can be applied without reading it once more.';
