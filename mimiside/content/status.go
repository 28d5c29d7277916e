package content

import (
	"bytes"
	"errors"
	"fmt"
)

// MessageStatus is what became of a message at the sender of a report (draft-mahy-mimi-message-status-01).
type MessageStatus uint8

// The states of a message, in the words of the draft.
const (
	Unread    MessageStatus = 0
	Delivered MessageStatus = 1
	Read      MessageStatus = 2
	Expired   MessageStatus = 3
	Deleted   MessageStatus = 4
	Hidden    MessageStatus = 5
	// Failed is "error": the reporter knows the id but could not take the message.
	Failed MessageStatus = 6
)

// StatusEntry is the status of one message (PerMessageStatus). Values above Failed have no meaning yet and are kept.
type StatusEntry struct {
	ID     MessageID
	Status MessageStatus
}

// StatusReport is an application/mimi-message-status document (draft-mahy-mimi-message-status-01,
// MessageStatusReport): an array of [messageId, status], at most MaxStatuses of them.
type StatusReport []StatusEntry

// Marshal encodes the report in deterministic CBOR.
func (s StatusReport) Marshal() ([]byte, error) {
	if len(s) > MaxStatuses {
		return nil, overLimit("status report of %d entries", len(s))
	}
	list := make([]any, len(s))
	for i, e := range s {
		if !e.ID.Known() {
			return nil, malformed("status of a message id with hash algorithm %d", e.ID[0])
		}
		list[i] = []any{e.ID[:], uint8(e.Status)}
	}
	return encMode.Marshal(list)
}

// UnmarshalStatus decodes a report. An entry whose id has an unknown hash algorithm fails the whole report
// with ErrDiscard.
func UnmarshalStatus(b []byte) (StatusReport, error) {
	report, err := unmarshalStatus(b)
	if err != nil {
		return nil, fmt.Errorf("decoding a status report: %w", err)
	}
	return report, nil
}

func unmarshalStatus(b []byte) (StatusReport, error) {
	if len(b) > MaxMessage {
		return nil, overLimit("%d octets", len(b))
	}
	if err := checkDeterministic(b, 2); err != nil {
		return nil, err
	}
	list, err := array("status report", b, -1)
	if err != nil {
		return nil, err
	}
	report := make(StatusReport, len(list))
	for i, raw := range list {
		pair, err := array("status", raw, 2)
		if err != nil {
			return nil, err
		}
		var id []byte
		if err := errors.Join(
			scalar("messageId", pair[0], majorBytes, &id),
			scalar("status", pair[1], majorUint, (*uint8)(&report[i].Status))); err != nil {
			return nil, err
		}
		if report[i].ID, err = ParseMessageID(id); err != nil {
			return nil, err
		}
	}
	again, err := report.Marshal()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, fmt.Errorf("%w: encodes to other octets", ErrNotDeterministic)
	}
	return report, nil
}

// StatusIn returns the report that a message carries in a single part, and whether it carries one.
func StatusIn(m *Message) (report StatusReport, ok bool, err error) {
	if m.Purpose() != Status {
		return nil, false, nil
	}
	report, err = UnmarshalStatus(m.Body.Body.(SinglePart).Content)
	return report, true, err
}
