package relay

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

const (
	// delayedAfter is how long a provider does not answer before the people of a room are told that messages wait (docs/mapping.md §11).
	delayedAfter = time.Minute
	// delayEvery is how often that is looked at, delayBatch how many rooms are told by one transaction.
	delayEvery = 30 * time.Second
	delayBatch = 500
)

// delayLoop tells of delays until the context ends.
func (r *Relay) delayLoop(ctx context.Context) {
	for sleep(ctx, delayEvery) {
		if err := r.TellDelays(ctx); err != nil && ctx.Err() == nil {
			r.Log.Warn().Err(err).Msg("people were not told of delays")
		}
	}
}

// TellDelays tells the people of rooms whose messages wait because a provider does not answer, once for each time that it
// is away. It looks only at what has come to be late since it was called last.
func (r *Relay) TellDelays(ctx context.Context) error {
	until := r.Clock().Add(-delayedAfter).UnixMilli()
	lanes, err := r.Store.FailingBetween(ctx, r.delaysTold.Load(), until)
	if err != nil {
		return err
	}
	var inputs []store.NewInput
	for _, l := range lanes {
		if domain, ok := strings.CutPrefix(l.Dest, destMIMI); ok {
			inputs = append(inputs, store.NewInput{Room: l.Room, Kind: inputAction, Source: actDelayed, Epoch: -1, CreatedMS: r.Clock().UnixMilli(),
				Body: mustJSON(action{Do: actDelayed, Text: domain}), SeenKind: "delayed", SeenKey: fmt.Sprintf("%s %d", l.Dest, l.FailingSince)})
		}
	}
	for part := range slices.Chunk(inputs, delayBatch) {
		err := r.Store.Tx(ctx, func(tx *store.Tx) error {
			_, err := tx.AddInputs(ctx, part)
			return err
		})
		if err != nil {
			return err
		}
		for i := range part {
			r.Wake(part[i].Room)
		}
	}
	r.delaysTold.Store(until)
	return nil
}

// actDelayed tells that a provider does not answer: the people of the room, or those who wait for it to begin.
func (s *step) actDelayed(domain string) {
	v := s.room
	joining := v.st.Join != nil && domain == v.head.Hub
	if joining {
		s.tellUser(v.st.Join.By, domain+" does not answer. You come into "+v.head.URI+" when it does.")
	}
	switch {
	case v.group == nil && joining:
	case v.group == nil:
		told := map[string]bool{}
		for n := range v.intents {
			d, err := dataOf(&v.intents[n])
			if err != nil || told[d.By] || d.By == "" || wire.IdentifierURI(v.intents[n].Target).Domain() != domain {
				continue
			}
			told[d.By] = true
			s.tellUser(d.By, domain+" does not answer. Its people are invited when it does.")
		}
	case v.head.Kind == store.RoomFollower && domain == v.head.Hub:
		s.notice(domain+", which leads this room, does not answer. What you write waits until it does.", "")
	case v.head.Kind == store.RoomHub:
		s.notice(domain+" does not answer. Its people get what is written here when it does.", "")
	}
}
