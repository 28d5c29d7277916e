package relay

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// retryCommit is how long after a refusal a commit is tried again when no other commit came meanwhile, maxChannelTries how often.
const (
	retryCommit     = 5 * time.Second
	maxChannelTries = 10
)

// change adds and removes actors, in the name of a Matrix user or an actor: at once as the channel's host, by a wish as a member.
func (x *apStep) change(by string, add, remove []string, eventID string) error {
	c := x.room.st.Channel
	if c == nil || x.thread == nil || x.room.st.LeftMS > 0 {
		return nil
	}
	actor := by
	if strings.HasPrefix(by, "@") {
		var err error
		if actor, err = x.actorOfMXID(by); err != nil {
			return err
		}
	}
	if !c.Hub {
		x.wishMembers(actor, add, remove, intentData{By: by, Event: eventID})
		return nil
	}
	there := x.thread.Actors()
	add = slices.DeleteFunc(slices.Clone(add), func(a string) bool { return slices.Contains(there, a) })
	remove = slices.DeleteFunc(slices.Clone(remove), func(a string) bool { return !slices.Contains(there, a) || a == c.ID })
	var own []mls.JoinKey
	var others []string
	for _, target := range add {
		if !x.face.Site.Own(target) {
			others = append(others, target)
			continue
		}
		key, err := x.ownPackage(target)
		if err != nil {
			return err
		}
		own = append(own, key)
	}
	if len(own) > 0 {
		if err := x.commitNow(c.ID, nil, own, nil); err != nil {
			return err
		}
	}
	for _, target := range others {
		kp, err := x.packageOf(target)
		if err != nil {
			if _, needs := err.(needPackage); needs { //nolint:errorlint // it is made one line above
				return err
			}
			x.declined(target, eventID, err)
			continue
		}
		if err := x.commitNow(actor, []*mls.KeyPackage{kp}, nil, nil); err != nil {
			return err
		}
	}
	if len(remove) > 0 {
		return x.commitNow(actor, nil, nil, remove)
	}
	return nil
}

// wishMembers wishes, as a member of a channel of another server, that actors are added and removed. What was wished last counts: it follows what is on its way to
// the channel, and takes the place of what is not.
func (x *apStep) wishMembers(by string, add, remove []string, d intentData) {
	there := x.thread.Actors()
	for _, target := range add {
		x.cancel(intentRemove, target)
		if !slices.Contains(there, target) || x.wished(target, intentRemove) || x.goes(target) {
			x.wish(intentAdd, by, target, d)
		}
	}
	for _, target := range remove {
		x.cancel(intentAdd, target)
		if !x.isChannel(target) && (slices.Contains(there, target) || x.wished(target, intentAdd)) {
			x.wish(intentRemove, by, target, d)
		}
	}
}

// declined tells that somebody could not be added; a ghost that was invited declines.
func (x *apStep) declined(actor, eventID string, why error) {
	x.Log.Info().Err(why).Stringer("room", x.room.head.ID).Str("actor", actor).Str("fate", "refused").Msg("somebody was not added to a channel")
	x.notice(actor+" could not be added: their server cannot be reached, or offers no keys for encrypted messages.", eventID)
	if mxid, ghost, err := x.mxid(actor); err == nil && ghost {
		x.putOut(mxid, ghost, "cannot take encrypted messages")
	}
}

// putOut takes somebody out of the Matrix room who is not in the group: a ghost declines, a user of ours is removed by the bot.
func (x *apStep) putOut(mxid string, ghost bool, reason string) {
	m, known := x.room.members.of(mxid)
	if !known || m.Membership != string(event.Invite) && (ghost || m.Membership != string(event.Join)) {
		return
	}
	if ghost {
		x.matrix(event.LeaveRoom{Sender: userID(mxid), Reason: reason})
	} else {
		x.matrix(event.KickUser{Sender: userID(x.cfg.Bot), Target: userID(mxid), Reason: reason})
	}
	m.Membership = string(event.Leave)
	x.setMember(m)
}

// notMade tells who asked for a change why the channel did not make it, and undoes what was done in Matrix already.
func (x *apStep) notMade(i *store.Intent, why string) error {
	x.Log.Info().Stringer("room", x.room.head.ID).Str("actor", i.Target).Str("kind", i.Kind).Str("reason", why).Str("fate", "refused").Msg("a channel did not make a change")
	d, err := dataOf(i)
	if err != nil {
		return err
	}
	if i.Kind == intentRemove {
		return x.notRemoved(i, d, why)
	}
	x.notice(i.Target+" could not be added: "+why+".", d.Event)
	mxid, ghost, err := x.mxid(i.Target)
	if err == nil {
		x.putOut(mxid, ghost, why)
	}
	return err
}

