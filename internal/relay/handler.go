package relay

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/matrix-mimi/bridge/internal/killpoint"
	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/hub"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/room"
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

// keepAnswers is how long the same request gets the same answer (mimi-digest §2.3).
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

// answerOnce answers a request inside a step of its room, and the same request again with the same answer (T16). decide gets the
// step and returns the body.
func (r *Relay) answerOnce(ctx context.Context, id store.RoomID, peer, verb, path string, body []byte, decide func(*step) ([]byte, error)) (Reply, error) {
	hash := requestHash(peer, verb, path, body)
	var answer []byte
	_, err := r.runStep(ctx, id, nil, store.Settle{}, func(s *step) error {
		// Asked inside the step: of two equal requests that come at once the second waits for the first.
		switch a, err := s.Store.AnswerTo(ctx, id, hash); {
		case err == nil:
			answer = a.Body
			return nil
		case !errors.Is(err, store.ErrNotFound):
			return err
		}
		var err error
		if answer, err = decide(s); err != nil {
			return err
		}
		if answer != nil && !s.plainAnswer {
			s.fx.answer = &store.StoredAnswer{Room: id, Hash: hash, Peer: peer, Verb: verb, Status: http.StatusOK, Body: answer,
				UntilMS: s.now.Add(keepAnswers).UnixMilli()}
			s.passes("K32", "")
		}
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
	id, err := r.hubRoomID(ctx, path)
	if err != nil {
		return Reply{}, err
	}
	received, err := wire.UnmarshalUpdateRequest(body)
	if err != nil {
		return Reply{}, err
	}
	if err := r.afterSubmitted(ctx, id, peer); err != nil {
		return Reply{}, err
	}
	return r.answerOnce(ctx, id, peer, verbUpdate, path.Key(), body, func(s *step) ([]byte, error) { return s.onUpdate(peer, received) })
}

func (s *step) onUpdate(peer string, received *wire.ReceivedUpdateRequest) ([]byte, error) {
	v := s.room
	if v.group == nil {
		return nil, ErrNotFound
	}
	bundle, err := received.Check(v.group.GroupID())
	if err != nil {
		return nil, err
	}
	verdict := hub.Update(s.now, s.hubRoom(), peer, bundle, s.borrowed)
	if verdict.Staged != nil && s.addsDenied(verdict.Staged) {
		verdict = &hub.UpdateVerdict{Reason: "the Matrix room's server ACL keeps a provider out",
			Response: wire.UpdateRoomResponse{ResponseCode: wire.UpdateNotAllowed, ErrorDescription: "a provider is not welcome in this room"}}
	}
	if verdict.Reason != "" {
		s.Log.Info().Stringer("room", v.head.ID).Str("peer", peer).Str("reason", verdict.Reason).Str("fate", "refused").Msg("an update was not accepted")
	}
	answer := verdict.Response.Marshal()
	switch {
	case verdict.Spoiled:
		s.drop = true
		return answer, nil
	case verdict.Staged != nil:
		return answer, s.onRemoteCommit(bundle, verdict)
	case len(verdict.Proposals) > 0:
		return answer, s.onRemoteProposals(bundle, verdict)
	}
	s.plainAnswer = true // a refusal changes nothing: it is not kept, so that nobody fills the database with them
	return answer, nil
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
	v := s.room
	s.fx.changes = append(s.fx.changes, verdict.Changes...)
	at := verdict.Response.AcceptedTimestamp
	v.head.LastAccepted = int64(at)
	list := append([]wire.Message{bundle.Message}, bundle.MoreProposals...)
	for _, m := range list {
		s.logEntry("proposal", v.group.Epoch(), m, "", at)
	}
	s.fanout(v.followers(s.Naming.Domain),
		wire.FanoutMessage{Timestamp: at, Message: bundle.Message, MoreProposals: bundle.MoreProposals})
	s.wish(intentCommit, s.bot, "", intentData{})
	return s.advance()
}

// SubmitMessage judges an application message that a follower sends to us as the hub (draft-ietf-mimi-protocol-06 §5.4).
func (r *Relay) SubmitMessage(ctx context.Context, peer string, path wire.IdentifierURI, body []byte) (Reply, error) {
	id, err := r.hubRoomID(ctx, path)
	if err != nil {
		return Reply{}, err
	}
	received, err := wire.UnmarshalSubmitMessageRequest(body)
	if err != nil {
		return Reply{}, err
	}
	q, err := received.Check(peer)
	if err != nil {
		return Reply{Body: (&wire.SubmitMessageResponse{StatusCode: wire.SubmitNotAllowed}).Marshal()}, nil
	}
	if err := r.afterSubmitted(ctx, id, peer); err != nil {
		return Reply{}, err
	}
	return r.answerOnce(ctx, id, peer, verbSubmitMessage, path.Key(), body, func(s *step) ([]byte, error) { return s.onSubmit(peer, q) })
}

func (s *step) onSubmit(peer string, q *wire.SubmitMessageRequest) ([]byte, error) {
	v := s.room
	if v.group == nil {
		return nil, ErrNotFound
	}
	verdict := hub.SubmitMessage(s.now, s.hubRoom(), s.franker(), q)
	if verdict.Item == nil {
		s.Log.Info().Stringer("room", v.head.ID).Str("peer", peer).Str("reason", verdict.Reason).Str("fate", "refused").Msg("a message was not accepted")
		s.plainAnswer = true
		return verdict.Response.Marshal(), nil
	}
	s.accepted(verdict, string(q.SendingURI))
	if len(v.group.OwnLeaves()) == 0 {
		return verdict.Response.Marshal(), nil // a direct chat whose people here want nothing of it
	}
	app, changes, err := v.group.Unprotect(s.now, q.Message.Raw)
	if err != nil {
		// The hub accepts what it cannot read: it is a member by our choice only.
		return verdict.Response.Marshal(), s.onUnreadable(verdict.Item, err)
	}
	s.fx.changes = append(s.fx.changes, changes)
	if id, ok := identityOf(app.Leaf); !ok || !id.User.Same(q.SendingURI) {
		s.Log.Warn().Stringer("room", v.head.ID).Str("peer", peer).Str("fate", "ignored").Msg("a message is of another user than it was sent for")
		return verdict.Response.Marshal(), nil
	}
	return verdict.Response.Marshal(), s.onApplication(app, verdict.Item)
}

// Notify stores what the hub of a room fans out; it is durable when this returns (draft-ietf-mimi-protocol-06 §5.5).
func (r *Relay) Notify(ctx context.Context, peer string, path wire.IdentifierURI, body []byte) (Reply, error) {
	f, err := readNotify(peer, path, body)
	if err != nil {
		return Reply{}, err
	}
	killpoint.Hit("K15")
	var inputs []store.NewInput
	err = r.Store.Tx(ctx, func(tx *store.Tx) error {
		if inputs, err = r.notifyInputs(ctx, tx, peer, f); err != nil || len(inputs) == 0 {
			return err
		}
		_, err = tx.AddInputs(ctx, inputs)
		killpoint.Hit("K16")
		return err
	})
	if err != nil {
		return Reply{}, err
	}
	killpoint.Hit("K17")
	if len(inputs) > 0 {
		r.Wake(inputs[0].Room)
	}
	return Reply{Status: http.StatusCreated}, nil
}

// fanned is what a hub fans out in a room, checked.
type fanned struct {
	room     wire.IdentifierURI
	items    []wire.FanoutMessage
	welcomes [][]byte
}

func readNotify(peer string, room wire.IdentifierURI, body []byte) (*fanned, error) {
	if room.Domain() != peer {
		return nil, ErrForbidden
	}
	received, err := wire.UnmarshalNotify(body)
	if err != nil {
		return nil, err
	}
	items, err := received.Check()
	return &fanned{room, items, received.Welcomes()}, err
}

// notifyInputs makes inputs of what is fanned out in a room of ours; none in another one.
func (r *Relay) notifyInputs(ctx context.Context, tx *store.Tx, peer string, f *fanned) ([]store.NewInput, error) {
	room, ok, err := r.followerRoom(ctx, tx, peer, f.room, f.welcomes)
	if err != nil || !ok {
		return nil, err
	}
	if err := r.takesMore(ctx, tx, &room, f.items); err != nil {
		return nil, err
	}
	inputs := make([]store.NewInput, len(f.items))
	for i := range f.items {
		hash := f.items[i].Message.Hash()
		key := fmt.Sprintf("%x", hash[:])
		inputs[i] = store.NewInput{Room: room.ID, Kind: inputNotify, Source: key[:12], Peer: peer, Epoch: int64(f.items[i].Message.Epoch()),
			Body: f.items[i].Marshal(), CreatedMS: r.Clock().UnixMilli(), SeenKind: "notify", SeenKey: key}
	}
	return inputs, nil
}

// unreadEvery is after how many arrivals it is counted what a room has not worked off; largeFanout, in bytes, is counted always.
const (
	unreadEvery = 64
	largeFanout = 256 << 10
)

// takesMore tells whether a hub may send more into a room: ErrBusy when what it sent before and was not worked off is too much. It
// sends it again later.
func (r *Relay) takesMore(ctx context.Context, tx *store.Tx, room *store.Room, items []wire.FanoutMessage) error {
	size := 0
	for i := range items {
		size += len(items[i].Message.Raw)
	}
	if room.NextIn/unreadEvery == (room.NextIn+int64(len(items)))/unreadEvery && size < largeFanout {
		return nil
	}
	rows, bytes, err := tx.Unread(ctx, room.ID, room.Hub)
	if err == nil && (rows >= r.cfg.MaxUnread || bytes >= r.cfg.MaxUnreadBytes) {
		err = fmt.Errorf("room %s has %d items of %d bytes that are not worked off: %w", room.ID, rows, bytes, ErrBusy)
	}
	return err
}

// followerRoom finds the room that a fan-out is for. One that is not known is made when there is a Welcome for us in it;
// otherwise it is none of ours, and what comes is acknowledged and forgotten.
func (r *Relay) followerRoom(ctx context.Context, tx *store.Tx, peer string, uri wire.IdentifierURI, refs [][]byte) (store.Room, bool, error) {
	room, err := tx.RoomByName(ctx, store.NameMIMI, uri.Key())
	if err == nil {
		return room, room.Kind == store.RoomFollower && room.Hub == peer, nil
	}
	if !errors.Is(err, store.ErrNotFound) {
		return room, false, err
	}
	if ours, err := tx.KeyPackageRefs(ctx, refs); err != nil || len(ours) == 0 {
		return room, false, err
	}
	room, err = r.newFollowerRoom(ctx, tx, peer, uri)
	return room, err == nil, err
}

func (r *Relay) newFollowerRoom(ctx context.Context, tx *store.Tx, hubDomain string, uri wire.IdentifierURI) (store.Room, error) {
	id, err := store.NewRoomID(r.Clock(), r.Rand)
	if err != nil {
		return store.Room{}, err
	}
	// The name is the lookup form; the octets stay as they came.
	room, _, err := tx.FindOrCreateRoom(ctx, store.NameMIMI, uri.Key(), store.Room{ID: id, Kind: store.RoomFollower, State: stateClosed,
		URI: uri.Key(), Hub: hubDomain, Epoch: -1, CreatedMS: r.Clock().UnixMilli()})
	return room, err
}

// lendFor is how long a GroupInfo may be used for an external commit.
const lendFor = 30 * time.Second

// maxLent bounds the GroupInfos that a room remembers to have lent.
const maxLent = 100

// GroupInfo gives the state of a room that we are the hub of to one who may join it (draft-ietf-mimi-protocol-06 §5.6).
func (r *Relay) GroupInfo(ctx context.Context, peer string, path wire.IdentifierURI, body []byte) (Reply, error) {
	refuse := func(code wire.GroupInfoCode) (Reply, error) {
		return Reply{Body: (&wire.GroupInfoResponse{RoomID: path, Status: code}).Marshal()}, nil
	}
	received, err := wire.UnmarshalGroupInfoRequest(body)
	if err != nil {
		return Reply{}, err
	}
	q, err := received.Check()
	if err != nil {
		return Reply{}, err
	}
	// An unknown room and one that does not let the asker in look the same.
	id, err := r.hubRoomID(ctx, path)
	if errors.Is(err, ErrNotFound) {
		return refuse(wire.GroupInfoNotAuthorized)
	}
	if err != nil {
		return Reply{}, err
	}
	if err := r.allow(ctx, "groupInfo", peer+" "+path.Key(), r.cfg.GroupInfos); err != nil {
		return Reply{}, err
	}
	var answer []byte
	_, err = r.runStep(ctx, id, nil, store.Settle{}, func(s *step) error {
		var err error
		answer, err = s.onGroupInfoRequest(peer, q)
		return err
	})
	if err != nil {
		return Reply{}, err
	}
	if answer == nil {
		return refuse(wire.GroupInfoNotAuthorized)
	}
	return Reply{Body: answer}, nil
}

func (s *step) onGroupInfoRequest(peer string, q *wire.GroupInfoRequest) ([]byte, error) {
	v := s.room
	if v.group == nil {
		return nil, nil
	}
	var link *joinLink
	stands := wire.LinkGood
	if q.JoiningCode != nil {
		link, stands = s.judgeCode(q.JoiningCode)
	}
	verdict := hub.GroupInfo(s.hubRoom(), peer, q, s.joinCode(link))
	if verdict.Allowed { // otherwise anybody could make us ask a provider that has nothing to do with it for its authorities
		if err := v.judge.validate(mls.CredentialCheck{Credential: &q.Credential, SignatureKey: q.SignatureKey, Use: mls.CredentialOfMember, Now: s.now}); err != nil {
			verdict.Allowed, verdict.Reason = false, err.Error()
		}
	}
	if !verdict.Allowed {
		s.Log.Info().Stringer("room", v.head.ID).Str("peer", peer).Str("reason", verdict.Reason).Str("code", whyLink[stands]).Str("fate", "refused").Msg("the group's state was not given")
		return nil, nil
	}
	leaf, ok := v.ownLeaf(s.bot)
	if own := v.group.OwnLeaves(); !ok && len(own) > 0 {
		leaf, ok = own[0], true // a direct chat has no bot in it
	}
	if !ok {
		return nil, nil
	}
	raw, err := v.group.GroupInfo(leaf, true, nil)
	if err != nil {
		return nil, fmt.Errorf("describe the group of room %s: %w", v.head.ID, err)
	}
	m, err := mls.UnmarshalMLSMessage(raw)
	if err != nil {
		return nil, err
	}
	content := &wire.GroupInfoRatchetTree{GroupInfo: m.GroupInfo, Tree: mls.RatchetTreeOption{Representation: mls.RatchetTreeFull, Tree: v.group.RatchetTree()}}
	response, err := wire.NewGroupInfoResponse(q, v.uri(), content, s.hub.credential, s.hub.signature[q.Suite])
	if err != nil {
		return nil, err
	}
	s.lend(verdict, link)
	return response.Marshal(), nil
}

// lend remembers who got the group's state.
func (s *step) lend(verdict hub.GroupInfoVerdict, link *joinLink) {
	v := s.room
	id := ""
	if link != nil {
		id = link.ID
	}
	var keep []lent
	for _, l := range v.st.Lent {
		if l.UntilMS > s.nowMS() && string(l.Credential) != string(verdict.Borrower) {
			keep = append(keep, l)
		}
	}
	if len(keep) >= maxLent {
		keep = keep[1:]
	}
	v.st.Lent = append(keep, lent{Credential: verdict.Borrower, User: verdict.User, UntilMS: s.now.Add(lendFor).UnixMilli(), Link: id})
}

// borrowed tells whether the group's state was given to a client a moment ago.
func (s *step) borrowed(leaf *mls.LeafNode) (*policy.JoinCode, bool) {
	who := hub.Borrower(&leaf.Credential, leaf.SignatureKey)
	for _, l := range s.room.st.Lent {
		if string(l.Credential) == string(who) && l.UntilMS > s.nowMS() {
			return s.joinCode(s.liveLink(l.Link)), true
		}
	}
	return nil, false
}

// dropLent forgets a loan that was used, and counts the use of the join link that it was for.
func (s *step) dropLent(joiner *room.Identity, newcomer bool) {
	var keep []lent
	link := ""
	for _, l := range s.room.st.Lent {
		if !wire.IdentifierURI(l.User).Same(joiner.User) {
			keep = append(keep, l)
		} else if l.Link != "" {
			link = l.Link
		}
	}
	if newcomer {
		s.useLink(link)
	}
	s.room.st.Lent = keep
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
