-- +goose Up

-- Keys are compared byte by byte: they are looked up, never sorted for a reader, and the rules of a
-- language would make every one of their indexes several times slower to fill.
DROP INDEX clients_name_owner, clients_username;
ALTER TABLE clients
    ALTER COLUMN ref TYPE text COLLATE "C",
    ALTER COLUMN owner_email TYPE text COLLATE "C",
    ALTER COLUMN account_id TYPE text COLLATE "C",
    ALTER COLUMN username TYPE text COLLATE "C",
    ALTER COLUMN search DROP EXPRESSION,
    ADD CONSTRAINT username_is_lower_case CHECK (username = lower(username));
-- It is compared with the owner's address in lower case, which only equal rules make equal.
ALTER TABLE messages ALTER COLUMN to_address TYPE text COLLATE "C";
CREATE UNIQUE INDEX clients_username ON clients (username);
CREATE INDEX clients_name_owner ON clients ((lower(name) COLLATE "C"), lower(owner_email));

-- The words of a client are taken from its text by the program, for accents and for speed.
UPDATE clients c
SET search = array_to_tsvector(array_remove(regexp_split_to_array(lower(regexp_replace(normalize(
    concat_ws(' ', name, ref, account_id, owner_name, owner_email, username) COLLATE "default", NFKD), '[\u0300-\u036f]', '', 'g')), '[^[:alnum:]]+'), ''));
DROP FUNCTION search_query;
DROP FUNCTION search_words;
COMMENT ON COLUMN clients.search IS 'Words of every field an operator searches by, without accents, split at punctuation so that any part of an address is found. Written by the program with the fields.';

-- New entries of these indexes wait in a list, which a job sorts in soon after an import: that is four
-- times faster than one by one. A search reads the list as well.
ALTER INDEX clients_search SET (gin_pending_list_limit = 65536);
ALTER INDEX clients_tags SET (gin_pending_list_limit = 65536);

-- An event is written by a statement that holds its client's row. To look for that row once more, as a
-- foreign key does, would take as long as writing the event.
ALTER TABLE events DROP CONSTRAINT events_client_id_fkey;

-- A trigger's copy of every new row would slow an import down by a tenth: clients are counted by the
-- statement that creates them.
DROP TRIGGER clients_tally_insert ON clients;

CREATE TABLE former_usernames (
    username  text COLLATE "C" PRIMARY KEY,
    client_id uuid NOT NULL,
    why       text NOT NULL CHECK (why IN ('taken', 'deleted')),
    at        timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE former_usernames IS 'Usernames that were given once and are never given again: the provider said that somebody else has it, or its client was deleted and a user of that name may still exist.';
CREATE INDEX former_usernames_client ON former_usernames (client_id);

-- +goose StatementBegin
CREATE FUNCTION clients_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO former_usernames (username, client_id, why)
    SELECT username, id, 'deleted'
    FROM before_rows;
    DELETE FROM events
    WHERE client_id IN (SELECT id FROM before_rows);
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER clients_deleted AFTER DELETE ON clients
    REFERENCING OLD TABLE AS before_rows FOR EACH STATEMENT EXECUTE FUNCTION clients_deleted();

ALTER TABLE imports
    ADD COLUMN warned integer NOT NULL DEFAULT 0,
    ADD COLUMN warnings jsonb NOT NULL DEFAULT '[]';
COMMENT ON COLUMN imports.warned IS 'Rows that were taken and yet look doubtful.';
COMMENT ON COLUMN imports.warnings IS 'The first warnings.';

CREATE TABLE uploads (
    id        uuid PRIMARY KEY,
    file_name text NOT NULL,
    actor     text NOT NULL,
    at        timestamptz NOT NULL DEFAULT now(),
    import_id uuid REFERENCES imports ON DELETE SET NULL
);
COMMENT ON TABLE uploads IS 'Roster files that an operator looks at in the console before they are imported. Removed after a day.';
COMMENT ON COLUMN uploads.import_id IS 'What it became: a second press of the button imports nothing.';
CREATE INDEX uploads_age ON uploads (at);
CREATE INDEX uploads_import ON uploads (import_id);

CREATE TABLE upload_parts (
    upload_id uuid NOT NULL REFERENCES uploads ON DELETE CASCADE,
    part      integer NOT NULL,
    content   bytea NOT NULL,
    PRIMARY KEY (upload_id, part)
);
ALTER TABLE upload_parts ALTER COLUMN content SET STORAGE EXTERNAL;