// notRemoved shows somebody again whom the channel keeps. Who left by themselves is not asked to come back: the channel does not let another of ours
// take them out, so their own client proposes it.
func (x *apStep) notRemoved(i *store.Intent, d intentData, why string) error {
	if i.Actor == i.Target && x.face.Site.Own(i.Target) {
		return x.proposeLeave(i.Target)
	}
	x.notice(i.Target+" was not removed: "+why+".", d.Event)
	mxid, _, err := x.mxid(i.Target)
	if err != nil {
		return err
	}
	if m, known := x.room.members.of(mxid); known && m.Membership == string(event.Ban) {
		x.matrix(event.UnbanUser{Sender: userID(x.cfg.Bot), Target: userID(mxid)})
		return nil // what follows comes with its event
	}
	return x.place([]string{i.Target}, nil, x.room.st.Channel.ID)
}

// actorOfMXID is the actor of a Matrix user: of a ghost the one it stands for, unless it is the ghost of a MIMI user, who is an actor of ours here.
func (x *apStep) actorOfMXID(mxid string) (string, error) {
	if x.acctGhost(mxid) {
		if m, ok := x.room.members.byMXID[mxid]; ok && m.URI != "" {
			return m.URI, nil
		}
		g, err := x.Store.Ghost(x.ctx, mxid)
		return g.URI, err
	}
	if mxid == x.cfg.Bot && x.room.st.Channel != nil {
		return x.room.st.Channel.ID, nil
	}
	return x.face.actorID(mxid)
}

// advanceChannel carries out the wishes of members of a channel of another server, one commit an epoch: it is staged, stored and sent, and counts when the channel
// has taken it.
func (x *apStep) advanceChannel() error {
	v := x.room
	c := v.st.Channel
	if c == nil || c.Hub || x.thread == nil || v.pending != nil || c.Refused == int64(x.thread.Group.Epoch())+1 {
		return nil
	}
	for n := 0; n < len(v.intents) && v.pending == nil; {
		i := v.intents[n]
		done, err := x.carryOut(&i)
		if err != nil {
			return err
		}
		if done {
			x.closeIntents(i.Seq)
			continue
		}
		n++
	}
	return nil
}

// carryOut stages the commit of one wish. true: there is nothing to be done about it.
func (x *apStep) carryOut(i *store.Intent) (bool, error) {
	if i.Kind == intentAdd && x.goes(i.Target) {
		return false, nil // back before the channel has committed that they leave
	}
	there := x.thread.Actors()
	if slices.Contains(there, i.Target) == (i.Kind == intentAdd) || i.Kind != intentAdd && i.Kind != intentRemove {
		return true, nil
	}
	by := i.Actor
	if _, ok := x.thread.Leaf(by); !ok || by == i.Target {
		if by = x.anotherLeaf(i.Target); by == "" {
			if i.Kind == intentRemove && x.face.Site.Own(i.Target) {
				return true, x.proposeLeave(i.Target)
			}
			return true, nil
		}
	}
	blob := pendingBlob{Actor: by, User: i.Target}
	var add []*mls.KeyPackage
	var remove []string
	switch {
	case i.Kind == intentRemove:
		remove = []string{i.Target}
	case x.face.Site.Own(i.Target):
		key, err := x.ownPackage(i.Target)
		if err != nil {
			return false, err
		}
		add = []*mls.KeyPackage{key.KeyPackage}
		blob.Keys = []pendingKey{{Public: key.KeyPackage.Marshal(), Private: key.Private.Marshal()}}
	default:
		kp, err := x.packageOf(i.Target)
		if err != nil {
			if _, needs := err.(needPackage); needs { //nolint:errorlint // it is made one line above
				return false, err
			}
			d, _ := dataOf(i)
			x.declined(i.Target, d.Event, err)
			return true, nil
		}
		add = []*mls.KeyPackage{kp}
	}
	staged, err := x.thread.Stage(x.Rand, x.now, by, add, remove)
	if err != nil {
		return false, err
	}
	x.sendStaged(staged, blob, i)
	return false, nil
}

// anotherLeaf is an actor of ours in the group who can commit what is done to another.
func (x *apStep) anotherLeaf(than string) string {
	for _, leaf := range x.thread.Group.OwnLeaves() {
		if m, ok := x.thread.Group.Member(leaf); ok && string(m.Leaf.Credential.Identity) != than {
			return string(m.Leaf.Credential.Identity)
		}
	}
	return ""
}

