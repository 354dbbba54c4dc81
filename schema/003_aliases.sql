-- 003_aliases.sql: names for versions, and the ledger of who moved which name when.

-- A name points to a complete version; store_version_delete refuses one that has a name.
CREATE TABLE aliases (
    model_id INTEGER NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    name     TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 128 AND name GLOB '*[^0-9]*'),
    version  INTEGER NOT NULL CHECK (version > 0),
    moved_at INTEGER NOT NULL,
    PRIMARY KEY (model_id, name)
) STRICT, WITHOUT ROWID;

-- Rows are only ever added, in the transaction that moves the alias. A rollback says which 'set' it
-- took back; none is taken back twice.
CREATE TABLE alias_moves (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    model_id     INTEGER NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    name         TEXT NOT NULL,
    action       TEXT NOT NULL CHECK (action IN ('set', 'rollback', 'delete')),
    from_version INTEGER,  -- null: the alias was not there
    to_version   INTEGER,  -- null: it was deleted
    undoes       INTEGER UNIQUE REFERENCES alias_moves (id) ON DELETE CASCADE,
    who          TEXT NOT NULL,
    why          TEXT NOT NULL,
    moved_at     INTEGER NOT NULL,
    CHECK (action <> 'rollback' OR undoes IS NOT NULL)
) STRICT;

CREATE INDEX alias_moves_by_name ON alias_moves (model_id, name, id);
