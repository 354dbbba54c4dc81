-- 005_signals.sql: what training steps said of each layer, at the interval that the model asks for
-- (its description's `signals`).

-- A layer's name is stored once; `place` is its place in the network.
CREATE TABLE signal_layers (
    model_id INTEGER NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    place    INTEGER NOT NULL CHECK (place >= 0),
    name     TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
    PRIMARY KEY (model_id, place)
) STRICT, WITHOUT ROWID;

CREATE TABLE signal_steps (
    model_id INTEGER NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    revision INTEGER NOT NULL CHECK (revision >= 0),
    step     INTEGER NOT NULL CHECK (step >= 0),
    time_ms  INTEGER NOT NULL,
    PRIMARY KEY (model_id, revision)
) STRICT, WITHOUT ROWID;

-- null: does not apply to the layer, was not seen, or was not finite.
CREATE TABLE signals (
    model_id        INTEGER NOT NULL,
    revision        INTEGER NOT NULL,
    place           INTEGER NOT NULL,
    gradient_norm   REAL,
    weight_norm     REAL,
    update_ratio    REAL,
    activation_mean REAL,
    activation_std  REAL,
    dead_share      REAL,
    saturated_share REAL,
    unit_numbers    INTEGER NOT NULL,  -- that dead_share has seen of each unit
    PRIMARY KEY (model_id, revision, place),
    FOREIGN KEY (model_id, revision) REFERENCES signal_steps (model_id, revision) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- Histograms of the parameters and their gradients at the newest of these steps, as JSON:
-- {"min":,"max":,"counts":[...]}.
CREATE TABLE signal_histograms (
    model_id  INTEGER NOT NULL,
    revision  INTEGER NOT NULL,
    place     INTEGER NOT NULL,        -- of the parameter in the network
    name      TEXT NOT NULL,
    weights   TEXT NOT NULL CHECK (json_valid(weights)),
    gradients TEXT CHECK (gradients IS NULL OR json_valid(gradients)),  -- null: frozen
    PRIMARY KEY (model_id, revision, place),
    FOREIGN KEY (model_id, revision) REFERENCES signal_steps (model_id, revision) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