func (x *apStep) sendStaged(staged *mls.Staged, blob pendingBlob, i *store.Intent) {
	v, c, site := x.room, x.room.st.Channel, x.face.Site
	blob.Staged, blob.Commit = staged.Marshal(), staged.Commit()
	env := ap.Envelope{ID: envelopeID(staged.Commit()) + "-m", Actor: blob.Actor, Published: x.now}
	body := site.ChannelRemove(env, c.ID, i.Target, staged.Commit())
	if i.Kind == intentAdd {
		body = site.ChannelAdd(env, c.ID, i.Target, staged.Commit(), staged.Welcome())
	}
	row := x.postOne(ap.Post{Inbox: c.Inbox, Body: body})
	ask(row, refChannelCommit, 0)
	hash := sha256.Sum256(staged.Commit())
	i.State = store.IntentStaged
	x.putIntent(*i)
	for n := range v.intents {
		if v.intents[n].Seq == i.Seq {
			v.intents[n] = *i
		}
	}
	v.pending = &store.PendingCommit{Room: v.head.ID, BaseEpoch: int64(staged.Epoch()) - 1, Kind: pendingMember, CommitHash: hash[:],
		Transcript: staged.ConfirmedTranscriptHash(), OutboundSeq: row.Seq, Intents: []int64{i.Seq}, Staged: mustJSON(blob), CreatedMS: x.nowMS()}
	x.fx.setPending = v.pending
}

// settleChannel takes our commit over: the channel took it, or sent it back.
func (x *apStep) settleChannel() error {
	v := x.room
	var blob pendingBlob
	if err := json.Unmarshal(v.pending.Staged, &blob); err != nil {
		return fmt.Errorf("read the commit under way: %w", err)
	}
	staged, err := x.thread.Group.LoadStaged(blob.Staged)
	if err != nil {
		return err
	}
	e, err := x.thread.Settle(x.now, staged)
	if err != nil {
		return err
	}
	x.apply(e)
	var keys []mls.JoinKey
	for _, k := range blob.Keys {
		public, err := mls.UnmarshalKeyPackage(k.Public)
		if err != nil {
			return err
		}
		private, err := mls.UnmarshalKeyPackagePrivate(k.Private)
		if err != nil {
			return err
		}
		keys = append(keys, mls.JoinKey{KeyPackage: public, Private: private})
	}
	if len(keys) > 0 {
		m, _, err := ap.ParseMLS(staged.Welcome())
		if err != nil {
			return err
		}
		more, err := x.thread.JoinMore(x.now, m.Welcome, keys)
		if err != nil {
			return err
		}
		x.apply(more)
	}
	if _, err := x.fresh("ap", hashKey(staged.Commit())); err != nil {
		return err
	}
	x.closeIntents(v.pending.Intents...)
	v.pending, x.fx.setPending, x.fx.dropPending = nil, nil, true
	x.release(int64(x.thread.Group.Epoch()))
	return x.place(e.Joined, e.Left, e.By)
}

// dropChannelPending forgets our commit: another one took its epoch, or the channel refused it. The wish behind it is tried again.
func (x *apStep) dropChannelPending() {
	v := x.room
	for _, i := range x.reopenIntents(v.pending.Intents, maxChannelTries) {
		d, _ := dataOf(&i)
		x.notice("A change of this channel met others too often and was given up.", d.Event)
	}
	v.pending, x.fx.setPending, x.fx.dropPending = nil, nil, true
	x.releaseAll()
}

// proposeLeave lets the last of ours go: a leaf cannot remove itself by a commit, so the channel commits what it proposes.
func (x *apStep) proposeLeave(actor string) error {
	e, err := x.thread.ProposeLeave(x.Rand, x.now, actor, false)
	if err != nil {
		return err
	}
	x.apply(e)
	return x.channelSay(actor, e.Proposal)
}

// goes tells whether somebody of ours has proposed to leave, which the channel has not committed.
func (x *apStep) goes(actor string) bool {
	leaf, ok := x.thread.Leaf(actor)
	return ok && slices.ContainsFunc(x.thread.Group.PendingProposals(), func(p mls.PendingProposal) bool {
		return p.Proposal.Type == mls.ProposalRemove && p.Proposal.Remove == leaf
	})
}

// overChannel forgets the group of a channel in which nobody of ours is any more. Those who came back before they were out have nobody
// who could bring them in again, and ask the channel.
func (x *apStep) overChannel() error {
	asks := false
	for _, i := range slices.Clone(x.room.intents) {
		x.closeIntents(i.Seq)
		mxid, ghost, err := x.mxid(i.Target)
		if i.Kind != intentAdd || err != nil || ghost || x.room.st.LeftMS > 0 {
			continue
		}
		if x.follow(i.Target, mxid) {
			asks = true
		} else {
			x.putOut(mxid, ghost, "removed from the channel")
		}
	}
	if !asks {
		x.notice("Nobody of this server is in the channel any more. What is said here does not reach it.", "")
	}
	x.forgetGroup()
	return nil
}

