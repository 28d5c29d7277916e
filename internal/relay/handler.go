package relay

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/matrix-mimi/bridge/internal/killpoint"
	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/hub"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Reply is the answer to a request of another provider. Status 0 means the usual one of the verb.
type Reply struct {
	Status     int
	Body       []byte
	RetryAfter time.Duration
}

// Errors of requests, for errors.Is.
var (
	// ErrForbidden: the provider may not ask that.
	ErrForbidden = errors.New("the provider may not do this")
	// ErrNotFound: there is no such thing here.
	ErrNotFound = errors.New("no such room")
	// ErrBusy: a limit is reached; ask later.
	ErrBusy = errors.New("too many requests")
	// ErrTemporary: what is needed to answer cannot be had now.
	ErrTemporary = errors.New("cannot be answered now")
)

// refusal is an error of a request that is known before anything was done: the room in memory stays as it is.
type refusal struct{ why error }

// Error implements error.
func (r refusal) Error() string { return r.why.Error() }

// Unwrap returns the reason.
func (r refusal) Unwrap() error { return r.why }

// outsider refuses a provider that has nobody in the room and was lent nothing of it, as if the room did not exist.
func (s *step) outsider(peer string) error {
	if v := s.room; v.group == nil || !s.knows(peer) {
		return refusal{ErrNotFound}
	}
	return nil
}

// knows tells whether a provider may know that the room is there. Who was lent the group's state joins in a moment, or came too late.
func (s *step) knows(peer string) bool {
	if slices.Contains(s.room.followers(s.Naming.Domain), peer) {
		return true
	}
	lent := func(l lent) bool { return wire.IdentifierURI(l.User).Domain() == peer }
	return slices.ContainsFunc(s.room.st.Lent, lent) || s.hubRoom().Knows(peer)
}

// hubRoomFor is hubRoomID of a room that an outsider may know of all the same, as shown tells; ErrNotFound for all others. It comes before
// anything is counted by the room: what is used up would tell that there is one.
func (r *Relay) hubRoomFor(ctx context.Context, uri wire.IdentifierURI, peer string, shown func(*step) bool) (store.RoomID, error) {
	id, err := r.hubRoomID(ctx, uri)
	if err != nil {
		return id, err
	}
	_, err = r.runStep(ctx, id, nil, store.Settle{}, func(s *step) error {
		if err := s.outsider(peer); err != nil && (s.room.group == nil || !shown(s)) {
			return err
		}
		return nil
	})
	return id, err
}

// keepAnswers is how long the same request gets the same answer; the draft sets no time.
const keepAnswers = 24 * time.Hour

// requestHash names a request of a provider.
func requestHash(peer, verb, path string, body []byte) [32]byte {
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00%s\x00%s\x00", peer, verb, path)
	h.Write(body)
	return [32]byte(h.Sum(nil))
}

// hubRoomID finds a room that we are the hub of.
func (r *Relay) hubRoomID(ctx context.Context, uri wire.IdentifierURI) (store.RoomID, error) {
	key := uri.Key()
	r.mu.Lock()
	id, known := r.hubs[key]
	r.mu.Unlock()
	if known {
		return id, nil
	}
	head, err := r.Store.RoomByName(ctx, store.NameMIMI, key)
	if errors.Is(err, store.ErrNotFound) {
		return store.RoomID{}, ErrNotFound
	}
	if err != nil {
		return store.RoomID{}, err
	}
	if head.Kind != store.RoomHub {
		return store.RoomID{}, ErrNotFound
	}
	if head.Epoch >= 0 { // before, its making may be given up
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.hubs) >= r.cfg.CachedRooms {
			clear(r.hubs)
		}
		r.hubs[key] = head.ID
	}
	return head.ID, nil
}

// had returns the answer that a request got before, nil if it got none.
type had func() ([]byte, error)

