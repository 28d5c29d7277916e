package relay

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/matrix-mimi/bridge/internal/killpoint"
	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// maxSubmitted and maxSubmittedBytes bound the messages of a provider in one room that are taken and not judged yet.
const (
	maxSubmitted      = 2000
	maxSubmittedBytes = 64 << 20
)

// SubmitMessages takes messages for rooms that we are the hub of: they are stored when this returns, each is judged by its room's
// worker, and the verdict is sent (docs/extensions.md). What cannot be stored is refused, as is what concerns a room in which nobody
// of the provider takes part: the draft's request says why.
func (r *Relay) SubmitMessages(ctx context.Context, peer string, _ wire.IdentifierURI, body []byte) (Reply, error) {
	requests, err := wire.UnmarshalRoomRequests(body)
	if err != nil {
		return Reply{}, err
	}
	codes := make([]wire.BulkCode, len(requests))
	var inputs []store.NewInput
	rooms := map[string]*submittedTo{}
	for i, q := range requests {
		to := rooms[q.RoomID.Key()]
		if to == nil {
			if to, err = r.submittedTo(ctx, q.RoomID, peer); err != nil {
				return Reply{}, err
			}
			rooms[q.RoomID.Key()] = to
		}
		if !to.open || !submittable(peer, q.Request) {
			codes[i] = wire.BulkRefused
			continue
		}
		// What is too much is counted, too: nothing that comes after it may overtake it.
		to.rows, to.size = to.rows+1, to.size+int64(len(q.Request))
		if to.rows > maxSubmitted || to.size > maxSubmittedBytes {
			codes[i] = wire.BulkLater
			continue
		}
		hash := sha256.Sum256(q.Request)
		key := fmt.Sprintf("%x", hash)
		inputs = append(inputs, store.NewInput{Room: to.id, Kind: inputSubmit, Source: key[:12], Peer: peer, Epoch: -1, Body: q.Request,
			CreatedMS: r.Clock().UnixMilli(), SeenKind: "submit", SeenKey: peer + " " + key})
	}
	if len(inputs) > 0 {
		err := r.Store.Tx(ctx, func(tx *store.Tx) error {
			_, err := tx.AddInputs(ctx, inputs)
			killpoint.Hit("K38")
			return err
		})
		if err != nil {
			return Reply{}, err
		}
		killpoint.Hit("K39")
	}
	for i := range inputs {
		r.Wake(inputs[i].Room)
	}
	return Reply{Status: http.StatusAccepted, Body: (&wire.BulkResponse{Codes: codes}).Marshal()}, nil
}

// submittedTo is a room that a provider submits messages to.
type submittedTo struct {
	id         store.RoomID
	open       bool  // we are its hub, and somebody of the provider takes part
	rows, size int64 // of the provider, taken and not judged
}

func (r *Relay) submittedTo(ctx context.Context, uri wire.IdentifierURI, peer string) (*submittedTo, error) {
	id, err := r.hubRoomID(ctx, uri)
	if errors.Is(err, ErrNotFound) {
		return &submittedTo{}, nil
	}
	if err != nil {
		return nil, err
	}
	to := &submittedTo{id: id}
	if to.open, err = r.Store.TakesPart(ctx, id, peer); err != nil || !to.open {
		return to, err
	}
	to.rows, to.size, err = r.Store.InputsOf(ctx, id, inputSubmit, peer)
	return to, err
}

// submittable tells whether a request reads as one that the provider may make.
func submittable(peer string, request []byte) bool {
	received, err := wire.UnmarshalSubmitMessageRequest(request)
	if err == nil {
		_, err = received.Check(peer)
	}
	return err == nil
}

// onSubmitted judges a message that was stored before, and sends the verdict. The same message, should it come by the draft's
// request as well, gets the same.
func (s *step) onSubmitted(in *store.Input) error {
	v := s.room
	hash := requestHash(in.Peer, verbSubmitMessage, wire.IdentifierURI(v.head.URI).Key(), in.Body)
	answer, err := s.judgeSubmitted(in, s.had(hash))
	if err != nil {
		return err
	}
	s.keepAnswer(hash, in.Peer, verbSubmitMessage, answer)
	response, err := wire.UnmarshalSubmitMessageResponse(answer)
	if err != nil {
		return fmt.Errorf("read a verdict of our own: %w", err)
	}
	verdict := wire.SubmitVerdict{RoomID: v.uri(), Hash: sha256.Sum256(in.Body), Response: *response}
	o := s.mimi(in.Peer, verbSubmitVerdicts, verdict.Append(nil))
	o.Target = providerURI(in.Peer)
	ask(o, refTold, 0) // nobody waits for the outcome: a sender that hears nothing asks by the draft's request
	return nil
}

func (s *step) judgeSubmitted(in *store.Input, before had) ([]byte, error) {
	received, err := wire.UnmarshalSubmitMessageRequest(in.Body)
	if err != nil {
		return nil, err
	}
	q, err := received.Check(in.Peer)
	if err != nil {
		return nil, err
	}
	answer, err := s.onSubmit(in.Peer, q, before)
	if errors.Is(err, ErrNotFound) { // the room ended meanwhile
		s.plainAnswer = true
		return (&wire.SubmitMessageResponse{StatusCode: wire.SubmitNotAllowed}).Marshal(), nil
	}
	return answer, err
}

