-- +goose Up

-- Introduction codes of users: who presents one needs not be asked about. The code itself is not kept.
CREATE TABLE introduction (
    mxid       TEXT     NOT NULL,
    id         TEXT     NOT NULL,
    hash       BYTEA    NOT NULL CHECK (length(hash) = 32),
    many       SMALLINT NOT NULL CHECK (many IN (0, 1)),
    uses       BIGINT   NOT NULL DEFAULT 0,
    last_user  TEXT     NOT NULL DEFAULT '',
    until_ms   BIGINT   NOT NULL,
    created_ms BIGINT   NOT NULL,
    PRIMARY KEY (mxid, id),
    UNIQUE (mxid, hash)
);
CREATE INDEX introduction_age ON introduction (until_ms);

-- +goose Down
DROP TABLE introduction;
