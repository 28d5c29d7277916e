package relay

import (
	"encoding/hex"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/content"
)

// unreadFor is how long a message that expires after reading waits for a reader.
const unreadFor = 30 * 24 * time.Hour

// expire sets the time at which the events of a message are redacted (docs/mapping.md §8). One that expires after reading gets its
// time with the first receipt; nobody's reading it bounds its life too.
func (s *step) expire(mimiID content.MessageID, x *content.Expiration) {
	if x == nil {
		return
	}
	at := time.Unix(int64(x.Time), 0)
	if x.Relative {
		at = s.now.Add(unreadFor + time.Duration(x.Time)*time.Second)
	}
	s.later(timerExpire+hex.EncodeToString(mimiID[:]), at.UnixMilli())
}

// onExpire redacts the events of a message whose time is over, and of its edits, where we have the power to.
func (s *step) onExpire(name string) error {
	mimiID, err := hex.DecodeString(name)
	if err != nil {
		return nil
	}
	room := s.room.head.ID
	links, err := s.Store.LinksByMIMI(s.ctx, room, mimiID)
	if err != nil {
		return err
	}
	edits, err := s.Store.LinksByFirst(s.ctx, room, mimiID)
	if err != nil {
		return err
	}
	s.fx.dropEvidence = append(s.fx.dropEvidence, mimiID)
	for _, l := range edits {
		s.fx.dropEvidence = append(s.fx.dropEvidence, l.MIMIID)
	}
	for _, l := range append(links, edits...) {
		if l.State == store.LinkRedacted || mapping.Kind(l.Kind) == mapping.KindReaction {
			continue
		}
		ev := userEvent(&l)
		if hand := s.redactor(l.SenderMXID, l.SenderMXID); hand != "" {
			s.matrix(event.Redact{Sender: hand, Event: ev, Reason: "expired"})
		}
		s.fx.setLinks = append(s.fx.setLinks, linkChange{seq: l.Seq, state: store.LinkRedacted})
		s.dropActivities(&l)
	}
	return nil
}
