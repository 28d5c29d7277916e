package relay

import (
	"fmt"
	"io"
	"slices"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/wire"
	"github.com/matrix-mimi/bridge/puppets"
)

// claim asks for the KeyPackages of a user who is to be added: as the hub its own provider, as a follower the hub, which
// must know where the Welcome goes (draft-ietf-mimi-protocol-06 §5.2).
// The request goes out at the end of the step, together with those for other users of the same provider.
func (s *step) claim(i *store.Intent, d intentData) error {
	d.Packages, d.Request, d.NotBefore = nil, nil, 0
	s.claims = append(s.claims, i.Seq)
	s.setIntent(i, store.IntentAsking, "", d)
	return nil
}

// claimRequest makes a request for KeyPackages, still to be signed with the key.
func (s *step) claimRequest(k claimKey, target string) (*wire.KeyMaterialRequest, *mls.SignatureKey, error) {
	v := s.room
	_, client, err := s.clientOfURI(s.ctx, k.requester)
	if err != nil {
		return nil, nil, err
	}
	suite := s.cfg.Suite
	if v.group != nil {
		suite = v.group.Suite()
	}
	suites, err := s.distinct(suite)
	if err != nil {
		return nil, nil, err
	}
	return &wire.KeyMaterialRequest{RequestingUser: wire.IdentifierURI(client.UserURI), TargetUser: wire.IdentifierURI(target), RoomID: v.uri(),
		AcceptableSuites: suites, RequiredCapabilities: s.required(), RequesterCredential: client.Credential}, client.Key, nil
}

// claimOne asks for the KeyPackages of one user.
func (s *step) claimOne(k claimKey, i *store.Intent) error {
	d, err := dataOf(i)
	if err != nil {
		return err
	}
	q, key, err := s.claimRequest(k, i.Target)
	if err != nil {
		return err
	}
	if err := q.Sign(key); err != nil {
		return fmt.Errorf("ask for KeyPackages of %s: %w", i.Target, err)
	}
	d.Request, d.Packages, d.Claim = q.Marshal(), nil, 0
	o := s.mimi(k.to, verbKeyMaterial, d.Request)
	o.Target = i.Target
	ask(o, refClaim, i.Seq)
	s.setIntent(i, store.IntentAsking, "", d)
	return nil
}

// distinct lists a ciphersuite and some reserved values that mean nothing (RFC 9420 §13.5). A request has no number of its
// own, and a provider gives the same request the same answer: without them a user who is added a second time would be given
// the KeyPackage of the first.
func (s *step) distinct(suite mls.Suite) ([]mls.Suite, error) {
	var b [8]byte
	if _, err := io.ReadFull(s.Rand, b[:]); err != nil {
		return nil, err
	}
	list := []mls.Suite{suite}
	for _, c := range b {
		v := mls.Suite(c%15)<<4 | 0x0a
		list = append(list, v<<8|v)
	}
	return list, nil
}

// required are the capabilities that a client must have in this room: it must read the credentials that are given out here.
func (s *step) required() mls.RequiredCapabilities {
	c := s.requiredByRoom()
	if s.cfg.X509 && !slices.Contains(c.Credentials, mls.CredentialX509) {
		c.Credentials = append(slices.Clone(c.Credentials), mls.CredentialX509)
	}
	return c
}

func (s *step) requiredByRoom() mls.RequiredCapabilities {
	if g := s.room.group; g != nil {
		if data, ok := g.Context().Extensions.Find(mls.ExtensionRequiredCapabilities); ok {
			if c, err := mls.UnmarshalRequiredCapabilities(data); err == nil {
				return c
			}
		}
	}
	return requiredCapabilities()
}

// onClaim takes the answer to a request for KeyPackages.
func (s *step) onClaim(a *store.Answer) error {
	i := s.intent(a.For)
	if i == nil || i.State != store.IntentAsking {
		return nil // the wish was taken back
	}
	d, err := dataOf(i)
	if err != nil {
		return err
	}
	packages, why := s.readClaim(a, d)
	if _, err := s.claimed(i, d, packages, why); err != nil {
		return err
	}
	return s.openOn()
}

