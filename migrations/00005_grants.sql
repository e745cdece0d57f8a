-- +goose Up

-- Grants that are kept alive, and what the provider allows, shared (packages authflow/grant and
-- provisioning/budget).

ALTER TABLE grants
    DROP CONSTRAINT grants_status_check,
    ADD CHECK (status IN ('active', 'quarantined', 'lapsed', 'replaced', 'discarded')),
    ADD COLUMN invitation_id uuid REFERENCES invitations ON DELETE SET NULL,
    ADD COLUMN partner_id text NOT NULL DEFAULT '',
    ADD COLUMN app text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN reason text CHECK (reason IN ('wrong_account', 'conflict')),
    ADD COLUMN evidence text NOT NULL DEFAULT '',
    ADD COLUMN refreshed_at timestamptz,
    ADD COLUMN proven_at timestamptz,
    ADD COLUMN refresh_at timestamptz,
    ADD COLUMN lease_id uuid,
    ADD COLUMN leased_until timestamptz,
    ADD COLUMN failures integer NOT NULL DEFAULT 0,
    ADD COLUMN refused_at timestamptz,
    ADD COLUMN refusals integer NOT NULL DEFAULT 0,
    ADD COLUMN ended_at timestamptz,
    ALTER COLUMN access_expires_at SET NOT NULL,
    -- A grant whose tokens are gone has no time at which they are refreshed.
    ADD CONSTRAINT grants_kept CHECK (status = 'active' OR (refresh_at IS NULL AND lease_id IS NULL)),
    ADD CONSTRAINT grants_leased CHECK ((lease_id IS NULL) = (leased_until IS NULL));
COMMENT ON COLUMN grants.invitation_id IS 'The link that led to the consent; null once it is gone.';
COMMENT ON COLUMN grants.partner_id IS 'The partner that provisioned the account, as the provider said at the consent; empty if none.';
COMMENT ON COLUMN grants.app IS 'Which app of ours at the provider it was made with; empty if that is not known. No other app can refresh it, and would only be told that it is gone.';
COMMENT ON COLUMN grants.reason IS 'Why it went into quarantine.';
COMMENT ON COLUMN grants.evidence IS 'What the verdict on its account rests on, in words.';
COMMENT ON COLUMN grants.proven_at IS 'First refresh that worked.';
COMMENT ON COLUMN grants.refresh_at IS 'When it is refreshed next, unless somebody wants a token before; null if it cannot be.';
COMMENT ON COLUMN grants.lease_id IS 'Who refreshes it now: one attempt at a time. Committed, with the attempt''s row, before the request goes out.';
COMMENT ON COLUMN grants.leased_until IS 'After this the one who refreshes it counts as dead, and another tries the same refresh token at once.';
COMMENT ON COLUMN grants.failures IS 'Attempts in a row that said nothing about the grant: the provider could not answer.';
COMMENT ON COLUMN grants.refused_at IS 'When the provider first refused the present refresh token; null if it has not.';
COMMENT ON COLUMN grants.refusals IS 'How often it has refused the present refresh token.';
COMMENT ON COLUMN grants.ended_at IS 'When it ceased to be active or in quarantine.';
-- Grants of before: proven at the next turn, and told apart from those in quarantine for a conflict.
UPDATE grants g
SET
    refresh_at = CASE WHEN g.status = 'active' AND g.refresh_token IS NOT NULL THEN now() END,
    reason = CASE WHEN g.status = 'quarantined' THEN
        CASE WHEN EXISTS (SELECT FROM clients c WHERE c.account_id = g.account_id AND c.id <> g.client_id) THEN 'conflict' ELSE 'wrong_account' END
    END,
    ended_at = CASE WHEN g.status NOT IN ('active', 'quarantined') THEN g.created_at END;
CREATE INDEX grants_due ON grants (app, refresh_at) WHERE refresh_at IS NOT NULL AND lease_id IS NULL;
CREATE INDEX grants_held ON grants (app, leased_until) WHERE leased_until IS NOT NULL;
CREATE INDEX grants_refused ON grants (refused_at) WHERE refused_at IS NOT NULL AND status = 'active';
CREATE INDEX grants_freshest ON grants (access_expires_at) WHERE status = 'active' AND refused_at IS NULL;
CREATE INDEX grants_untold ON grants (id) WHERE refreshed_at IS NOT NULL AND proven_at IS NULL;
CREATE INDEX grants_quarantine ON grants (id) WHERE status = 'quarantined';
CREATE INDEX grants_invitation ON grants (invitation_id);
CREATE INDEX grants_account ON grants (account_id);

