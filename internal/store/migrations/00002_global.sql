-- Small tables that belong to no room. Nothing here is written by an ordinary message.

-- +goose Up

-- Which room a name means. kind: matrix (room id), mimi (room URI), group (hex of the MLS group id).
CREATE TABLE room_name (
    kind  TEXT     NOT NULL,
    name  TEXT     NOT NULL,
    shard SMALLINT NOT NULL,
    room  BYTEA    NOT NULL CHECK (length(room) = 16),
    PRIMARY KEY (kind, name)
);
CREATE INDEX room_name_room ON room_name (shard, room);

-- Who works on a shard.
CREATE TABLE shard_lease (
    shard    SMALLINT NOT NULL PRIMARY KEY CHECK (shard >= 0 AND shard < 1024),
    owner    TEXT     NOT NULL,
    token    BIGINT   NOT NULL,
    until_ms BIGINT   NOT NULL
);
CREATE INDEX shard_lease_owner ON shard_lease (owner);

-- The processes that are alive, so that shards can be shared out evenly.
CREATE TABLE process (
    owner    TEXT   NOT NULL PRIMARY KEY,
    until_ms BIGINT NOT NULL
);

-- Transactions of the homeserver. The body's hash is part of the key: an id that comes again with
-- another body is new.
CREATE TABLE transaction_seen (
    homeserver  TEXT   NOT NULL,
    txn_id      TEXT   NOT NULL,
    body_sha256 BYTEA  NOT NULL CHECK (length(body_sha256) = 32),
    created_ms  BIGINT NOT NULL,
    PRIMARY KEY (homeserver, txn_id, body_sha256)
);
CREATE INDEX transaction_seen_age ON transaction_seen (created_ms);

-- Matrix users that are MIMI users here.
CREATE TABLE bridge_user (
    mxid       TEXT   NOT NULL PRIMARY KEY,
    uri        TEXT   NOT NULL UNIQUE,
    client_uri TEXT   NOT NULL UNIQUE,
    suite      BIGINT NOT NULL,
    public_key BYTEA  NOT NULL,
    sealed_key BYTEA  NOT NULL,
    state      TEXT   NOT NULL,
    data       TEXT   NOT NULL DEFAULT '',
    created_ms BIGINT NOT NULL
);

-- MIMI users that are Matrix users here.
CREATE TABLE ghost (
    mxid       TEXT     NOT NULL PRIMARY KEY,
    uri        TEXT     NOT NULL,
    display    TEXT     NOT NULL DEFAULT '',
    avatar     TEXT     NOT NULL DEFAULT '',
    registered SMALLINT NOT NULL DEFAULT 0 CHECK (registered IN (0, 1)),
    data       TEXT     NOT NULL DEFAULT '',
    updated_ms BIGINT   NOT NULL
);
CREATE INDEX ghost_uri ON ghost (uri);

-- KeyPackages of bridged users. A claimed one is never handed out again.
CREATE TABLE keypackage (
    ref            BYTEA    NOT NULL PRIMARY KEY,
    user_uri       TEXT     NOT NULL,
    client_uri     TEXT     NOT NULL,
    suite          BIGINT   NOT NULL,
    state          TEXT     NOT NULL CHECK (state IN ('ready', 'claimed', 'used', 'revoked')),
    last_resort    SMALLINT NOT NULL DEFAULT 0 CHECK (last_resort IN (0, 1)),
    public         BYTEA    NOT NULL,
    sealed_private BYTEA    NOT NULL,
    claimed_by     TEXT     NOT NULL DEFAULT '',
    claimed_room   TEXT     NOT NULL DEFAULT '',
    claimed_ms     BIGINT   NOT NULL DEFAULT 0,
    not_after_ms   BIGINT   NOT NULL,
    created_ms     BIGINT   NOT NULL
);
CREATE INDEX keypackage_pool ON keypackage (user_uri, state, last_resort, created_ms);
CREATE INDEX keypackage_client ON keypackage (client_uri);
CREATE INDEX keypackage_age ON keypackage (state, not_after_ms);

-- Where the Welcome for a KeyPackage must go (as hub).
CREATE TABLE keypackage_route (
    ref      BYTEA  NOT NULL PRIMARY KEY,
    provider TEXT   NOT NULL,
    client   TEXT   NOT NULL DEFAULT '',
    until_ms BIGINT NOT NULL
);
CREATE INDEX keypackage_route_age ON keypackage_route (until_ms);

