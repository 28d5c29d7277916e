package intake

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/matrixside/event"
)

// Source says which way something came.
type Source string

// The two sources.
const (
	Appservice Source = "appservice"
	Sync       Source = "sync"
)

// Transaction is what came in one piece and is stored in one piece.
type Transaction struct {
	Source Source
	// ID is the transaction id of the homeserver; for a sync it is the position
	// the answer began at.
	ID string
	// Hash is the SHA-256 of the body. A known ID with another hash is something
	// new: a homeserver that was set up again counts from 1.
	Hash [32]byte
	// Events are checked and in the order received; no event id comes twice.
	// The sink leaves out those it has seen before, from either source.
	Events []event.Event
	// Ephemeral and ToDevice are checked. ToDevice must not be stored twice
	// either: the sink's knowledge of ID and Hash, and for a sync of Next, sees to it.
	Ephemeral []event.Ephemeral
	ToDevice  []event.ToDevice
	// DeviceLists, KeyCounts and FallbackKeys are for the encryption of rooms;
	// nil when the homeserver did not send them.
	DeviceLists  json.RawMessage
	KeyCounts    json.RawMessage
	FallbackKeys json.RawMessage
	// Next is the position after a sync, to be stored together with the events;
	// "" for the appservice.
	Next string
	// Refused are the events that failed a check.
	Refused []Refusal
}

// Refusal is an event that was not taken.
type Refusal struct {
	// ID is the identifier as received, at most 255 octets, possibly "".
	ID string
	// Err is the reason.
	Err error
}

// Sink stores transactions. Store must have committed when it returns nil.
type Sink interface {
	// Store keeps all of a transaction or nothing. dup says that it was known
	// before (same source, id and hash) and nothing was done.
	Store(ctx context.Context, t *Transaction) (dup bool, err error)
}

// collect checks a transaction that was taken apart.
func collect(source Source, txnID string, body []byte, raw event.Transaction) *Transaction {
	t := &Transaction{
		Source: source, ID: txnID, Hash: sha256.Sum256(body),
		DeviceLists: raw.DeviceLists, KeyCounts: raw.KeyCounts, FallbackKeys: raw.FallbackKeys,
	}
	seen := map[id.EventID]bool{}
	for _, r := range raw.Events {
		t.addEvent(r, "", seen)
	}
	for _, r := range raw.Ephemeral {
		t.addEphemeral(r, "")
	}
	for _, r := range raw.ToDevice {
		rec, err := event.Parse(r)
		if err != nil {
			t.refuse("", err)
			continue
		}
		d, err := rec.ToDevice()
		if err != nil {
			t.refuse("", err)
			continue
		}
		t.ToDevice = append(t.ToDevice, d)
	}
	return t
}

// parse reads an event. room is that of a sync answer, where events do not name it; "" when they do.
func (t *Transaction) parse(raw json.RawMessage, room id.RoomID) (r event.Received, ok bool) {
	r, err := event.Parse(raw)
	if err != nil {
		t.refuse("", err)
		return r, false
	}
	if room != "" {
		r.Room = string(room)
	}
	return r, true
}

func (t *Transaction) addEvent(raw json.RawMessage, room id.RoomID, seen map[id.EventID]bool) {
	r, ok := t.parse(raw, room)
	if !ok {
		return
	}
	e, err := r.Check()
	if err != nil {
		t.refuse(r.ID, err)
		return
	}
	if !seen[e.ID] {
		seen[e.ID] = true
		t.Events = append(t.Events, e)
	}
}

func (t *Transaction) addEphemeral(raw json.RawMessage, room id.RoomID) {
	r, ok := t.parse(raw, room)
	if !ok {
		return
	}
	e, err := r.Ephemeral()
	if errors.Is(err, event.ErrUnused) {
		return
	}
	if err != nil {
		t.refuse("", err)
		return
	}
	t.Ephemeral = append(t.Ephemeral, e)
}

func (t *Transaction) refuse(eventID string, err error) {
	t.Refused = append(t.Refused, Refusal{ID: eventID[:min(len(eventID), event.MaxIdentifier)], Err: err})
}

// Empty reports whether there is nothing in the transaction to be stored but a
// position.
func (t *Transaction) Empty() bool {
	return len(t.Events)+len(t.Ephemeral)+len(t.ToDevice) == 0 && t.DeviceLists == nil && t.KeyCounts == nil && t.FallbackKeys == nil
}
