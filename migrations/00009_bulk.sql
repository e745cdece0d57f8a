-- +goose Up

-- The roster in other orders than the one of the imports, and what is done to many clients at once (packages
-- provisioning and provisioning/bulk).

-- Imported clients are added at the end of the first of these, which costs an import next to nothing. A stage goes
-- with a time: whoever looks for imported clients among all by time, newest first, would meet everybody else first.
CREATE INDEX clients_changed ON clients (stage_at, id);
CREATE INDEX clients_stage_changed ON clients (stage, stage_at, id);
CREATE INDEX clients_paused ON clients (id) WHERE paused;

CREATE TABLE import_clients (
    import_id uuid NOT NULL,
    client_id uuid NOT NULL,
    PRIMARY KEY (import_id, client_id)
);
COMMENT ON TABLE import_clients IS 'The clients that an import created or changed. Written in bulk by the transaction of the import, and so without foreign keys: a client that is gone is found by nobody who looks here.';

CREATE TABLE bulk_jobs (
    id          uuid PRIMARY KEY,
    action      text NOT NULL
                CHECK (action IN ('invite', 'remind', 'pause', 'resume', 'tag', 'untag', 'owner', 'extend', 'delete')),
    filter      jsonb,
    tag         text NOT NULL DEFAULT '',
    owner_name  text NOT NULL DEFAULT '',
    owner_email text NOT NULL DEFAULT '',
    actor       text NOT NULL,
    state       text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'stopping', 'done', 'stopped')),
    total       integer NOT NULL,
    done        integer NOT NULL DEFAULT 0,
    changed     integer NOT NULL DEFAULT 0,
    skipped_why jsonb NOT NULL DEFAULT '{}',
    reached     uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    created_at  timestamptz NOT NULL DEFAULT now(),
    ended_at    timestamptz,
    undo_of     uuid REFERENCES bulk_jobs ON DELETE CASCADE,
    CONSTRAINT ended_at_some_time CHECK ((state IN ('done', 'stopped')) = (ended_at IS NOT NULL))
);
COMMENT ON TABLE bulk_jobs IS 'Something that an operator has done to many clients at once. Removed, with its clients, 90 days after its end.';
COMMENT ON COLUMN bulk_jobs.filter IS 'What selected the clients; null if they were named one by one.';
COMMENT ON COLUMN bulk_jobs.reached IS 'The clients up to this one are done, committed with what was done to them.';
COMMENT ON COLUMN bulk_jobs.undo_of IS 'The job whose changes this one takes back; its action is that of the other.';
CREATE UNIQUE INDEX bulk_jobs_undo ON bulk_jobs (undo_of);
CREATE INDEX bulk_jobs_ended ON bulk_jobs (ended_at);

CREATE TABLE bulk_clients (
    job_id    uuid NOT NULL REFERENCES bulk_jobs ON DELETE CASCADE,
    client_id uuid NOT NULL,
    changed   boolean NOT NULL DEFAULT false,
    why       text,
    at        timestamptz,
    event_id  bigint,
    before    jsonb,
    PRIMARY KEY (job_id, client_id)
) WITH (fillfactor = 60);
COMMENT ON TABLE bulk_clients IS 'The clients of a job, fixed when it was ordered: nobody is touched who was not counted then. Each row is written once more when its turn comes, on the same page.';
COMMENT ON COLUMN bulk_clients.why IS 'Why the client was left as it was.';
COMMENT ON COLUMN bulk_clients.at IS 'The time of the transaction that changed the client, which its letter bears too.';
COMMENT ON COLUMN bulk_clients.event_id IS 'The client''s newest event then: a later one of the same matter says that it has changed since.';
COMMENT ON COLUMN bulk_clients.before IS 'What the change has replaced, if it cannot be told from the job.';
-- Both are of rows that most jobs have few of, or that are written after the row.
CREATE INDEX bulk_clients_skipped ON bulk_clients (job_id, client_id) WHERE why IS NOT NULL;
