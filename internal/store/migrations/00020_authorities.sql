-- +goose Up

-- What a provider published last of the authorities that certify its users: a JSON list of certificates (DER, base64), '' when it
-- was never asked.
ALTER TABLE peer ADD COLUMN authorities TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE peer DROP COLUMN authorities;
