package event

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Transaction is the body of an appservice transaction, taken apart but not
// checked (Matrix spec, Application Service API, "Pushing events";
// MSC2409, MSC3202 and MSC4203 with their unstable names).
type Transaction struct {
	// Events, Ephemeral and ToDevice are the raw events in the order received.
	Events    []json.RawMessage
	Ephemeral []json.RawMessage
	ToDevice  []json.RawMessage
	// DeviceLists, KeyCounts and FallbackKeys are kept as received for the
	// encryption of rooms, or nil when the server did not send them. An absent
	// count must never be read as zero.
	DeviceLists  json.RawMessage
	KeyCounts    json.RawMessage
	FallbackKeys json.RawMessage
}

// ParseTransaction takes the body of a transaction apart. It fails when the
// body is no JSON object, nests too deeply, has no list of events or too many
// of them. A single bad event does not make it fail.
func ParseTransaction(body []byte) (Transaction, error) {
	// A transaction adds two levels around an event.
	if err := checkDepth(body, 4*MaxDepth); err != nil {
		return Transaction{}, fmt.Errorf("read transaction: %w", err)
	}
	var o Object
	if err := json.Unmarshal(body, &o); err != nil {
		return Transaction{}, fmt.Errorf("read transaction: %w", err)
	}
	if o == nil {
		return Transaction{}, errors.New("read transaction: no JSON object")
	}
	var t Transaction
	var err error
	if t.Events, err = list(o, "events"); err != nil {
		return Transaction{}, err
	}
	if t.Ephemeral, err = list(o, "ephemeral", "de.sorunome.msc2409.ephemeral"); err != nil {
		return Transaction{}, err
	}
	if t.ToDevice, err = list(o, "to_device", "de.sorunome.msc2409.to_device"); err != nil {
		return Transaction{}, err
	}
	t.DeviceLists = first(o, "device_lists", "org.matrix.msc3202.device_lists")
	t.KeyCounts = first(o, "device_one_time_keys_count", "org.matrix.msc3202.device_one_time_keys_count")
	t.FallbackKeys = first(o, "device_unused_fallback_key_types", "org.matrix.msc3202.device_unused_fallback_key_types")
	return t, nil
}

func first(o Object, keys ...string) json.RawMessage {
	for _, k := range keys {
		if o.Has(k) {
			return o[k]
		}
	}
	return nil
}

func list(o Object, keys ...string) ([]json.RawMessage, error) {
	raw := first(o, keys...)
	if raw == nil {
		return nil, nil
	}
	var out []json.RawMessage
	if err := json.Unmarshal(raw, &out); err != nil {
		return nil, fmt.Errorf("read transaction: %s is no list", keys[0])
	}
	if len(out) > MaxTransactionEvents {
		return nil, fmt.Errorf("read transaction: %d %s, more than %d", len(out), keys[0], MaxTransactionEvents)
	}
	return out, nil
}