-- Other providers: their directory and how they do.
CREATE TABLE peer (
    domain           TEXT     NOT NULL PRIMARY KEY,
    directory        TEXT     NOT NULL DEFAULT '',
    directory_ms     BIGINT   NOT NULL DEFAULT 0,
    blocked          SMALLINT NOT NULL DEFAULT 0 CHECK (blocked IN (0, 1)),
    failures         BIGINT   NOT NULL DEFAULT 0,
    failing_since_ms BIGINT   NOT NULL DEFAULT 0,
    last_contact_ms  BIGINT   NOT NULL DEFAULT 0,
    last_error       TEXT     NOT NULL DEFAULT '',
    data             TEXT     NOT NULL DEFAULT ''
);

-- Who may reach whom. Directions are seen from here; room is '' for every room.
CREATE TABLE consent (
    direction  TEXT   NOT NULL CHECK (direction IN ('in', 'out')),
    owner      TEXT   NOT NULL,
    requester  TEXT   NOT NULL,
    room       TEXT   NOT NULL DEFAULT '',
    state      TEXT   NOT NULL CHECK (state IN ('requested', 'granted', 'revoked', 'cancelled')),
    data       TEXT   NOT NULL DEFAULT '',
    expires_ms BIGINT NOT NULL DEFAULT 0,
    updated_ms BIGINT NOT NULL,
    PRIMARY KEY (direction, owner, requester, room)
);
CREATE INDEX consent_requester ON consent (requester);

-- Settings: scope is '' for the bridge or a Matrix user id.
CREATE TABLE setting (
    scope TEXT NOT NULL,
    key   TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (scope, key)
);

-- The room in which the bot talks with a user.
CREATE TABLE management_room (
    mxid    TEXT NOT NULL PRIMARY KEY,
    room_id TEXT NOT NULL UNIQUE
);

-- The one direct room of a pair.
CREATE TABLE direct_room (
    hub   TEXT     NOT NULL,
    one   TEXT     NOT NULL,
    other TEXT     NOT NULL,
    shard SMALLINT NOT NULL,
    room  BYTEA    NOT NULL CHECK (length(room) = 16),
    PRIMARY KEY (hub, one, other)
);

-- Secrets with a name: tokens, device keys, certificate keys.
CREATE TABLE secret (
    name       TEXT   NOT NULL PRIMARY KEY,
    sealed     BYTEA  NOT NULL,
    updated_ms BIGINT NOT NULL
);

-- Data keys, wrapped by the key file.
CREATE TABLE data_key (
    id         BIGINT NOT NULL PRIMARY KEY,
    state      TEXT   NOT NULL CHECK (state IN ('active', 'old')),
    wrapped    BYTEA  NOT NULL,
    created_ms BIGINT NOT NULL,
    retired_ms BIGINT NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX data_key_active ON data_key (state) WHERE state = 'active';

-- Counted limits in fixed windows.
CREATE TABLE allowance (
    name      TEXT   NOT NULL,
    key       TEXT   NOT NULL,
    window_ms BIGINT NOT NULL,
    used      BIGINT NOT NULL,
    until_ms  BIGINT NOT NULL,
    PRIMARY KEY (name, key, window_ms)
);
CREATE INDEX allowance_age ON allowance (until_ms);

-- What operators and administrators did.
CREATE TABLE audit (
    id      BYTEA  NOT NULL PRIMARY KEY,
    at_ms   BIGINT NOT NULL,
    actor   TEXT   NOT NULL,
    action  TEXT   NOT NULL,
    subject TEXT   NOT NULL,
    detail  TEXT   NOT NULL DEFAULT ''
);
CREATE INDEX audit_age ON audit (at_ms);

-- What this database was when it was last used: see restore.go.
CREATE TABLE instance (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

-- +goose Down
DROP TABLE instance;
DROP TABLE audit;
DROP TABLE allowance;
DROP TABLE data_key;
DROP TABLE secret;
DROP TABLE direct_room;
DROP TABLE management_room;
DROP TABLE setting;
DROP TABLE consent;
DROP TABLE peer;
DROP TABLE keypackage_route;
DROP TABLE keypackage;
DROP TABLE ghost;
DROP TABLE bridge_user;
DROP TABLE transaction_seen;
DROP TABLE process;
DROP TABLE shard_lease;
DROP TABLE room_name;