CREATE TABLE refreshes (
    id         uuid PRIMARY KEY,
    grant_id   uuid NOT NULL REFERENCES grants ON DELETE CASCADE,
    generation integer NOT NULL,
    began_at   timestamptz NOT NULL,
    ended_at   timestamptz,
    outcome    text CHECK (outcome IN ('refreshed', 'refused', 'unavailable', 'misconfigured', 'lost', 'superseded')),
    detail     text NOT NULL DEFAULT '',
    CONSTRAINT ended_somehow CHECK ((outcome IS NULL) = (ended_at IS NULL))
);
COMMENT ON TABLE refreshes IS 'One attempt to refresh a grant, written before the request goes out, so that whoever finds a dead process''s lease knows that its refresh token may be spent. Kept for 30 days.';
COMMENT ON COLUMN refreshes.id IS 'The lease under which it was made.';
COMMENT ON COLUMN refreshes.outcome IS 'Null while it runs. lost: its process died, or the connection broke after the request was sent. superseded: another attempt had stored newer tokens.';
CREATE INDEX refreshes_grant ON refreshes (grant_id);
CREATE INDEX refreshes_ended ON refreshes (ended_at);
CREATE INDEX refreshes_age ON refreshes ((coalesce(ended_at, began_at)));

CREATE TABLE keeping (
    single        boolean PRIMARY KEY DEFAULT true CHECK (single),
    frozen_at     timestamptz,
    frozen_why    text,
    refused_at    timestamptz,
    refused_why   text,
    CONSTRAINT frozen_why CHECK ((frozen_at IS NULL) = (frozen_why IS NULL)),
    CONSTRAINT refused_why CHECK ((refused_at IS NULL) = (refused_why IS NULL))
);
COMMENT ON TABLE keeping IS 'What stands in the way of keeping grants alive.';
COMMENT ON COLUMN keeping.frozen_at IS 'Since when so many grants are refused at once that it looks like an outage: meanwhile only a grant that was refused for a week is believed to be gone.';
COMMENT ON COLUMN keeping.refused_at IS 'Since when the provider refuses our app itself.';
INSERT INTO keeping DEFAULT VALUES;

CREATE TABLE meters (
    name       text COLLATE "C" PRIMARY KEY,
    day        date NOT NULL,
    used       integer NOT NULL DEFAULT 0,
    throttled  integer NOT NULL DEFAULT 0,
    hold_until timestamptz,
    hold_why   text CHECK (hold_why IN ('throttled', 'quota_exceeded')),
    urgent_until timestamptz
);
COMMENT ON TABLE meters IS 'What the provider allows one key, or one key at the token endpoint, shared by all replicas: a row each.';
COMMENT ON COLUMN meters.day IS 'The UTC day that used and throttled count.';
COMMENT ON COLUMN meters.hold_until IS 'Nobody calls before: the provider said that it was too much.';
COMMENT ON COLUMN meters.urgent_until IS 'Until then an owner waits for a turn, and work in the background takes none.';

CREATE TABLE meter_slots (
    meter    text COLLATE "C" NOT NULL REFERENCES meters ON DELETE CASCADE,
    slot     smallint NOT NULL,
    turn_id  uuid,
    free_at  timestamptz NOT NULL,
    PRIMARY KEY (meter, slot)
);
COMMENT ON TABLE meter_slots IS 'As many rows as calls are allowed a second. A slot is taken by one call at a time and is free again a second after that call was answered: however late a call reaches the provider, no second has one more than it has slots.';
COMMENT ON COLUMN meter_slots.turn_id IS 'The call that has the slot; null between two.';
COMMENT ON COLUMN meter_slots.free_at IS 'When the slot is free for the next call; while a call has it, when that call counts as dead.';

-- The canary of before named no key; there is one a key now.
DELETE FROM secrets WHERE name = 'canary';

CREATE INDEX consents_claimed ON consents (claimed_at) WHERE claimed_at IS NOT NULL AND outcome IS NULL;
CREATE INDEX consents_abandoned ON consents (expires_at) WHERE claimed_at IS NULL;
