-- Everything that belongs to one room. Rules for these tables:
--   * the first two columns are (shard, room) and every key contains both,
--   * no foreign key, join or unique key reaches outside the pair,
--   * times are milliseconds since 1970-01-01 UTC, ids are 16 bytes,
--   * a column named "sealed…" holds ciphertext only.

-- +goose Up

-- The head of a room: small, hot, compared and set by every step.
CREATE TABLE room (
    shard            SMALLINT NOT NULL CHECK (shard >= 0 AND shard < 1024),
    room             BYTEA    NOT NULL CHECK (length(room) = 16),
    version          BIGINT   NOT NULL DEFAULT 0,
    step_token       BIGINT   NOT NULL DEFAULT 0,
    kind             TEXT     NOT NULL CHECK (kind IN ('none', 'hub', 'follower', 'user')),
    state            TEXT     NOT NULL DEFAULT '',
    uri              TEXT     NOT NULL DEFAULT '',
    matrix_room_id   TEXT     NOT NULL DEFAULT '',
    hub              TEXT     NOT NULL DEFAULT '',
    group_id         BYTEA    NOT NULL DEFAULT '',
    grp              BIGINT   NOT NULL DEFAULT 0,
    epoch            BIGINT   NOT NULL DEFAULT -1,
    refresh          SMALLINT NOT NULL DEFAULT 0 CHECK (refresh IN (0, 1)),
    next_seq         BIGINT   NOT NULL DEFAULT 1,
    next_in          BIGINT   NOT NULL DEFAULT 1,
    due_ms           BIGINT   NOT NULL,
    epoch_ms         BIGINT   NOT NULL DEFAULT 0,
    last_accepted_ms BIGINT   NOT NULL DEFAULT 0,
    created_ms       BIGINT   NOT NULL,
    PRIMARY KEY (shard, room),
    UNIQUE (shard, room, epoch)
);
CREATE INDEX room_due ON room (due_ms);

-- One row for each epoch of which a secret is still held.
CREATE TABLE epoch (
    shard      SMALLINT NOT NULL,
    room       BYTEA    NOT NULL,
    epoch      BIGINT   NOT NULL,
    created_ms BIGINT   NOT NULL,
    PRIMARY KEY (shard, room, epoch),
    FOREIGN KEY (shard, room) REFERENCES room (shard, room) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED
);

