package relay

import (
	"context"
	"errors"
	"net/http"

	"github.com/matrix-mimi/bridge/internal/store"
)

// wordsAnHour bounds what a provider says in an hour by one verb that is stored without being judged first.
const wordsAnHour = 1000

// word is what a provider says and we store, to act on it later.
type word struct {
	Room             store.RoomID // that the answer is kept in
	Peer, Verb, Path string
	Body             []byte
}

// takeWord stores, in one transaction, the inputs that come of a word and the answer to it, so that the same word again is
// acknowledged without effect and not counted.
func (r *Relay) takeWord(ctx context.Context, w word, inputs func(*store.Tx) ([]store.NewInput, error)) (Reply, error) {
	done := Reply{Status: http.StatusOK}
	hash := requestHash(w.Peer, w.Verb, w.Path, w.Body)
	if _, err := r.Store.AnswerTo(ctx, w.Room, hash); !errors.Is(err, store.ErrNotFound) {
		return done, err
	}
	if err := r.allow(ctx, w.Verb, w.Peer, wordsAnHour); err != nil {
		return Reply{}, err
	}
	var list []store.NewInput
	err := r.Store.Tx(ctx, func(tx *store.Tx) (err error) {
		if list, err = inputs(tx); err != nil {
			return err
		}
		if len(list) > 0 {
			if _, err := tx.AddInputs(ctx, list); err != nil {
				return err
			}
		}
		return tx.PutAnswer(ctx, store.StoredAnswer{Room: w.Room, Hash: hash, Peer: w.Peer, Verb: w.Verb, Status: http.StatusOK,
			UntilMS: r.Clock().Add(keepAnswers).UnixMilli()})
	})
	if errors.Is(err, store.ErrDuplicate) {
		return done, nil // it came twice at once
	}
	if err != nil {
		return Reply{}, err
	}
	for i := range list {
		r.Wake(list[i].Room)
	}
	return done, nil
}