// had is asked inside the step: of two equal requests that come at once the second waits for the first.
func (s *step) had(hash [32]byte) had {
	return func() ([]byte, error) {
		a, err := s.Store.AnswerTo(s.ctx, s.room.head.ID, hash)
		if errors.Is(err, store.ErrNotFound) {
			return nil, nil
		}
		s.plainAnswer = err == nil
		return a.Body, err
	}
}

// keepAnswer keeps the answer to a request for keepAnswers, unless it is none to be kept.
func (s *step) keepAnswer(hash [32]byte, peer, verb string, answer []byte) {
	if answer == nil || s.plainAnswer {
		return
	}
	s.fx.answer = &store.StoredAnswer{Room: s.room.head.ID, Hash: hash, Peer: peer, Verb: verb, Status: http.StatusOK, Body: answer,
		UntilMS: s.now.Add(keepAnswers).UnixMilli()}
	s.passes("K32", "")
}

// answerOnce answers a request inside a step of its room, and the same request again with the same answer (T16). decide gets the
// step and returns the body; it asks what the request had, at the latest before it refuses anything.
func (r *Relay) answerOnce(ctx context.Context, id store.RoomID, peer, verb, path string, body []byte, decide func(*step, had) ([]byte, error)) (Reply, error) {
	hash := requestHash(peer, verb, path, body)
	var answer []byte
	_, err := r.runStep(ctx, id, nil, store.Settle{}, func(s *step) error {
		var err error
		if answer, err = decide(s, s.had(hash)); err != nil {
			return err
		}
		s.keepAnswer(hash, peer, verb, answer)
		return nil
	})
	if errors.Is(err, store.ErrDuplicate) {
		a, err := r.Store.AnswerTo(ctx, id, hash)
		return Reply{Status: int(a.Status), Body: a.Body}, err
	}
	if err != nil {
		return Reply{}, err
	}
	killpoint.Hit("K33")
	return Reply{Body: answer}, nil
}

// Update judges a commit or proposals that a follower sends to us as the hub (draft-ietf-mimi-protocol-06 §5.3).
func (r *Relay) Update(ctx context.Context, peer string, path wire.IdentifierURI, body []byte) (Reply, error) {
	received, err := wire.UnmarshalUpdateRequest(body)
	if err != nil {
		return Reply{}, err
	}
	id, err := r.hubRoomID(ctx, path)
	if err != nil {
		return Reply{}, err
	}
	if ok, err := r.afterSubmitted(ctx, id, peer); !ok {
		return comeAgain, err
	}
	return r.answerOnce(ctx, id, peer, verbUpdate, path.Key(), body, func(s *step, before had) ([]byte, error) {
		if answer, err := before(); answer != nil || err != nil {
			return answer, err
		}
		return s.onUpdate(peer, received)
	})
}

func (s *step) onUpdate(peer string, received *wire.ReceivedUpdateRequest) ([]byte, error) {
	v := s.room
	if err := s.outsider(peer); err != nil {
		return nil, err
	}
	bundle, err := received.Check(v.group.GroupID())
	if err != nil {
		return nil, refusal{err}
	}
	verdict := s.tooManyWait(bundle)
	if verdict == nil {
		verdict = hub.Update(s.now, s.hubRoom(), peer, bundle, s.borrowed)
	}
	if s.keepsOut(verdict.All()) {
		verdict = &hub.UpdateVerdict{Spoiled: verdict.Staged == nil, Reason: "a provider is kept out by the Matrix room's server ACL, or blocked",
			Response: wire.UpdateRoomResponse{ResponseCode: wire.UpdateNotAllowed, ErrorDescription: "a provider is not welcome in this room"}}
	}
	if verdict.Reason != "" {
		s.Log.Info().Stringer("room", v.head.ID).Str("peer", peer).Str("reason", verdict.Reason).Str("fate", "refused").Msg("an update was not accepted")
	}
	answer := verdict.Response.Marshal()
	switch {
	case verdict.Staged != nil:
		return answer, s.onRemoteCommit(bundle, verdict)
	case len(verdict.Proposals) > 0:
		return answer, s.onRemoteProposals(bundle, verdict)
	}
	s.drop = verdict.Spoiled
	s.plainAnswer = true // a refusal changes nothing: it is not kept, so that nobody fills the database with them
	return answer, nil
}