// Messages that a peer was told are taken come before anything else that it sends to the room: how long a request waits for them
// at first, and how often, each time twice as long (about 4 s in all). Then, and as long as nobody judges messages here, it is to
// come again.
const (
	submittedPause = time.Millisecond
	submittedLooks = 12
)

// afterSubmitted waits until the messages of a peer that were taken before are judged, and tells whether they are. If not, the
// answer is comeAgain.
func (r *Relay) afterSubmitted(ctx context.Context, id store.RoomID, peer string) (bool, error) {
	if !r.mayShare(peer, verbSubmitMessages) {
		return true, nil
	}
	for look := 0; ; look++ {
		n, _, err := r.Store.InputsOf(ctx, id, inputSubmit, peer)
		if err != nil || n == 0 {
			return err == nil, err
		}
		r.Wake(id)
		if look == submittedLooks || !r.running.Load() {
			return false, nil
		}
		if !sleep(ctx, submittedPause<<look) {
			return false, ctx.Err()
		}
	}
}

// comeAgain lets a request come again. It names no time: only the lane of its room waits, in its own time.
var comeAgain = Reply{Status: http.StatusTooManyRequests}

// SubmitVerdicts takes what a hub says of messages that it took from us before. It is stored when this returns.
func (r *Relay) SubmitVerdicts(ctx context.Context, peer string, _ wire.IdentifierURI, body []byte) (Reply, error) {
	verdicts, err := wire.UnmarshalSubmitVerdicts(body)
	if err != nil {
		return Reply{}, err
	}
	type told struct {
		room store.RoomID
		*wire.SubmitVerdict
	}
	var list []told
	for i := range verdicts {
		head, err := r.Store.RoomByName(ctx, store.NameMIMI, verdicts[i].RoomID.Key())
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return Reply{}, err
		}
		if head.Kind == store.RoomFollower && head.Hub == peer {
			list = append(list, told{head.ID, &verdicts[i]})
		}
	}
	slices.SortStableFunc(list, func(a, b told) int { return bytes.Compare(a.room[:], b.room[:]) })
	woken := map[store.RoomID]bool{}
	err = r.Store.Tx(ctx, func(tx *store.Tx) error {
		clear(woken)
		for _, v := range list {
			_, wakes, err := tx.CloseTaken(ctx, store.Lane{Room: v.room, Dest: destMIMI + peer}, v.Hash[:], outcomeOf(&v.Response), r.Clock().UnixMilli())
			if err != nil {
				return err
			}
			if wakes {
				woken[v.room] = true
			}
		}
		killpoint.Hit("K40")
		return nil
	})
	if err != nil {
		return Reply{}, err
	}
	killpoint.Hit("K41")
	for id := range woken {
		r.Wake(id)
	}
	return Reply{}, nil
}

// outcomeOf is what a hub's verdict means for the row of the message: the same as by the draft's request.
func outcomeOf(a *wire.SubmitMessageResponse) store.Outcome {
	out := store.Outcome{Class: store.OutcomeDone, Status: http.StatusOK, Body: a.Marshal(), AcceptedMS: int64(a.AcceptedTimestamp)}
	if a.StatusCode != wire.SubmitAccepted {
		out.Class, out.AcceptedMS, out.Reason = store.OutcomeRefused, 0, fmt.Sprintf("the hub answers %v", a.StatusCode)
	}
	return out
}

// NotifyRooms stores what a hub fans out in several rooms, in one transaction and with one answer (docs/extensions.md).
func (r *Relay) NotifyRooms(ctx context.Context, peer string, _ wire.IdentifierURI, body []byte) (Reply, error) {
	requests, err := wire.UnmarshalRoomRequests(body)
	if err != nil {
		return Reply{}, err
	}
	codes := make([]wire.BulkCode, len(requests))
	list := make([]*fanned, len(requests))
	for i, q := range requests {
		if list[i], err = readNotify(peer, q.RoomID, q.Request); err != nil {
			codes[i], list[i] = wire.BulkRefused, nil
		}
	}
	killpoint.Hit("K15")
	var ids []store.RoomID
	err = r.Store.Tx(ctx, func(tx *store.Tx) error {
		ids = ids[:0]
		var inputs []store.NewInput
		for i, f := range list {
			if f == nil {
				continue
			}
			more, err := r.notifyInputs(ctx, tx, peer, f)
			codes[i] = wire.BulkTaken
			if errors.Is(err, ErrBusy) {
				codes[i] = wire.BulkLater
				continue
			}
			if err != nil {
				return err
			}
			inputs = append(inputs, more...)
		}
		if len(inputs) > 0 {
			if _, err := tx.AddInputs(ctx, inputs); err != nil {
				return err
			}
		}
		for i := range inputs {
			ids = append(ids, inputs[i].Room)
		}
		killpoint.Hit("K16")
		return nil
	})
	if err != nil {
		return Reply{}, err
	}
	killpoint.Hit("K17")
	r.Wake(ids...)
	return Reply{Body: (&wire.BulkResponse{Codes: codes}).Marshal()}, nil
}