// onChannelCommitAnswer takes what a channel says of a commit of ours: it was accepted, another won, or it is not allowed.
func (x *apStep) onChannelCommitAnswer(a *store.Answer) error {
	v := x.room
	if v.pending == nil || v.pending.OutboundSeq != a.Seq || x.thread == nil {
		return nil // it came back before, or another won
	}
	if a.Class == "done" {
		return x.settleChannel()
	}
	if a.Status == 409 {
		v.st.Channel.Refused = int64(x.thread.Group.Epoch()) + 1
		x.dropChannelPending()
		x.fx.inputs = append(x.fx.inputs, store.NewInput{Room: v.head.ID, Kind: inputChannel, Source: taskGo, Epoch: -1, Body: mustJSON(channelTask{Do: taskGo}),
			NotBefore: x.now.Add(retryCommit).UnixMilli(), CreatedMS: x.nowMS()})
		return nil
	}
	why := "the channel does not allow it"
	if a.Class == store.OutcomeDead {
		why = "the channel's server did not answer"
	}
	seqs, refused := v.pending.Intents, []store.Intent(nil)
	for _, seq := range seqs {
		if i := x.intent(seq); i != nil {
			refused = append(refused, *i)
		}
	}
	x.dropChannelPending()
	x.closeIntents(seqs...)
	for n := range refused {
		if err := x.notMade(&refused[n], why); err != nil {
			return err
		}
	}
	return nil
}

// onChannelAnswer takes the outcome of a request of ours.
func (x *apStep) onChannelAnswer(a *store.Answer) error {
	v := x.room
	if asked, ok := strings.CutPrefix(a.Ref, refChannelUpdate); ok {
		var u channelUpdate
		switch {
		case v.st.Channel == nil || unmarshalString(asked, &u) != nil:
		case a.Class == "done":
			x.onUpdateAnswer(u, "")
		case a.Class == "dead":
			x.onUpdateAnswer(u, "the channel's server did not answer")
		default:
			x.onUpdateAnswer(u, "the channel does not allow it")
		}
		return nil
	}
	switch a.Ref {
	case refChannelCommit:
		return x.onChannelCommitAnswer(a)
	case refChannelSay:
		link, err := x.Store.LinkBySeq(x.ctx, v.head.ID, a.For)
		if err != nil {
			return ignoreNotFound(err)
		}
		x.failed(link.EventID, link.SenderMXID, "the channel did not take the message", a.Class == "dead")
	case refChannelFollow:
		if a.Class != "done" {
			return x.notLetIn("its server did not answer")
		}
	case refChannelPortal:
		return x.onChannelPortal(a)
	}
	return nil
}

// channelPortal asks for the Matrix room of a channel of another server; what follows is held until it is there. object is the channel as its Create shows it, or nil.
func (x *apStep) channelPortal(object ap.Object) error {
	v := x.room
	if v.head.MatrixRoomID != "" || v.st.Portal {
		return nil
	}
	change, err := ap.ReadChannelChange(object)
	if err != nil {
		return err
	}
	known, ok := x.face.personKnown(v.st.Channel.ID)
	if !ok {
		return needPerson{v.st.Channel.ID}
	}
	v.matrix.Name = cleanName(known.Name)
	if change.Name != nil && *change.Name != "" {
		v.matrix.Name = cleanName(*change.Name)
	}
	if change.Summary != nil {
		v.matrix.Topic = cutRunes(*change.Summary, 4096)
	}
	o := x.matrix(event.CreateRoom{Alias: x.Naming.MarkedAlias("channel", v.head.ID.String()), Name: v.matrix.Name, Topic: v.matrix.Topic, Preset: "private_chat",
		State: x.portalEncryption()})
	x.portalAsked(o, refChannelPortal)
	return nil
}

// onChannelPortal: the Matrix room of a channel was made.
func (x *apStep) onChannelPortal(a *store.Answer) error {
	var made struct {
		Room string `json:"room_id"`
	}
	if a.Class != "done" || json.Unmarshal(a.Body, &made) != nil || !event.ValidRoomID(id.RoomID(made.Room)) {
		x.Alert("portal", "the homeserver did not make the room of "+x.room.st.Channel.ID)
		return nil
	}
	x.room.head.MatrixRoomID = made.Room
	x.fx.names = append(x.fx.names, name{store.NameChannel, made.Room})
	x.fx.releaseHeld = true
	return nil
}
