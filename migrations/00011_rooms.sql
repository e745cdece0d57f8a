-- +goose Up

-- What the console's rooms list and keep: files that are being imported, mails that are put off or were given up, who
-- takes no mail, and the doctor's report.

CREATE TABLE upload_orders (
    upload_id uuid PRIMARY KEY REFERENCES uploads ON DELETE CASCADE,
    actor     text NOT NULL,
    mapping   jsonb NOT NULL,
    invite    boolean NOT NULL,
    at        timestamptz NOT NULL DEFAULT now(),
    size      bigint NOT NULL,
    read      bigint NOT NULL DEFAULT 0,
    rows      integer,
    problem   text
);
COMMENT ON TABLE upload_orders IS 'The files that are to be imported, and how far that is. Written beside the transaction of the import, whose outcome it does not tell.';
COMMENT ON COLUMN upload_orders.size IS 'Of the file, in bytes, of which so many are read.';
COMMENT ON COLUMN upload_orders.rows IS 'How many the file has, once it is read.';
COMMENT ON COLUMN upload_orders.problem IS 'Why nothing was imported, with the cure: then it may be ordered anew.';

-- Neither index is written when a message is claimed or its acceptance is noted.
CREATE INDEX messages_put_off ON messages (due_at, id) WHERE ended_at IS NULL AND state IN ('deferred', 'unknown');
CREATE INDEX messages_failed ON messages (ended_at, id) WHERE state = 'failed';

-- An import adds nothing to it: nobody has opted out or bounced yet.
CREATE INDEX clients_suppressed ON clients ((coalesce(opted_out_at, stage_at)), id)
    WHERE opted_out IS NOT NULL OR reason = 'bounced';

CREATE TABLE doctor_reports (
    single   boolean PRIMARY KEY DEFAULT true CHECK (single),
    id       uuid NOT NULL,
    actor    text NOT NULL,
    plus     boolean NOT NULL,
    at       timestamptz NOT NULL DEFAULT now(),
    seen_at  timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    checks   jsonb NOT NULL DEFAULT '[]'
);
COMMENT ON TABLE doctor_reports IS 'What the doctor found last, or has found so far.';
COMMENT ON COLUMN doctor_reports.id IS 'Of the examination: a job that somebody has given up does not write into the next one.';
COMMENT ON COLUMN doctor_reports.plus IS 'Mails are sent to try plus-address delivery as well.';
COMMENT ON COLUMN doctor_reports.seen_at IS 'When the examination last gave a sign of life.';
