-- +goose Up

-- Rows that the other side has and whose outcome it will tell later: when it took them, and the SHA-256 of their bytes, by which
-- it names them.
ALTER TABLE outbound ADD COLUMN taken_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE outbound ADD COLUMN taken_hash BYTEA NOT NULL DEFAULT '';
CREATE INDEX outbound_taken ON outbound (taken_ms) WHERE taken_ms > 0;

-- +goose Down
DROP INDEX outbound_taken;
ALTER TABLE outbound DROP COLUMN taken_hash;
ALTER TABLE outbound DROP COLUMN taken_ms;
