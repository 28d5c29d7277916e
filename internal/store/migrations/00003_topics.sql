-- +goose Up

-- Threads: the first and the latest message of a topic.
CREATE INDEX link_topic ON link (shard, room, topic, seq) WHERE topic <> '';

-- +goose Down
DROP INDEX link_topic;
