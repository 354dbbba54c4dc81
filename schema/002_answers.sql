-- 002_answers.sql: the answers to requests that carried an Idempotency-Key or a seq, so that a retry
-- gets the first answer, also after the redo log that held it was let go of. A few of each model
-- are kept, the newest by revision.

CREATE TABLE answers (
    model_id  INTEGER NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    key       TEXT NOT NULL CHECK (length(key) BETWEEN 1 AND 300),
    request   INTEGER NOT NULL,   -- hash of the request that it belongs to
    revision  INTEGER NOT NULL,   -- these three: the counters after it
    step      INTEGER NOT NULL,
    draw      INTEGER NOT NULL,
    loss      REAL,               -- null: the answer has none
    grad_norm REAL,
    lr        REAL,
    accuracy  REAL,
    samples   INTEGER NOT NULL,
    parts     TEXT NOT NULL CHECK (json_valid(parts)), -- [["box_loss",1.5],...]: what losses report
    PRIMARY KEY (model_id, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX answers_by_revision ON answers (model_id, revision);
