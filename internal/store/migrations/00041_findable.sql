-- +goose Up

-- What users want to be found by beside their address. folded is the form that is compared.
CREATE TABLE findable (
    mxid       TEXT   NOT NULL,
    field      TEXT   NOT NULL,
    value      TEXT   NOT NULL,
    folded     TEXT   NOT NULL,
    created_ms BIGINT NOT NULL,
    PRIMARY KEY (mxid, field)
);
CREATE INDEX findable_value ON findable (field, folded, mxid);

-- Who has a setting. Without its value, which may be too long for an index.
CREATE INDEX setting_key ON setting (key, scope);

-- +goose Down
DROP INDEX setting_key;
DROP TABLE findable;
