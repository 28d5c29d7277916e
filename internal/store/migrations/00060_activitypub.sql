-- +goose Up

-- Activities that our actors sent, or received with MLS in them. key is the beginning of the SHA-256 of the id.
CREATE TABLE ap_activity (
    key         BYTEA  NOT NULL PRIMARY KEY CHECK (length(key) = 16),
    object      BYTEA  NOT NULL DEFAULT '',
    sealed_data BYTEA  NOT NULL,
    created_ms  BIGINT NOT NULL
);
CREATE INDEX ap_activity_object ON ap_activity (object) WHERE length(object) > 0;
CREATE INDEX ap_activity_age ON ap_activity (created_ms);

-- Which activity is in which collection, and who may see it there: one row a reader. owner and reader are hashed as key is.
CREATE TABLE ap_listing (
    box        TEXT   NOT NULL,
    owner      BYTEA  NOT NULL,
    reader     BYTEA  NOT NULL,
    created_ms BIGINT NOT NULL,
    key        BYTEA  NOT NULL REFERENCES ap_activity (key) ON DELETE CASCADE,
    PRIMARY KEY (box, owner, reader, created_ms, key)
);
CREATE INDEX ap_listing_key ON ap_listing (key, reader);

-- The signature keys of clients of other servers' actors: every one that was ever seen. fingerprint is the SHA-256 of the key.
CREATE TABLE ap_key (
    actor       TEXT     NOT NULL,
    fingerprint BYTEA    NOT NULL CHECK (length(fingerprint) = 32),
    client      TEXT     NOT NULL DEFAULT '',
    offered     SMALLINT NOT NULL CHECK (offered IN (0, 1)),
    first_ms    BIGINT   NOT NULL,
    seen_ms     BIGINT   NOT NULL,
    PRIMARY KEY (actor, fingerprint)
);

-- Who of ours compared a key and found it right.
CREATE TABLE ap_key_mark (
    mxid        TEXT   NOT NULL,
    actor       TEXT   NOT NULL,
    fingerprint BYTEA  NOT NULL,
    at_ms       BIGINT NOT NULL,
    PRIMARY KEY (mxid, actor, fingerprint)
);

-- KeyPackages of others that must not be used (again): the hash of their id or of their octets.
CREATE TABLE ap_spent (
    actor      TEXT   NOT NULL,
    name       BYTEA  NOT NULL CHECK (length(name) = 16),
    created_ms BIGINT NOT NULL,
    PRIMARY KEY (actor, name)
);
CREATE INDEX ap_spent_age ON ap_spent (created_ms);

-- +goose Down
DROP TABLE ap_spent;
DROP TABLE ap_key_mark;
DROP TABLE ap_key;
DROP TABLE ap_listing;
DROP TABLE ap_activity;
