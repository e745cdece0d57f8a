-- +goose Up

-- Mail that arrives, once, and reminders that stop (package notify).

CREATE TABLE stationery (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT now(),
    actor      text NOT NULL,
    letterhead jsonb NOT NULL,
    texts      jsonb NOT NULL
);
COMMENT ON TABLE stationery IS 'Every version of the agency''s letterhead and own texts, never changed: a message goes out with the version it was queued under, so that a retry sends the same bytes. The newest is the current one.';
COMMENT ON COLUMN stationery.texts IS 'The agency''s texts by key, over the ones built in. A text that is not here is the built-in one.';

CREATE TABLE logos (
    digest     text COLLATE "C" PRIMARY KEY,
    media_type text NOT NULL,
    content    bytea NOT NULL
);
COMMENT ON TABLE logos IS 'Pictures that letterheads name by the SHA-256 of their content. Kept, because sent mails show them.';

-- A message is claimed, its acceptance is noted, and it ends: its row is written three times within
-- moments. With room left on its page, and no index on what the first two of these write, they cost next to nothing.
DROP INDEX messages_invitation, messages_pending;
ALTER TABLE messages
    SET (fillfactor = 50),
    ALTER COLUMN client_id DROP NOT NULL,
    ALTER COLUMN invitation_id DROP NOT NULL,
    DROP CONSTRAINT messages_state_check,
    ADD COLUMN step text COLLATE "C",
    ADD COLUMN number smallint NOT NULL DEFAULT 0,
    ADD COLUMN situation text NOT NULL DEFAULT '',
    ADD COLUMN locale text NOT NULL DEFAULT '',
    ADD COLUMN facts jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN stationery_id bigint REFERENCES stationery,
    ADD COLUMN domain text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN due_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN paced boolean NOT NULL DEFAULT false,
    ADD COLUMN tried_since timestamptz,
    ADD COLUMN sender_id uuid,
    ADD COLUMN claimed_at timestamptz,
    ADD COLUMN accepted boolean NOT NULL DEFAULT false,
    ADD COLUMN ended_at timestamptz,
    ADD COLUMN returned text CHECK (returned IN ('bounced', 'refused', 'complained'));
UPDATE messages
SET
    step = CASE WHEN state NOT IN ('failed', 'cancelled') THEN 'invitation' END,
    domain = coalesce(lower(substring(to_address FROM '@([^@]*)$')), ''),
    ended_at = CASE WHEN state IN ('sent', 'failed', 'cancelled') THEN coalesce(sent_at, attempted_at, created_at) END,
    tried_since = CASE WHEN attempts > 0 THEN created_at END,
    -- Whoever was sending it is gone with the program of before.
    state = CASE WHEN state = 'sending' THEN 'unknown' ELSE state END;
ALTER TABLE messages
    ALTER COLUMN domain DROP DEFAULT,
    ADD CHECK (state IN ('queued', 'deferred', 'unknown', 'sent', 'failed', 'cancelled')),
    ADD CONSTRAINT messages_of_nobody CHECK ((client_id IS NULL) = (kind = 'digest'));