-- The MLS state of a room in pieces. A piece that belongs to an epoch names it, so that a ratchet
-- cannot stand without its epoch and goes when the epoch goes.
CREATE TABLE piece (
    shard       SMALLINT NOT NULL,
    room        BYTEA    NOT NULL,
    kind        TEXT     NOT NULL,
    a           BIGINT   NOT NULL,
    b           BIGINT   NOT NULL,
    c           BIGINT   NOT NULL,
    epoch       BIGINT,
    sealed_data BYTEA    NOT NULL,
    PRIMARY KEY (shard, room, kind, a, b, c),
    FOREIGN KEY (shard, room, epoch) REFERENCES epoch (shard, room, epoch) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    FOREIGN KEY (shard, room) REFERENCES room (shard, room) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX piece_epoch ON piece (shard, room, epoch);

-- At most one staged commit of our own a room, and only on the room's current epoch.
CREATE TABLE pending_commit (
    shard         SMALLINT NOT NULL,
    room          BYTEA    NOT NULL,
    base_epoch    BIGINT   NOT NULL,
    kind          TEXT     NOT NULL DEFAULT '',
    commit_hash   BYTEA    NOT NULL,
    transcript    BYTEA    NOT NULL DEFAULT '',
    outbound_seq  BIGINT   NOT NULL DEFAULT 0,
    intents       TEXT     NOT NULL DEFAULT '[]',
    sealed_staged BYTEA    NOT NULL,
    created_ms    BIGINT   NOT NULL,
    PRIMARY KEY (shard, room),
    FOREIGN KEY (shard, room, base_epoch) REFERENCES room (shard, room, epoch) DEFERRABLE INITIALLY DEFERRED
);

-- What a hub accepted, in its order. Two commits on one epoch of one group cannot both stand.
CREATE TABLE room_log (
    shard       SMALLINT NOT NULL,
    room        BYTEA    NOT NULL,
    seq         BIGINT   NOT NULL,
    kind        TEXT     NOT NULL,
    grp         BIGINT   NOT NULL,
    epoch       BIGINT   NOT NULL,
    hash        BYTEA    NOT NULL,
    sender      TEXT     NOT NULL,
    accepted_ms BIGINT   NOT NULL,
    PRIMARY KEY (shard, room, seq)
);
CREATE UNIQUE INDEX room_log_commit ON room_log (shard, room, grp, epoch) WHERE kind = 'commit';
CREATE INDEX room_log_age ON room_log (accepted_ms);

-- Every position of a sending ratchet that was ever used: a nonce cannot be used twice.
CREATE TABLE outbound_mls (
    shard      SMALLINT NOT NULL,
    room       BYTEA    NOT NULL,
    grp        BIGINT   NOT NULL,
    epoch      BIGINT   NOT NULL,
    leaf       BIGINT   NOT NULL,
    kind       SMALLINT NOT NULL,
    generation BIGINT   NOT NULL,
    hash       BYTEA    NOT NULL,
    PRIMARY KEY (shard, room, grp, epoch, leaf, kind, generation)
);

-- Everything that arrived and is not dealt with.
CREATE TABLE input (
    shard         SMALLINT NOT NULL,
    room          BYTEA    NOT NULL,
    seq           BIGINT   NOT NULL,
    kind          TEXT     NOT NULL,
    source        TEXT     NOT NULL DEFAULT '',
    peer          TEXT     NOT NULL DEFAULT '',
    state         TEXT     NOT NULL CHECK (state IN ('ready', 'waiting', 'broken')),
    reason        TEXT     NOT NULL DEFAULT '',
    epoch         BIGINT   NOT NULL DEFAULT -1,
    tries         BIGINT   NOT NULL DEFAULT 0,
    not_before_ms BIGINT   NOT NULL DEFAULT 0,
    size          BIGINT   NOT NULL,
    sealed_body   BYTEA    NOT NULL,
    created_ms    BIGINT   NOT NULL,
    PRIMARY KEY (shard, room, seq)
);
CREATE INDEX input_age ON input (state, created_ms);

-- What was seen, kept longer than the rows it made: event ids, notify bodies, messages.
CREATE TABLE seen (
    shard      SMALLINT NOT NULL,
    room       BYTEA    NOT NULL,
    kind       TEXT     NOT NULL,
    key        TEXT     NOT NULL,
    created_ms BIGINT   NOT NULL,
    PRIMARY KEY (shard, room, kind, key)
);
CREATE INDEX seen_age ON seen (created_ms);

-- The order of one destination of one room, and who sends it now.
CREATE TABLE lane (
    shard            SMALLINT NOT NULL,
    room             BYTEA    NOT NULL,
    dest             TEXT     NOT NULL,
    owner            TEXT     NOT NULL DEFAULT '',
    token            BIGINT   NOT NULL DEFAULT 0,
    until_ms         BIGINT   NOT NULL DEFAULT 0,
    unclean          SMALLINT NOT NULL DEFAULT 0,
    work             BIGINT   NOT NULL DEFAULT 0,
    due_ms           BIGINT   NOT NULL,
    failures         BIGINT   NOT NULL DEFAULT 0,
    failing_since_ms BIGINT   NOT NULL DEFAULT 0,
    last_error       TEXT     NOT NULL DEFAULT '',
    PRIMARY KEY (shard, room, dest)
);
CREATE INDEX lane_due ON lane (due_ms);
CREATE INDEX lane_failing ON lane (dest) WHERE failures > 0;
CREATE INDEX lane_owner ON lane (owner) WHERE owner <> '';

-- Bytes that several outgoing rows share.
CREATE TABLE body (
    shard       SMALLINT NOT NULL,
    room        BYTEA    NOT NULL,
    seq         BIGINT   NOT NULL,
    sealed_data BYTEA    NOT NULL,
    created_ms  BIGINT   NOT NULL,
    PRIMARY KEY (shard, room, seq)
);
CREATE INDEX body_age ON body (created_ms);

-- What is to be sent, exactly, in the order of its lane. A row goes when its fate is known.
CREATE TABLE outbound (
    shard       SMALLINT NOT NULL,
    room        BYTEA    NOT NULL,
    dest        TEXT     NOT NULL,
    seq         BIGINT   NOT NULL,
    state       TEXT     NOT NULL CHECK (state IN ('ready', 'held')),
    verb        TEXT     NOT NULL,
    target      TEXT     NOT NULL DEFAULT '',
    txn_key     TEXT     NOT NULL DEFAULT '',
    body        BIGINT,
    batch       BIGINT   NOT NULL DEFAULT 0,
    sealed_data BYTEA    NOT NULL,
    answer_to   TEXT     NOT NULL CHECK (answer_to IN ('none', 'link', 'input')),
    answer_seq  BIGINT   NOT NULL DEFAULT 0,
    answer_ref  TEXT     NOT NULL DEFAULT '',
    attempts    BIGINT   NOT NULL DEFAULT 0,
    tried_ms    BIGINT   NOT NULL DEFAULT 0,
    created_ms  BIGINT   NOT NULL,
    PRIMARY KEY (shard, room, dest, seq),
    FOREIGN KEY (shard, room, body) REFERENCES body (shard, room, seq) DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX outbound_body ON outbound (shard, room, body) WHERE body IS NOT NULL;
CREATE INDEX outbound_age ON outbound (created_ms);

-- What could not be delivered in its time or was too broken to try again.
CREATE TABLE dead_letter (
    shard       SMALLINT NOT NULL,
    room        BYTEA    NOT NULL,
    dest        TEXT     NOT NULL,
    seq         BIGINT   NOT NULL,
    verb        TEXT     NOT NULL,
    target      TEXT     NOT NULL,
    txn_key     TEXT     NOT NULL,
    reason      TEXT     NOT NULL,
    attempts    BIGINT   NOT NULL,
    sealed_data BYTEA    NOT NULL,
    created_ms  BIGINT   NOT NULL,
    dead_ms     BIGINT   NOT NULL,
    PRIMARY KEY (shard, room, dest, seq)
);
CREATE INDEX dead_letter_age ON dead_letter (dead_ms);

-- One Matrix event and one part of one MIMI message that are the same thing.
CREATE TABLE link (
    shard       SMALLINT NOT NULL,
    room        BYTEA    NOT NULL,
    seq         BIGINT   NOT NULL,
    event_id    TEXT,
    mimi_id     BYTEA,
    part        BIGINT   NOT NULL DEFAULT 0,
    first_event TEXT     NOT NULL DEFAULT '',
    first_id    BYTEA    NOT NULL DEFAULT '',
    direction   TEXT     NOT NULL CHECK (direction IN ('in', 'out')),
    kind        TEXT     NOT NULL,
    state       TEXT     NOT NULL DEFAULT '',
    sender      TEXT     NOT NULL DEFAULT '',
    sender_mxid TEXT     NOT NULL DEFAULT '',
    target      TEXT     NOT NULL DEFAULT '',
    topic       TEXT     NOT NULL DEFAULT '',
    frank       BYTEA    NOT NULL DEFAULT '',
    data        TEXT     NOT NULL DEFAULT '',
    accepted_ms BIGINT   NOT NULL DEFAULT 0,
    created_ms  BIGINT   NOT NULL,
    PRIMARY KEY (shard, room, seq),
    UNIQUE (shard, room, event_id),
    UNIQUE (shard, room, mimi_id, part)
);
CREATE INDEX link_first ON link (shard, room, first_id) WHERE length(first_id) > 0;
CREATE INDEX link_first_event ON link (shard, room, first_event) WHERE first_event <> '';

-- Who is in the room, on both sides. Each member has a Matrix id; the URI may be empty.
CREATE TABLE member (
    shard      SMALLINT NOT NULL,
    room       BYTEA    NOT NULL,
    mxid       TEXT     NOT NULL,
    uri        TEXT,
    ghost      SMALLINT NOT NULL CHECK (ghost IN (0, 1)),
    membership TEXT     NOT NULL,
    listed     SMALLINT NOT NULL DEFAULT 0 CHECK (listed IN (0, 1)),
    role       BIGINT   NOT NULL DEFAULT 0,
    power      BIGINT   NOT NULL DEFAULT 0,
    leaf       BIGINT   NOT NULL DEFAULT -1,
    display    TEXT     NOT NULL DEFAULT '',
    data       TEXT     NOT NULL DEFAULT '',
    updated_ms BIGINT   NOT NULL,
    PRIMARY KEY (shard, room, mxid),
    UNIQUE (shard, room, uri)
);
CREATE INDEX member_mxid ON member (mxid);

-- Small things to remember of a room, by name.
CREATE TABLE room_state (
    shard      SMALLINT NOT NULL,
    room       BYTEA    NOT NULL,
    key        TEXT     NOT NULL,
    value      TEXT     NOT NULL,
    updated_ms BIGINT   NOT NULL,
    PRIMARY KEY (shard, room, key)
);

-- The answer that a request got, so that the same request gets the same answer.
CREATE TABLE answer (
    shard       SMALLINT NOT NULL,
    room        BYTEA    NOT NULL,
    hash        BYTEA    NOT NULL CHECK (length(hash) = 32),
    peer        TEXT     NOT NULL,
    verb        TEXT     NOT NULL,
    status      BIGINT   NOT NULL,
    sealed_body BYTEA    NOT NULL,
    until_ms    BIGINT   NOT NULL,
    PRIMARY KEY (shard, room, hash)
);
CREATE INDEX answer_age ON answer (until_ms);

-- A wish to change the group. It outlives commits that lose.
CREATE TABLE intent (
    shard      SMALLINT NOT NULL,
    room       BYTEA    NOT NULL,
    seq        BIGINT   NOT NULL,
    kind       TEXT     NOT NULL,
    actor      TEXT     NOT NULL DEFAULT '',
    target     TEXT     NOT NULL DEFAULT '',
    dedupe     TEXT,
    state      TEXT     NOT NULL CHECK (state IN ('open', 'asking', 'staged', 'stuck')),
    tries      BIGINT   NOT NULL DEFAULT 0,
    reason     TEXT     NOT NULL DEFAULT '',
    data       TEXT     NOT NULL DEFAULT '',
    created_ms BIGINT   NOT NULL,
    PRIMARY KEY (shard, room, seq),
    UNIQUE (shard, room, dedupe)
);
CREATE INDEX intent_age ON intent (state, created_ms);

-- Files that went through a room.
CREATE TABLE asset (
    shard        SMALLINT NOT NULL,
    room         BYTEA    NOT NULL,
    id           TEXT     NOT NULL,
    direction    TEXT     NOT NULL CHECK (direction IN ('in', 'out')),
    state        TEXT     NOT NULL,
    mxc          TEXT     NOT NULL DEFAULT '',
    url          TEXT     NOT NULL DEFAULT '',
    path         TEXT     NOT NULL DEFAULT '',
    content_type TEXT     NOT NULL DEFAULT '',
    filename     TEXT     NOT NULL DEFAULT '',
    size         BIGINT   NOT NULL DEFAULT 0,
    hash         BYTEA    NOT NULL DEFAULT '',
    sealed_key   BYTEA    NOT NULL,
    link_seq     BIGINT   NOT NULL DEFAULT 0,
    data         TEXT     NOT NULL DEFAULT '',
    expires_ms   BIGINT   NOT NULL DEFAULT 0,
    created_ms   BIGINT   NOT NULL,
    PRIMARY KEY (shard, room, id)
);
CREATE INDEX asset_id ON asset (id);
CREATE INDEX asset_age ON asset (expires_ms);

-- +goose Down
DROP TABLE asset;
DROP TABLE intent;
DROP TABLE answer;
DROP TABLE room_state;
DROP TABLE member;
DROP TABLE link;
DROP TABLE dead_letter;
DROP TABLE outbound;
DROP TABLE body;
DROP TABLE lane;
DROP TABLE seen;
DROP TABLE input;
DROP TABLE outbound_mls;
DROP TABLE room_log;
DROP TABLE pending_commit;
DROP TABLE piece;
DROP TABLE epoch;
DROP TABLE room;
