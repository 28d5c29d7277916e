package relay

import (
	"context"
	"strings"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/puppets"
)

const (
	// commitAfter is how long proposals wait for somebody else to commit them.
	commitAfter = 10 * time.Second
	// renewGap is the least time between two renewals in a room, so that one with many leaves of ours is not flooded.
	renewGap = time.Minute
	// maxEpochMessages is after how many messages in an epoch the sender's keys are renewed.
	maxEpochMessages = 100_000
	// stockEvery is how often stocks of KeyPackages are looked after.
	stockEvery = 10 * time.Minute
)

// resyncEvery is the time until joining anew is tried again: longer with every try.
func resyncEvery(r *resync) time.Duration {
	tries := 0
	if r != nil {
		tries = min(r.Tries, 7)
	}
	return min(5*time.Second<<tries, 10*time.Minute)
}

// onTimer does what a time that has come is for. Timers are never taken back: one whose reason is gone does nothing.
func (s *step) onTimer(what string) error {
	v := s.room
	switch what {
	case timerPending:
		if v.pending == nil || s.nowMS() >= v.st.PendingUntil {
			s.release(v.head.Epoch + 1)
		}
	case timerGo:
		return s.claimOpen() // advance does the rest
	case timerAsk:
		return s.askEvidence()
	case timerWaiting:
		return s.onWaitingTooLong()
	case timerResync:
		switch {
		case v.pending != nil:
			if v.st.Resync != nil {
				s.later(timerResync, s.now.Add(resyncEvery(v.st.Resync)).UnixMilli())
			}
		case v.head.State == stateDesynced || v.st.Resync != nil:
			return s.tryResync()
		}
	case timerCommit:
		if v.group != nil && v.head.State == stateActive && len(s.commitable()) > 0 && s.willCommit() {
			s.wish(intentCommit, "", "", intentData{})
		}
	case timerRenew:
		return s.renewDue()
	case timerUpgrade:
		s.tryUpgrade()
	case timerReport:
		return s.onReport()
	case timerProfiles:
		s.wantProfiles()
	case timerLinks:
		return s.onLinkEnds()
	case timerCatchUp:
		return s.onCatchUp()
	case timerJoin:
		return s.tryJoin()
	case timerPortal:
		if v.group != nil && v.head.MatrixRoomID == "" {
			v.st.Portal = false
			return s.makePortal(cause{})
		}
	case timerCheck:
		return s.checkDue()
	default:
		if what == timerUploads || strings.HasPrefix(what, timerFile) {
			return s.onFileTimer(what)
		}
		if mimiID, ok := strings.CutPrefix(what, timerExpire); ok {
			return s.onExpire(mimiID)
		}
		if wish, ok := strings.CutPrefix(what, timerConsent); ok {
			return s.onConsentTimeout(wish)
		}
	}
	return nil
}

// busyPause is how soon a room is looked at again that was in the middle of something.
const busyPause = time.Minute

// checkAgain sets the time for the next comparison with the Matrix room. The one before is not valid any more. Rooms differ by up to a
// quarter: those that were all due when the bridge came back do not ask the homeserver all at once ever after.
func (s *step) checkAgain(after time.Duration) {
	every := s.cfg.Consistency
	every -= every / 4 * time.Duration(s.room.head.ID.Shard()) / store.Shards
	s.room.st.CheckAt = s.now.Add(min(after, every)).UnixMilli()
	s.later(timerCheck, s.room.st.CheckAt)
}

// checkDue lets the Matrix room be read, to be compared.
func (s *step) checkDue() error {
	v := s.room
	if v.group == nil || v.head.MatrixRoomID == "" || s.nowMS() < v.st.CheckAt {
		return nil
	}
	waiting, err := s.waitingForMatrix()
	if err != nil {
		return err
	}
	if waiting {
		s.checkAgain(busyPause)
		return nil
	}
	s.readRoom()
	s.wantProfiles()
	s.checkAgain(s.cfg.Consistency)
	return nil
}

// waitingForMatrix tells whether something was decided about the Matrix room that is not done there yet.
func (s *step) waitingForMatrix() (bool, error) {
	head, err := s.Store.LaneRows(s.ctx, store.Lane{Room: s.room.head.ID, Dest: destMatrix}, 1, 1)
	return len(head.Rows) > 0, err
}

// willCommit tells whether a client of ours can commit the proposals that wait: one that does not leave itself.
func (s *step) willCommit() bool {
	for _, leaf := range s.room.group.OwnLeaves() {
		if len(s.room.group.Committable(leaf)) > 0 && !s.leaves(uint32(leaf)) {
			return true
		}
	}
	return false
}