COMMENT ON COLUMN messages.client_id IS 'Null for a digest, which goes to an operator.';
COMMENT ON COLUMN messages.step IS 'What is sent once an invitation: invitation, reminder 1, and so on. Null once the message was cancelled or has failed, so that the step may be taken again.';
COMMENT ON COLUMN messages.situation IS 'How far the owner was when a reminder was queued; it chooses the words.';
COMMENT ON COLUMN messages.facts IS 'What else its text tells.';
COMMENT ON COLUMN messages.domain IS 'The recipient''s domain, which mail is paced by.';
COMMENT ON COLUMN messages.due_at IS 'Not before.';
COMMENT ON COLUMN messages.paced IS 'due_at is the turn that its domain''s pace has given it.';
COMMENT ON COLUMN messages.tried_since IS 'When the first attempt began: the date that the mail bears.';
COMMENT ON COLUMN messages.sender_id IS 'Who has claimed it: its attempt has begun, whatever its state says. Committed before the network is touched.';
COMMENT ON COLUMN messages.accepted IS 'A mail server has accepted the attempt under way. Noted at once, while the rest of what that means takes its time: a crash in between costs no second mail.';
COMMENT ON COLUMN messages.ended_at IS 'When it was sent, given up or cancelled.';
COMMENT ON COLUMN messages.returned IS 'What came of it later: a report that it bounced, that it was refused for our sake, or a complaint.';
COMMENT ON COLUMN messages.state IS 'What is known of it; whether an attempt is under way, sender_id says. unknown: nobody knows whether an attempt was accepted; it is sent again after a pause, with the same Message-ID.';
COMMENT ON COLUMN messages.unknown IS 'Attempts whose outcome stayed unknown before the message was sent again.';
CREATE UNIQUE INDEX messages_step ON messages (invitation_id, step);
CREATE UNIQUE INDEX messages_digest ON messages (to_address, step) WHERE client_id IS NULL;
-- A thank-you goes out beside anything else.
CREATE UNIQUE INDEX messages_pending ON messages (client_id) WHERE ended_at IS NULL AND kind <> 'thanks';
CREATE INDEX messages_due ON messages (due_at) WHERE ended_at IS NULL;
CREATE INDEX messages_ended ON messages (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE mail_senders (
    id      uuid PRIMARY KEY,
    seen_at timestamptz NOT NULL
);
COMMENT ON TABLE mail_senders IS 'Processes that send mail. What one of them has claimed when it falls silent was sent if that is noted, and has an unknown outcome otherwise.';

CREATE TABLE mail_switch (
    single     boolean PRIMARY KEY DEFAULT true CHECK (single),
    paused_at  timestamptz,
    paused_by  text,
    why        text,
    watched_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE mail_switch IS 'While paused_at is set nothing is sent. An operator sets it, or the breaker when too many addresses bounce.';
COMMENT ON COLUMN mail_switch.watched_at IS 'The breaker counts what ended since: resuming begins anew.';
INSERT INTO mail_switch DEFAULT VALUES;

CREATE TABLE mail_pace (
    domain      text COLLATE "C" PRIMARY KEY,
    free_at     timestamptz NOT NULL,
    promised_to timestamptz NOT NULL,
    day         date NOT NULL,
    days        integer NOT NULL DEFAULT 0,
    sent_today  integer NOT NULL DEFAULT 0
);
COMMENT ON TABLE mail_pace IS 'How fast mail may go, over all replicas: one row a recipient''s domain that is paced, and one, named *, for all.';
COMMENT ON COLUMN mail_pace.free_at IS 'When the next mail conforms to the rate.';
COMMENT ON COLUMN mail_pace.promised_to IS 'Up to when turns have been given to mails that had to wait.';
COMMENT ON COLUMN mail_pace.days IS 'Days before this one on which mail was sent: the ramp grows with them.';

-- Written for every mail by a statement that holds its client's row, as events are, and so without a
-- foreign key.
CREATE TABLE reminders (
    client_id     uuid PRIMARY KEY,
    invitation_id uuid NOT NULL,
    mailed_at     timestamptz NOT NULL,
    number        smallint NOT NULL DEFAULT 0,
    next_at       timestamptz,
    planned_by    text,
    why           text
);
COMMENT ON TABLE reminders IS 'Where each mailed owner is in the row of reminders. Written when a mail was accepted.';
COMMENT ON COLUMN reminders.mailed_at IS 'When the last mail was accepted.';
COMMENT ON COLUMN reminders.number IS 'Reminders used up, sent or skipped.';
COMMENT ON COLUMN reminders.next_at IS 'When the next one is due; null if none will come.';
COMMENT ON COLUMN reminders.planned_by IS 'The operator who chose next_at.';
COMMENT ON COLUMN reminders.why IS 'Why none will come.';
CREATE INDEX reminders_due ON reminders (next_at) WHERE next_at IS NOT NULL;
-- Who was mailed before there were reminders gets the first one now.
INSERT INTO reminders (client_id, invitation_id, mailed_at, next_at)
SELECT DISTINCT ON (m.client_id)
    m.client_id,
    m.invitation_id,
    m.sent_at,
    m.sent_at + interval '3 days'
FROM messages m
JOIN clients c ON c.id = m.client_id
WHERE m.state = 'sent'
    AND c.stage IN ('invited', 'started', 'stalled')
ORDER BY m.client_id, m.sent_at DESC;

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION clients_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO former_usernames (username, client_id, why)
    SELECT username, id, 'deleted'
    FROM before_rows;
    DELETE FROM events
    WHERE client_id IN (SELECT id FROM before_rows);
    DELETE FROM reminders
    WHERE client_id IN (SELECT id FROM before_rows);
    RETURN NULL;
END $$;
-- +goose StatementEnd

CREATE TABLE returns (
    id         uuid PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT now(),
    digest     bytea NOT NULL,
    source     text NOT NULL CHECK (source IN ('mailbox', 'pipe')),
    kind       text NOT NULL,
    message_id uuid REFERENCES messages ON DELETE SET NULL,
    client_id  uuid REFERENCES clients ON DELETE CASCADE,
    recipient  text NOT NULL DEFAULT '',
    status     text NOT NULL DEFAULT '',
    diagnostic text NOT NULL DEFAULT '',
    subject    text NOT NULL DEFAULT '',
    content    bytea,
    read_at    timestamptz,
    read_by    text
);
COMMENT ON TABLE returns IS 'What came back for mails of ours: delivery reports, auto-replies, complaints, and what could not be understood.';
COMMENT ON COLUMN returns.digest IS 'SHA-256 of the content: nothing is processed twice.';
COMMENT ON COLUMN returns.content IS 'The beginning of what could not be understood, for reading.';
COMMENT ON COLUMN returns.read_at IS 'When an operator put an unread one aside.';
CREATE UNIQUE INDEX returns_digest ON returns (digest);
CREATE INDEX returns_message ON returns (message_id);
CREATE INDEX returns_client ON returns (client_id, id);
CREATE INDEX returns_unread ON returns (id) WHERE content IS NOT NULL AND read_at IS NULL;
CREATE INDEX returns_refused ON returns (id) WHERE kind = 'policy';

CREATE TABLE mailboxes (
    account      text COLLATE "C" PRIMARY KEY,
    uid_validity bigint NOT NULL,
    uid          bigint NOT NULL
);
COMMENT ON TABLE mailboxes IS 'How far each mailbox has been read: everything up to uid.';

-- What owners answer (package provisioning).

ALTER TABLE clients
    ADD COLUMN opted_out text CHECK (opted_out IN ('declined', 'unsubscribed')),
    ADD COLUMN opted_out_at timestamptz,
    ADD CONSTRAINT opted_out_at_some_time CHECK ((opted_out IS NULL) = (opted_out_at IS NULL));
COMMENT ON COLUMN clients.opted_out IS 'The owner wants no more mails. Beside the stage, because a press of a button by a robot moves that; an operator may still mail knowingly.';
UPDATE clients
SET
    opted_out = reason,
    opted_out_at = stage_at
WHERE reason = 'unsubscribed';

CREATE TABLE referrals (
    id         uuid PRIMARY KEY,
    client_id  uuid NOT NULL REFERENCES clients ON DELETE CASCADE,
    at         timestamptz NOT NULL DEFAULT now(),
    name       text NOT NULL DEFAULT '',
    email      text NOT NULL CHECK (email <> ''),
    note       text NOT NULL DEFAULT '',
    state      text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'accepted', 'dismissed')),
    decided_at timestamptz,
    decided_by text
);
COMMENT ON TABLE referrals IS 'Whom an owner names as the right person. Only an operator has them mailed.';
CREATE UNIQUE INDEX referrals_open ON referrals (client_id) WHERE state = 'open';
CREATE INDEX referrals_client ON referrals (client_id, id);

-- Mail is no longer a job of the queue.
-- +goose StatementBegin
DO $$
BEGIN
    IF to_regclass('river_job') IS NOT NULL THEN
        DELETE FROM river_job
        WHERE queue = 'mail';
    END IF;
END $$;
-- +goose StatementEnd