// maxWaiting bounds the bytes of the proposals that wait in a room: each is kept with its state. Mostly none waits, because the bot
// commits at once; in a direct chat it may be that only others can.
const maxWaiting = 1 << 20

// tooManyWait refuses proposals beside which too much waits already, nil when they may be looked at.
func (s *step) tooManyWait(bundle *wire.HandshakeBundle) *hub.UpdateVerdict {
	if bundle.Commit() {
		return nil
	}
	size := len(bundle.Message.Raw)
	for _, m := range bundle.MoreProposals {
		size += len(m.Raw)
	}
	for _, p := range s.room.st.Proposals {
		size += len(p.Message)
	}
	if size <= maxWaiting {
		return nil
	}
	const why = "too many proposals wait for a commit"
	return &hub.UpdateVerdict{Reason: why, Response: wire.UpdateRoomResponse{ResponseCode: wire.UpdateNotAllowed, ErrorDescription: why}}
}

// onRemoteCommit accepts a follower's commit (T16).
func (s *step) onRemoteCommit(bundle *wire.HandshakeBundle, verdict *hub.UpdateVerdict) error {
	was := s.snapshot()
	why := s.causeOf(verdict.Staged)
	if verdict.Joiner != nil {
		s.dropLent(verdict.Joiner, !s.listed(s.listedURI(verdict.Joiner.User)))
	}
	if err := s.acceptCommit(verdict.Staged, bundle.Welcome, why.actor, nil); err != nil {
		return err
	}
	if bundle.Welcome != nil {
		if err := s.addOurs(bundle.Welcome, verdict.Staged.Tree()); err != nil {
			return err
		}
	}
	if err := s.reconcile(was, why); err != nil {
		return err
	}
	return s.advance()
}

// addOurs joins clients of ours that a follower's commit added.
func (s *step) addOurs(welcome *mls.Welcome, tree []byte) error {
	keys, refs, err := s.joinKeys(welcome)
	if err != nil || len(keys) == 0 {
		return err
	}
	if err := s.addOwn(welcome, tree, keys); err != nil {
		return err
	}
	s.fx.usedKeys = append(s.fx.usedKeys, refs...)
	return nil
}

// onRemoteProposals accepts a follower's proposals; the bot commits them at once.
func (s *step) onRemoteProposals(bundle *wire.HandshakeBundle, verdict *hub.UpdateVerdict) error {
	s.fx.changes = append(s.fx.changes, verdict.Changes...)
	s.acceptProposals(append([]wire.Message{bundle.Message}, bundle.MoreProposals...), "", verdict.Response.AcceptedTimestamp)
	s.wish(intentCommit, s.bot, "", intentData{})
	return s.advance()
}

// SubmitMessage judges an application message that a follower sends to us as the hub (draft-ietf-mimi-protocol-06 §5.4).
func (r *Relay) SubmitMessage(ctx context.Context, peer string, path wire.IdentifierURI, body []byte) (Reply, error) {
	received, err := wire.UnmarshalSubmitMessageRequest(body)
	if err != nil {
		return Reply{}, err
	}
	q, err := received.Check(peer)
	if err != nil { // whatever the room
		return Reply{Body: (&wire.SubmitMessageResponse{StatusCode: wire.SubmitNotAllowed}).Marshal()}, nil
	}
	id, err := r.hubRoomID(ctx, path)
	if err != nil {
		return Reply{}, err
	}
	if ok, err := r.afterSubmitted(ctx, id, peer); !ok {
		return comeAgain, err
	}
	return r.answerOnce(ctx, id, peer, verbSubmitMessage, path.Key(), body, func(s *step, before had) ([]byte, error) { return s.onSubmit(peer, q, before) })
}

