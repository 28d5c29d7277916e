package relay

import (
	"bytes"
	"errors"
	"slices"
	"strconv"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Wishes to add somebody of another provider that wait for that one's consent.

// usePackages takes the KeyPackages of a grant for a wish, those that fit the room and were not used before. Where none is
// left some are claimed.
func (s *step) usePackages(i *store.Intent, packages [][]byte) (use [][]byte) {
	if s.room.head.Kind != store.RoomHub {
		return nil
	}
	suite, required := s.cfg.Suite, s.required()
	if g := s.room.group; g != nil {
		suite = g.Suite()
	}
	target := wire.IdentifierURI(i.Target)
	for _, raw := range packages {
		kp, err := mls.UnmarshalKeyPackage(raw)
		if err != nil || kp.Suite != suite || !kp.Leaf.Lifetime.Contains(uint64(s.now.Unix())) || !credentialOf(&kp.Leaf, target) ||
			!kp.Leaf.Capabilities.Supports(&required) {
			continue
		}
		ref := kp.Ref()
		if _, err := s.Store.Route(s.ctx, ref); !errors.Is(err, store.ErrNotFound) ||
			slices.ContainsFunc(s.fx.routes, func(r store.Route) bool { return bytes.Equal(r.Ref, ref) }) {
			continue
		}
		s.fx.routes = append(s.fx.routes, store.Route{Ref: ref, Provider: target.Domain(),
			UntilMS: int64(min(kp.Leaf.Lifetime.NotAfter, 1<<40)) * 1000})
		use = append(use, raw)
	}
	return use
}

// askConsent asks somebody who may not be added without their word, once for each wish. The ghost stays invited meanwhile.
func (s *step) askConsent(i *store.Intent, d intentData) error {
	d.Consent, d.Request, d.Packages = true, nil, nil
	s.consentEntry(i, wire.ConsentRequest, store.ConsentRequested)
	s.setIntent(i, store.IntentAsking, "", d)
	s.later(timerConsent+strconv.FormatInt(i.Seq, 10), s.now.Add(s.cfg.InviteTimeout).UnixMilli())
	s.tell(d, s.nameOf(i.Target)+" was asked for permission and is added when they agree.")
	return nil
}

// consentEntry sends a request or its end for a wish, and writes it down.
func (s *step) consentEntry(i *store.Intent, op wire.ConsentOperation, state string) {
	requester := s.requesterOf(i)
	target := wire.IdentifierURI(i.Target)
	e := &wire.ConsentEntry{Operation: op, RequesterURI: wire.IdentifierURI(requester), TargetURI: target, RoomID: s.room.uri()}
	s.mimi(target.Domain(), verbRequestConsent, e.Marshal()).Target = i.Target
	s.fx.consents = append(s.fx.consents, store.Consent{Direction: store.Out, Owner: target.Key(), Requester: e.RequesterURI.Key(),
		Room: s.room.uri().Key(), State: state, UpdatedMS: s.nowMS()})
}

// requesterOf is who asks for the KeyPackages of a wish: who made it, or the bot.
func (s *step) requesterOf(i *store.Intent) string {
	if i.Actor != "" && s.own(i.Actor) {
		return i.Actor
	}
	return s.bot
}

// asksConsent tells whether a wish waits for somebody's consent.
func asksConsent(i *store.Intent) (intentData, bool) {
	d, err := dataOf(i)
	return d, err == nil && i.Kind == intentAdd && i.State == store.IntentAsking && d.Consent && len(d.Request) == 0
}

// consentAnswered goes on with the wishes that waited for somebody's word.
func (s *step) consentAnswered(w consentWork, given bool) error {
	for n := 0; n < len(s.room.intents); n++ {
		i := &s.room.intents[n]
		d, ok := asksConsent(i)
		if !ok || !wire.IdentifierURI(i.Target).Same(wire.IdentifierURI(w.Other)) {
			continue
		}
		if given {
			d.Packages = s.usePackages(i, w.Packages)
			s.setIntent(i, store.IntentOpen, "", d)
			continue
		}
		s.refuse(*i, d, whyNoConsent)
		s.closeIntents(i.Seq)
		n--
	}
	if given {
		if err := s.claimOpen(); err != nil {
			return err
		}
	}
	return s.openOn()
}

// onConsentTimeout: somebody did not answer in time.
func (s *step) onConsentTimeout(number string) error {
	seq, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return nil
	}
	i := s.intent(seq)
	if i == nil {
		return nil
	}
	d, ok := asksConsent(i)
	if !ok {
		return nil
	}
	s.consentEntry(i, wire.ConsentCancel, store.ConsentCancelled)
	s.refuse(*i, d, "they did not answer")
	s.closeIntents(seq)
	return s.openOn()
}

// takeBackConsent ends the request of a wish that is taken back.
func (s *step) takeBackConsent(i *store.Intent) {
	if _, ok := asksConsent(i); ok {
		s.consentEntry(i, wire.ConsentCancel, store.ConsentCancelled)
	}
}
