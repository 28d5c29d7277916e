-- +goose Up

-- What each message writes is cleaned by a walk through its table (Cleanup), and lanes know how long they fail (OldLanes).
DROP INDEX answer_age;
DROP INDEX room_log_age;
DROP INDEX outbound_age;
-- Nothing asks for it.
DROP INDEX link_first_event;

-- +goose Down
CREATE INDEX link_first_event ON link (shard, room, first_event) WHERE first_event <> '';
CREATE INDEX outbound_age ON outbound (created_ms);
CREATE INDEX room_log_age ON room_log (accepted_ms);
CREATE INDEX answer_age ON answer (until_ms);