// claimed goes on with a wish whose user was asked for: with the KeyPackages, by asking for consent, or not at all. gone says
// that the wish is given up.
func (s *step) claimed(i *store.Intent, d intentData, packages [][]byte, why string) (gone bool, err error) {
	d.Request, d.Claim = nil, 0
	if why == whyNoConsent && !d.Consent {
		return false, s.askConsent(i, d)
	}
	if why != "" {
		s.refuse(*i, d, why)
		s.closeIntents(i.Seq)
		return true, nil
	}
	d.Packages = packages
	s.setIntent(i, store.IntentOpen, "", d)
	return false, nil
}

// readClaim checks an answer and returns the KeyPackages in it, or says why there are none.
func (s *step) readClaim(a *store.Answer, d intentData) (packages [][]byte, why string) {
	if a.Class != "done" {
		if a.Class == "dead" {
			return nil, "their provider could not be reached"
		}
		return nil, "their provider refused"
	}
	asked, err := wire.UnmarshalKeyMaterialRequest(d.Request)
	if err != nil {
		return nil, "the request was lost"
	}
	q, err := asked.Check()
	if err != nil {
		return nil, "the request was lost"
	}
	received, err := wire.UnmarshalKeyMaterialResponse(a.Body)
	if err != nil {
		return nil, "their provider's answer was not understood"
	}
	answer, err := received.Check(q)
	if err != nil {
		return nil, "their provider's answer was not understood"
	}
	return s.packagesOf(answer)
}

// packagesOf returns the KeyPackages of an answer that was checked, or says why there are none.
func (s *step) packagesOf(answer *wire.KeyMaterialResponse) (packages [][]byte, why string) {
	for _, r := range answer.Refused {
		s.Log.Warn().Err(r.Reason).Stringer("room", s.room.head.ID).Str("client", string(r.ClientURI)).Msg("a KeyPackage was not accepted")
	}
	for _, c := range answer.Clients {
		if c.Status != wire.ClientSuccess || !c.KeyPackage.Leaf.Lifetime.Contains(uint64(s.now.Unix())) {
			continue
		}
		if !credentialOf(&c.KeyPackage.Leaf, answer.UserURI) {
			continue
		}
		packages = append(packages, c.KeyPackage.Marshal())
	}
	if len(packages) == 0 {
		return nil, noMaterial(answer.UserStatus)
	}
	if s.room.head.Kind == store.RoomHub {
		s.remember(answer, answer.UserURI.Domain())
	}
	return packages, ""
}

// remember notes where the Welcomes for KeyPackages go (T13), of those that are the user's: a provider that answers with another's
// would draw the Welcomes for that one to itself.
func (s *step) remember(answer *wire.KeyMaterialResponse, provider string) {
	until := uint64(s.now.Add(routeFor).Unix())
	for _, c := range answer.Clients {
		if c.Status == wire.ClientSuccess && credentialOf(&c.KeyPackage.Leaf, answer.UserURI) {
			s.fx.routes = append(s.fx.routes, store.Route{Ref: c.KeyPackage.Ref(), Provider: provider, Client: string(c.ClientURI),
				UntilMS: int64(min(c.KeyPackage.Leaf.Lifetime.NotAfter, until)) * 1000})
		}
	}
}

// routeFor is how long it is remembered at most where the Welcome for a KeyPackage goes, whatever its lifetime says.
const routeFor = puppets.Lifetime

// noMaterial says in people's words why there is no KeyPackage.
func noMaterial(code wire.KeyMaterialUserCode) string {
	switch code {
	case wire.KeyMaterialUserUnknown:
		return "nobody is known by this name"
	case wire.KeyMaterialUserDeleted:
		return "this user does not exist any more"
	case wire.KeyMaterialNoConsent, wire.KeyMaterialNoConsentForThisRoom:
		return whyNoConsent
	case wire.KeyMaterialIncompatibleProtocol, wire.KeyMaterialNoCompatibleMaterial:
		return "their devices cannot take part in this room"
	}
	return "they cannot be reached now"
}
