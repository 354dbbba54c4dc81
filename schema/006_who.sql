-- 006_who.sql: who made a model or a version: the name of the key that the request carried, "" when
-- none was needed, or nobody noted it yet. Names of keys may be given again after a key is revoked.

ALTER TABLE models ADD COLUMN who TEXT NOT NULL DEFAULT '';
ALTER TABLE versions ADD COLUMN who TEXT NOT NULL DEFAULT '';
