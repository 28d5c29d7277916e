package mapping

import (
	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/content"
)

// MaxStatuses is the largest number of messages in one report of ours.
const MaxStatuses = 50

// ReadUpTo finds the newest message that a report calls read, for a Matrix read
// receipt. ok is false when it calls none read that is known.
func (r *Room) ReadUpTo(report content.StatusReport) (newest Known, ok bool) {
	for _, e := range report {
		if e.Status != content.Read {
			continue
		}
		for _, k := range r.Links.ByID(e.ID) {
			if k.Kind == KindReaction {
				continue
			}
			if !ok || k.Seq >= newest.Seq {
				newest, ok = k, true
			}
		}
	}
	return newest, ok
}

// Receipt is the request for a read receipt of a participant up to a message.
func Receipt(user id.UserID, k Known) event.Request {
	thread := "main"
	if k.Thread != "" {
		thread = string(k.Thread)
	}
	ev := k.Event
	if ev == "" {
		ev = event.PendingID(k.ID[:], k.Part)
	}
	return event.NewRequest(event.ReadUpTo{Sender: user, Event: ev, Thread: thread})
}

// Delivered lists the messages that a report calls delivered or read, and
// Failed those that its sender could not take.
func Delivered(report content.StatusReport) (delivered, failed []content.MessageID) {
	for _, e := range report {
		switch e.Status {
		case content.Delivered, content.Read:
			delivered = append(delivered, e.ID)
		case content.Failed:
			failed = append(failed, e.ID)
		}
	}
	return delivered, failed
}

// ToStatus makes the message that reports a status of up to [MaxStatuses]
// messages, the first of the list. It returns nil for an empty list. The report
// is a part inside MIMI content, so that it has an id and can be franked.
func (r *Room) ToStatus(sender string, messages []content.MessageID, status content.MessageStatus, salt content.Salt) (*content.Message, error) {
	if len(messages) == 0 {
		return nil, nil
	}
	var report content.StatusReport
	for _, m := range messages[:min(len(messages), MaxStatuses)] {
		report = append(report, content.StatusEntry{ID: m, Status: status})
	}
	octets, err := report.Marshal()
	if err != nil {
		return nil, err
	}
	ext := content.Extensions{}
	ext.SetNames(sender, r.URI)
	return &content.Message{
		Salt: salt, Extensions: ext,
		Body: content.Part{Disposition: content.Unspecified, Body: content.SinglePart{ContentType: content.TypeStatus, Content: octets}},
	}, nil
}