// onSubmit judges a message. That it came before is not asked of each, which costs queries, but of those that are refused and that
// cannot be read: the same message again is of a position of the sender's ratchet that was used (RFC 9420 §9.1). When the answer to the same
// request is not kept any more, or it is brought in another user's name, the room's log tells.
func (s *step) onSubmit(peer string, q *wire.SubmitMessageRequest, before had) ([]byte, error) {
	v := s.room
	if v.group == nil {
		return nil, refusal{ErrNotFound}
	}
	verdict := hub.SubmitMessage(s.now, s.hubRoom(), s.franker(), q)
	ours := v.group.OwnCount() > 0 // not in a direct chat whose people here want nothing of it
	var app *mls.Application
	var changes mls.Changes
	var unread, err error
	if verdict.Item != nil && ours {
		app, changes, unread = v.group.UnprotectFrom(s.now, q.Message.Raw, func(leaf *mls.LeafNode) bool {
			id, ok := identityOf(leaf)
			return ok && id.User.Same(q.SendingURI)
		})
	}
	if app == nil {
		if answer, err := before(); answer != nil || err != nil {
			return answer, err
		}
		if verdict, err = s.repeated(verdict, q); err != nil {
			return nil, err
		}
	}
	if unread != nil && noMessage(unread) {
		verdict = &hub.SubmitVerdict{Response: wire.SubmitMessageResponse{StatusCode: wire.SubmitNotAllowed}, Reason: unread.Error()}
	}
	if verdict.Item == nil {
		if err := s.outsider(peer); err != nil { // of a participant it is not asked
			return nil, err
		}
		s.Log.Info().Stringer("room", v.head.ID).Str("peer", peer).Str("reason", verdict.Reason).Str("fate", "refused").Msg("a message was not accepted")
		s.plainAnswer = true
		return verdict.Response.Marshal(), nil
	}
	s.accepted(verdict, string(q.SendingURI))
	if !ours {
		return verdict.Response.Marshal(), nil
	}
	if unread != nil {
		// Others may be able to read what we cannot: of an epoch from before we came, or far ahead in its ratchet.
		return verdict.Response.Marshal(), s.onUnreadable(verdict.Item, unread)
	}
	s.fx.changes = append(s.fx.changes, changes)
	return verdict.Response.Marshal(), s.onApplication(app, verdict.Item)
}

// repeated is the verdict about a message that would be accepted but cannot be read: another one where the room's log has it already.
func (s *step) repeated(verdict *hub.SubmitVerdict, q *wire.SubmitMessageRequest) (*hub.SubmitVerdict, error) {
	if verdict.Item == nil {
		return verdict, nil
	}
	hash := q.Message.Hash()
	e, err := s.Store.LogByHash(s.ctx, s.room.head.ID, store.LogMessage, hash[:])
	if errors.Is(err, store.ErrNotFound) {
		return verdict, nil
	}
	return hub.Repeated(s.hubRoom(), s.franker(), q, wire.IdentifierURI(e.Sender), uint64(e.AcceptedMS)), err
}

// noMessage tells whether what a hub could not read is a message to nobody: one that every member refuses, or one of a client here,
// which nobody else sends. A hub that knows it lets nobody be troubled by it (draft-ietf-mimi-protocol-06 §5.4: notAllowed, "nonsensical
// inputs"). A sender that is not the sendingUri is such a one: a frank would vouch for somebody who did not write it.
func noMessage(unread error) bool {
	kind := mls.KindOf(unread)
	return kind == mls.KindInvalid || kind == mls.KindMalformed || errors.Is(unread, mls.ErrOwnMessage)
}

// allow counts a use of something limited by the hour.
func (r *Relay) allow(ctx context.Context, what, key string, limit int64) error {
	return r.allowN(ctx, what, key, 1, limit)
}

// allowN counts n uses.
func (r *Relay) allowN(ctx context.Context, what, key string, n, limit int64) error {
	err := r.Store.Tx(ctx, func(tx *store.Tx) error { return tx.Allow(ctx, what, key, n, limit, time.Hour, r.Clock()) })
	if errors.Is(err, store.ErrNoCapacity) {
		return fmt.Errorf("%s: %w", what, ErrBusy)
	}
	return err
}
