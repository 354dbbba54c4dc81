-- 008_answers_order.sql: answers in the order in which they were given. Many may be of one revision
-- (moves of aliases, versions), and then the revision does not say which of them are the newest.

CREATE TABLE answers_in_order (
    number    INTEGER PRIMARY KEY, -- rises
    model_id  INTEGER NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    key       TEXT NOT NULL CHECK (length(key) BETWEEN 1 AND 300),
    request   INTEGER NOT NULL,
    revision  INTEGER NOT NULL,
    step      INTEGER NOT NULL,
    draw      INTEGER NOT NULL,
    loss      REAL,
    grad_norm REAL,
    lr        REAL,
    accuracy  REAL,
    samples   INTEGER NOT NULL,
    parts     TEXT NOT NULL CHECK (json_valid(parts)),
    UNIQUE (model_id, key)
) STRICT;

INSERT INTO answers_in_order (model_id, key, request, revision, step, draw, loss, grad_norm, lr,
                              accuracy, samples, parts)
    SELECT model_id, key, request, revision, step, draw, loss, grad_norm, lr, accuracy, samples,
           parts
    FROM answers ORDER BY revision;

DROP TABLE answers;
ALTER TABLE answers_in_order RENAME TO answers;
CREATE INDEX answers_by_number ON answers (model_id, number);
