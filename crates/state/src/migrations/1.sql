-- Every table of entities has the same three columns; what the rows hold is in src/rows/.
CREATE TABLE checksum (name TEXT PRIMARY KEY, count INTEGER NOT NULL, hash BLOB NOT NULL) WITHOUT ROWID;

CREATE TABLE layer (key TEXT PRIMARY KEY, body TEXT NOT NULL, hash BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE image (key TEXT PRIMARY KEY, body TEXT NOT NULL, hash BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE tag (key TEXT PRIMARY KEY, body TEXT NOT NULL, hash BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE volume (key TEXT PRIMARY KEY, body TEXT NOT NULL, hash BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE trash (key TEXT PRIMARY KEY, body TEXT NOT NULL, hash BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE lease (key TEXT PRIMARY KEY, body TEXT NOT NULL, hash BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE container (
    key TEXT PRIMARY KEY,
    body TEXT NOT NULL,
    hash BLOB NOT NULL,
    name TEXT GENERATED ALWAYS AS (body ->> '$.name') VIRTUAL
) WITHOUT ROWID;
CREATE UNIQUE INDEX container_name ON container (name);

-- What a killed process left half done, found without reading the tables.
CREATE INDEX container_unsettled ON container (key)
    WHERE body ->> '$.details.status.phase' NOT IN ('Created', 'Exited', 'Running');
CREATE INDEX layer_unsettled ON layer (key) WHERE body ->> '$.phase' <> 'Ready';
CREATE INDEX volume_unsettled ON volume (key) WHERE body ->> '$.phase' <> 'Ready';
CREATE INDEX trash_unsettled ON trash (key) WHERE body ->> '$.emptying';
