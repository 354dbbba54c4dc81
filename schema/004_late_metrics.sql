-- 004_late_metrics.sql: rows of metrics that came after later ones. An evaluation's rows carry the
-- revision that was evaluated, which clients that follow the metrics may have passed long ago. Such
-- rows are numbered in the order in which they came, so that a cursor can say which it has seen.

CREATE TABLE late_metrics (
    model_id  INTEGER NOT NULL,
    number    INTEGER NOT NULL CHECK (number > 0),
    series_id INTEGER NOT NULL,
    revision  INTEGER NOT NULL,
    PRIMARY KEY (model_id, number),
    UNIQUE (model_id, series_id, revision),
    FOREIGN KEY (model_id, series_id, revision)
        REFERENCES metrics (model_id, series_id, revision) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