// onWaitingTooLong: what items of the fan-out wait for has not come in time.
func (s *step) onWaitingTooLong() error {
	v := s.room
	if v.head.Kind != store.RoomFollower || v.head.State != stateActive {
		return nil
	}
	list, err := s.Store.InputsIn(s.ctx, v.head.ID, store.InputWaiting, 16)
	if err != nil {
		return err
	}
	for i := range list {
		if (list[i].Kind == inputNotify || list[i].Kind == inputAgain) && s.cfg.Waiting.Expired(store.Time(list[i].CreatedMS), s.now) {
			return s.resync("a commit of the room did not come")
		}
	}
	return nil
}

// ownUsers are the users of ours with a client in the group, with the time their keys were last renewed.
func (s *step) ownUsers() (leaves []puppets.Leaf, users map[uint32]string) {
	v := s.room
	users = map[uint32]string{}
	for _, leaf := range v.group.OwnLeaves() {
		id, ok := v.leaves.Who(leaf)
		if !ok {
			continue
		}
		user := s.listedURI(id.User)
		at, known := v.renewed[user]
		if !known {
			at = v.st.RenewedAll
		}
		leaves = append(leaves, puppets.Leaf{Index: uint32(leaf), Renewed: time.Unix(at, 0)})
		users[uint32(leaf)] = user
	}
	return leaves, users
}

// renewDue renews the keys of the leaf of ours that is due longest, and sets the time for the next.
func (s *step) renewDue() error {
	v := s.room
	if v.group == nil || v.head.State == stateClosed {
		return nil
	}
	if v.head.State == stateActive && v.pending == nil {
		leaves, users := s.ownUsers()
		if leaf, ok := puppets.DueLeaf(leaves, s.now, s.cfg.Renew); ok {
			user := users[leaf.Index]
			s.wish(intentRenew, user, user, intentData{})
		}
	}
	s.scheduleCare()
	return nil
}

// scheduleCare sets the time for the next renewal.
func (s *step) scheduleCare() {
	if s.room.group == nil {
		return
	}
	leaves, _ := s.ownUsers()
	next := puppets.NextRenewal(leaves, s.cfg.Renew)
	if next.IsZero() {
		next = s.now.Add(s.cfg.Renew)
	}
	if soon := s.now.Add(renewGap); next.Before(soon) {
		next = soon
	}
	s.later(timerRenew, next.UnixMilli())
}

// refreshKeys renews the keys of all clients of ours before anything is sent, after a restore (T17): what was sent after the
// backup was made may have used the same ratchets.
func (s *step) refreshKeys() {
	v := s.room
	v.head.Refresh = false
	v.forgetRenewed(0)
	for _, leaf := range v.group.OwnLeaves() {
		if id, ok := v.leaves.Who(leaf); ok {
			user := s.listedURI(id.User)
			s.wish(intentRenew, user, user, intentData{})
			if v.head.Kind == store.RoomFollower {
				// One commit makes a new epoch with new ratchets for all; the other leaves follow in their turn.
				break
			}
		}
	}
	s.later(timerPending, s.now.Add(s.cfg.PendingWait).UnixMilli())
	s.scheduleCare()
}

// leaves tells whether a leaf is about to leave.
func (s *step) leaves(leaf uint32) bool {
	for _, p := range s.room.group.PendingProposals() {
		if p.Proposal.Type == mls.ProposalSelfRemove && uint32(p.Sender.Leaf) == leaf {
			return true
		}
	}
	return false
}

// careLoop looks after what belongs to no room: stocks of KeyPackages, and rooms to be refreshed after a restore.
func (r *Relay) careLoop(ctx context.Context) {
	for {
		if err := r.FillStocks(ctx); err != nil && ctx.Err() == nil {
			r.Log.Warn().Err(err).Msg("the stocks of KeyPackages were not looked after")
		}
		if !sleep(ctx, stockEvery) {
			return
		}
	}
}

// FillStocks makes the KeyPackages that bridged users lack (T12).
func (r *Relay) FillStocks(ctx context.Context) error {
	after := ""
	for {
		users, err := r.Store.Users(ctx, after, 100)
		if err != nil || len(users) == 0 {
			return err
		}
		for _, u := range users {
			if u.State == userActive {
				if err := r.fillStock(ctx, u.MXID); err != nil {
					return err
				}
			}
			after = u.MXID
		}
	}
}

// renewed notes whose keys a commit of ours renewed: a path renews the committer's leaf.
func (s *step) renewed(p *plan) {
	if p.renews() {
		s.noteRenewal(p.committer)
	}
}

func (s *step) noteRenewal(user string) {
	s.room.setRenewed(user, s.now.Unix())
}
