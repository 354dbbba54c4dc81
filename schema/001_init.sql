-- 001_init.sql: models, their versions, and their metrics.
--
-- Applied once, in one transaction, by server/store_schema.c, which then sets user_version. Never
-- edit a migration that was released: add the next number.
--
-- Times are Unix milliseconds. Hashes are SHA-256 in lower-case hex. JSON is stored as text.

-- A model whose name is NULL was deleted: nothing shows it, and what it owns is removed in small
-- steps. AUTOINCREMENT: an id is never used again.
CREATE TABLE models (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    name         TEXT UNIQUE CHECK (length(name) BETWEEN 1 AND 128),
    description  TEXT NOT NULL CHECK (json_valid(description)),  -- expanded, as it was created
    created_at   INTEGER NOT NULL,
    step         INTEGER NOT NULL CHECK (step >= 0),             -- these four: as of the checkpoint,
    revision     INTEGER NOT NULL CHECK (revision >= 0),         -- or of a later call that said so
    draw         INTEGER NOT NULL CHECK (draw >= 0),
    pending      INTEGER NOT NULL CHECK (pending IN (0, 1)),     -- gradients are pending
    next_version INTEGER NOT NULL DEFAULT 1 CHECK (next_version > 0)
) STRICT;

-- A version that clients made, or the hidden checkpoint that the daemon starts from. Its data are
-- written in many small transactions while it is 'writing'; one last transaction writes the
-- manifest (parts), gives the version its number and makes it 'complete'. Only complete versions
-- are ever read. 'dropped' ones, and those found 'writing' when nothing is being saved, are removed
-- in small steps.
CREATE TABLE versions (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    model_id       INTEGER NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    kind           TEXT NOT NULL CHECK (kind IN ('version', 'checkpoint')),
    state          TEXT NOT NULL CHECK (state IN ('writing', 'complete', 'dropped')),
    version        INTEGER CHECK (version > 0),
    step           INTEGER NOT NULL CHECK (step >= 0),
    revision       INTEGER NOT NULL CHECK (revision >= 0),
    draw           INTEGER NOT NULL CHECK (draw >= 0),
    optimizer_step INTEGER NOT NULL CHECK (optimizer_step >= 0),
    pending        INTEGER NOT NULL CHECK (pending IN (0, 1)),
    fingerprint    TEXT NOT NULL,                                -- of the engine that computed it
    description    TEXT NOT NULL CHECK (json_valid(description)),
    note           TEXT NOT NULL,
    sha256         TEXT NOT NULL CHECK (length(sha256) = 64),    -- of the whole state
    bytes          INTEGER NOT NULL CHECK (bytes >= 0),
    created_at     INTEGER NOT NULL,
    UNIQUE (model_id, version),
    CHECK (kind = 'version' OR version IS NULL),
    CHECK (kind = 'checkpoint' OR state <> 'complete' OR version IS NOT NULL)
) STRICT;

-- At most one checkpoint of a model counts; and what is to be removed is found without a scan.
CREATE UNIQUE INDEX versions_checkpoint ON versions (model_id)
    WHERE kind = 'checkpoint' AND state = 'complete';
CREATE INDEX versions_unfinished ON versions (state) WHERE state <> 'complete';

-- The manifest of a complete version: 'params', 'buffers', 'slots', 'pending' and so on.
CREATE TABLE parts (
    version_id INTEGER NOT NULL REFERENCES versions (id) ON DELETE CASCADE,
    position   INTEGER NOT NULL CHECK (position >= 0),           -- the order that sha256 depends on
    name       TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
    bytes      INTEGER NOT NULL CHECK (bytes >= 0),
    chunks     INTEGER NOT NULL CHECK (chunks >= 0),
    sha256     TEXT NOT NULL CHECK (length(sha256) = 64),
    PRIMARY KEY (version_id, position),
    UNIQUE (version_id, name)
) STRICT, WITHOUT ROWID;

-- The data of the parts, 2 MB a row. With a rowid: WITHOUT ROWID would keep the data in the index.
CREATE TABLE blobs (
    id         INTEGER PRIMARY KEY,
    version_id INTEGER NOT NULL REFERENCES versions (id) ON DELETE CASCADE,
    position   INTEGER NOT NULL CHECK (position >= 0),
    chunk      INTEGER NOT NULL CHECK (chunk >= 0),
    data       BLOB NOT NULL,
    UNIQUE (version_id, position, chunk)
) STRICT;

-- A name of a series is stored once. The second key is what metrics refer to.
CREATE TABLE series (
    id       INTEGER PRIMARY KEY,
    model_id INTEGER NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    name     TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 63),
    UNIQUE (model_id, name),
    UNIQUE (model_id, id)
) STRICT;

-- One number of one series at one revision. The key is the order in which series are read, so a
-- range of a series is one run of pages; the reference uses its two first columns, so that no other
-- index is needed. value NULL: it was not finite.
CREATE TABLE metrics (
    model_id  INTEGER NOT NULL,
    series_id INTEGER NOT NULL,
    revision  INTEGER NOT NULL CHECK (revision >= 0),
    step      INTEGER NOT NULL CHECK (step >= 0),
    value     REAL,
    time_ms   INTEGER NOT NULL,
    PRIMARY KEY (model_id, series_id, revision),
    FOREIGN KEY (model_id, series_id) REFERENCES series (model_id, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
