-- +goose Up

-- What a message was before it was shown, and what its hub said about it: a report to the hub must show it.
CREATE TABLE evidence (
    shard       SMALLINT NOT NULL,
    room        BYTEA    NOT NULL,
    mimi_id     BYTEA    NOT NULL,
    sealed_data BYTEA    NOT NULL,
    created_ms  BIGINT   NOT NULL,
    PRIMARY KEY (shard, room, mimi_id)
);
CREATE INDEX evidence_age ON evidence (created_ms);

-- Reports about users of rooms that we are the hub of.
CREATE TABLE report (
    shard       SMALLINT NOT NULL,
    room        BYTEA    NOT NULL,
    id          TEXT     NOT NULL,
    peer        TEXT     NOT NULL,
    state       TEXT     NOT NULL CHECK (state IN ('open', 'closed')),
    sealed_body BYTEA    NOT NULL,
    created_ms  BIGINT   NOT NULL,
    PRIMARY KEY (shard, room, id)
);
CREATE INDEX report_state ON report (state, created_ms);

-- +goose Down
DROP TABLE report;
DROP TABLE evidence;
