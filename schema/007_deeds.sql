-- 007_deeds.sql: requests with an Idempotency-Key that made or deleted a model. They are not rows of
-- the model: a retry may come when it is gone, and must not make it again. A few are kept, the
-- newest by number.

CREATE TABLE deeds (
    number   INTEGER PRIMARY KEY,
    key      TEXT NOT NULL UNIQUE CHECK (length(key) BETWEEN 1 AND 500), -- with the path's model
    request  INTEGER NOT NULL,          -- hash of the request
    status   INTEGER NOT NULL,          -- of its answer
    model_id INTEGER NOT NULL           -- of the model that was made, found or deleted
) STRICT;
