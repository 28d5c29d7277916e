package relay

import (
	"fmt"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// maxClaims is how many users are asked for in one request: fewer than a provider has to answer for.
const maxClaims = 50

// claimKey is what users who are asked for together have in common.
type claimKey struct{ to, domain, requester string }

// keyOf says whom to ask for the KeyPackages of a wish, and in whose name.
func (s *step) keyOf(i *store.Intent) claimKey {
	domain := wire.IdentifierURI(i.Target).Domain()
	k := claimKey{to: domain, domain: domain, requester: s.requesterOf(i)}
	if s.room.head.Kind == store.RoomFollower {
		k.to = s.room.head.Hub
	}
	return k
}

// gather lets an invitation wait a moment for others that go to the same provider, where it can be asked for all of them at
// once.
func (s *step) gather(user string, d *intentData) {
	to := wire.IdentifierURI(user).Domain()
	if s.room.head.Kind == store.RoomFollower {
		to = s.room.head.Hub
	}
	if s.cfg.Combine <= 0 || !s.mayShare(to, verbKeyMaterials) {
		return
	}
	for n := range s.room.intents {
		had, err := dataOf(&s.room.intents[n])
		if err == nil && s.room.intents[n].Kind == intentAdd && had.NotBefore > s.nowMS() {
			d.NotBefore = had.NotBefore
			return
		}
	}
	d.NotBefore = s.now.Add(s.cfg.Combine).UnixMilli()
	s.later(timerGo, d.NotBefore)
}

// askClaims sends what the step wants to claim: one request for all users of a provider where that can be, and otherwise one a
// user.
func (s *step) askClaims() error {
	var order []claimKey
	groups := map[claimKey][]*store.Intent{}
	for _, seq := range s.claims {
		i := s.intent(seq)
		if i == nil || i.State != store.IntentAsking {
			continue
		}
		k := s.keyOf(i)
		if len(groups[k]) == 0 {
			order = append(order, k)
		}
		groups[k] = append(groups[k], i)
	}
	s.claims = nil
	for _, k := range order {
		for list := groups[k]; len(list) > 0; {
			n := min(len(list), maxClaims)
			if n == 1 || !s.mayShare(k.to, verbKeyMaterials) {
				n = 1
				if err := s.claimOne(k, list[0]); err != nil {
					return err
				}
			} else if err := s.claimMany(k, list[:n]); err != nil {
				return err
			}
			list = list[n:]
		}
	}
	return nil
}

// claimMany asks for the KeyPackages of several users in one request (docs/extensions.md).
func (s *step) claimMany(k claimKey, list []*store.Intent) error {
	one, key, err := s.claimRequest(k, "")
	if err != nil {
		return err
	}
	q := &wire.KeyMaterialsRequest{KeyMaterialRequest: *one}
	for _, i := range list {
		q.TargetUsers = append(q.TargetUsers, wire.IdentifierURI(i.Target))
	}
	if err := q.Sign(key); err != nil {
		return fmt.Errorf("ask for KeyPackages of %d users: %w", len(list), err)
	}
	body := q.Marshal()
	o := s.mimi(k.to, verbKeyMaterials, body)
	o.Target = providerURI(k.domain)
	ask(o, refClaims, 0)
	seq := o.Seq
	for _, i := range list {
		d, err := dataOf(i)
		if err != nil {
			return err
		}
		d.Request, d.Packages, d.Claim = body, nil, seq
		s.setIntent(i, store.IntentAsking, "", d)
	}
	return nil
}

// onClaims takes the answer to a request for several users. Who is absent from it, or all when the request was not taken, is
// asked for alone.
func (s *step) onClaims(a *store.Answer) error {
	var answers map[string]*wire.KeyMaterialResponse
	for n := 0; n < len(s.room.intents); n++ {
		i := &s.room.intents[n]
		if i.Kind != intentAdd || i.State != store.IntentAsking {
			continue
		}
		d, err := dataOf(i)
		if err != nil {
			return err
		}
		if d.Claim != a.Seq {
			continue
		}
		if answers == nil {
			answers = s.readClaims(a, d)
		}
		answer := answers[i.Target]
		if answer == nil && a.Class != "dead" {
			if err := s.claimOne(s.keyOf(i), i); err != nil {
				return err
			}
			continue
		}
		packages, why := [][]byte(nil), "their provider could not be reached"
		if answer != nil {
			packages, why = s.packagesOf(answer)
		}
		gone, err := s.claimed(i, d, packages, why)
		if err != nil {
			return err
		}
		if gone {
			n--
		}
	}
	return s.openOn()
}

// readClaims returns the answers to a request for several users, by target as it was asked for; none when it was not taken.
func (s *step) readClaims(a *store.Answer, d intentData) map[string]*wire.KeyMaterialResponse {
	out := map[string]*wire.KeyMaterialResponse{}
	asked, err := wire.UnmarshalKeyMaterialsRequest(d.Request)
	if err != nil || a.Class != "done" {
		return out
	}
	q, err := asked.Check()
	if err != nil {
		return out
	}
	list, err := readKeyMaterials(a.Body, q)
	if err != nil {
		s.Log.Warn().Err(err).Stringer("room", s.room.head.ID).Msg("an answer about several users was not understood")
		return out
	}
	for i, answer := range list {
		if answer != nil {
			out[string(q.TargetUsers[i])] = answer
		}
	}
	return out
}
