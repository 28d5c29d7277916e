-- +goose Up

-- A link of a message from MIMI has no event until the homeserver names it: such links have no place in the index.
CREATE UNIQUE INDEX link_event ON link (shard, room, event_id) WHERE event_id IS NOT NULL;

-- +goose Down
DROP INDEX link_event;
