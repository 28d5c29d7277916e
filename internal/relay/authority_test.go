package relay

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/credential"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/wire"
	"github.com/matrix-mimi/bridge/puppets"
)

// certified makes a pair of which the named bridges give their users certificates.
func certified(t *testing.T, m mode, domains ...string) *pair {
	p := newPair(t, m)
	for _, d := range domains {
		p.nodes[d].certify(true)
	}
	return p
}

func (n *node) certify(on bool) {
	n.conf.X509 = on
	n.start()
}

// shows lists the kinds of credentials that the users of a domain show in a room, by what n knows of it.
func (n *node) shows(r *hsRoom, domain string) (kinds []mls.CredentialType) {
	for _, m := range n.view(r).group.Members() {
		if id, ok := identityOf(m.Leaf); ok && id.Domain() == domain {
			kinds = append(kinds, m.Leaf.Credential.Type)
		}
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}

// certificates returns those in a room, by client.
func (n *node) certificates(r *hsRoom) map[string]*x509.Certificate {
	out := map[string]*x509.Certificate{}
	for _, m := range n.view(r).group.Members() {
		if m.Leaf.Credential.Type != mls.CredentialX509 {
			continue
		}
		cert, err := x509.ParseCertificate(m.Leaf.Credential.Certificates[0])
		if err != nil {
			n.w.t.Fatal(err)
		}
		id, _ := identityOf(m.Leaf)
		out[string(id.Client)] = cert
	}
	return out
}

// Two bridges of which the one, the other or both certify their users share a room: messages, joins and renewals go both ways.
func TestCertificates(t *testing.T) {
	basic, certs := []mls.CredentialType{mls.CredentialBasic}, []mls.CredentialType{mls.CredentialX509}
	for name, who := range map[string]struct{ a, b []mls.CredentialType }{
		"hub": {certs, basic}, "follower": {basic, certs}, "both": {certs, certs},
	} {
		t.Run(name, func(t *testing.T) {
			modes(t, func(t *testing.T, m mode) {
				var domains []string
				if who.a[0] == mls.CredentialX509 {
					domains = append(domains, "a.example")
				}
				if who.b[0] == mls.CredentialX509 {
					domains = append(domains, "b.example")
				}
				p := certified(t, m, domains...).begin()
				p.talk(1)
				carol, dave := p.a.hs.mxid("carol"), p.b.hs.mxid("dave")
				p.b.hs.users[dave] = true
				p.a.hs.invite(p.room, p.alice, carol)
				p.a.hs.join(p.room, carol)
				p.b.hs.invite(p.portal, p.bob, dave)
				p.b.hs.join(p.portal, dave)
				p.settle()
				p.talk(2)
				for _, n := range []*node{p.a, p.b} {
					r := map[*node]*hsRoom{p.a: p.room, p.b: p.portal}[n]
					p.equal("A's leaves at "+n.domain, n.shows(r, "a.example"), who.a)
					p.equal("B's leaves at "+n.domain, n.shows(r, "b.example"), who.b)
				}
				p.agree(map[*node]*hsRoom{p.a: p.room, p.b: p.portal})
				p.noTrouble()
			})
		})
	}
}

// Certificates are renewed with the keys of their leaves, long before they end, and say what the documentation says.
func TestCertificatesAreRenewed(t *testing.T) {
	p := certified(t, warm, "a.example", "b.example").begin()
	p.talk(1)
	first := p.b.certificates(p.portal)
	if len(first) != 3 {
		t.Fatalf("%d certificates, want those of bot, alice and bob", len(first))
	}
	alice := first["mimi://a.example/d/alice/bridge"]
	var names []string
	for _, u := range alice.URIs {
		names = append(names, u.String())
	}
	p.equal("names", names, []string{"mimi://a.example/d/alice/bridge", "mimi://a.example/u/alice", "acct:alice@a.example"})
	for range 15 {
		p.pass(7 * 24 * time.Hour)
	}
	p.talk(2)
	for client, cert := range p.b.certificates(p.portal) {
		if cert.Equal(first[client]) || cert.NotAfter.Sub(p.now) < puppets.Lifetime/2 {
			t.Errorf("the certificate of %s was not renewed: it ends %v", client, cert.NotAfter)
		}
	}
	if p.now.Before(alice.NotAfter) {
		t.Error("the first certificates have not ended yet")
	}
	p.agree(map[*node]*hsRoom{p.a: p.room, p.b: p.portal})
	p.noTrouble()
}

// A bridge that begins to certify its users shows it in rooms that are there, and one that stops does so too.
func TestCertificatesBeginAndEnd(t *testing.T) {
	p := newPair(t, warm).begin()
	p.talk(1)
	p.a.certify(true)
	p.pass(8 * 24 * time.Hour)
	p.equal("A's leaves", p.b.shows(p.portal, "a.example"), []mls.CredentialType{mls.CredentialX509})
	p.talk(2)
	p.a.certify(false)
	p.pass(8 * 24 * time.Hour)
	p.equal("A's leaves", p.b.shows(p.portal, "a.example"), []mls.CredentialType{mls.CredentialBasic})
	p.talk(3)
	p.noTrouble()
}

// A provider whose certificates cannot be judged yet keeps a room waiting, not broken; what it published once is remembered.
func TestCertificatesOfASilentProvider(t *testing.T) {
	p := certified(t, warm, "a.example")
	p.b.silent = map[string]bool{"a.example": true}
	p.room = p.a.hs.create(p.alice, "Tea", "about tea")
	p.a.hs.invite(p.room, p.alice, p.bobAtA)
	p.settle()
	if p.b.hs.roomOf(p.bob, "invite") != nil {
		t.Fatal("a room was joined whose members cannot be judged")
	}
	p.b.silent = nil
	p.pass(10 * time.Minute)
	p.bobJoins()
	p.talk(1)
	p.b.silent = map[string]bool{"a.example": true}
	p.b.start()
	carol := p.a.hs.mxid("carol")
	p.a.hs.invite(p.room, p.alice, carol)
	p.a.hs.join(p.room, carol)
	p.settle()
	p.equal("carol's ghost", p.portal.members[p.b.ghost("mimi://a.example/u/carol")], "join")
	p.noTrouble()
}

// A new authority of a provider is learned when its first certificate comes.
func TestAuthorityIsReplaced(t *testing.T) {
	p := certified(t, warm, "a.example").begin()
	p.talk(1)
	p.now = p.now.Add(credential.AuthorityLife - credential.AuthorityRest + time.Hour)
	p.a.start()
	if n := len(p.a.relay.Authorities()); n != 2 {
		t.Fatalf("%d authorities, want the old and the new one", n)
	}
	p.pass(8 * 24 * time.Hour)
	p.talk(2)
	issuer := p.a.relay.authorities[1].Certificate
	for client, cert := range p.b.certificates(p.portal) {
		if err := cert.CheckSignatureFrom(issuer); err != nil {
			t.Errorf("%s: %v", client, err)
		}
	}
	p.noTrouble()
}

// Where an operator demands certificates of a provider, its users are not let in without.
func TestCertificatesAreDemanded(t *testing.T) {
	p := newPair(t, warm)
	p.a.demand = true
	p.room = p.a.hs.create(p.alice, "Tea", "about tea")
	p.a.hs.invite(p.room, p.alice, p.bobAtA)
	p.settle()
	if p.b.hs.roomOf(p.bob, "invite") != nil {
		t.Fatal("bob was let in with a basic credential")
	}
	p.b.certify(true)
	p.a.hs.invite(p.room, p.alice, p.bobAtA)
	p.settle()
	if p.portal = p.b.hs.roomOf(p.bob, "invite"); p.portal == nil {
		t.Fatalf("bob was not invited; A %q", p.a.hs.rows)
	}
}

// The judge: a credential that is good, and all that is wrong with others. The table of forged certificates themselves is
// TestForged in mimiside/credential.
func TestJudgeOfCertificates(t *testing.T) {
	p := certified(t, warm, "a.example", "b.example")
	c, err := p.b.relay.client(t.Context(), p.bob)
	if err != nil {
		t.Fatal(err)
	}
	check := mls.CredentialCheck{Credential: &c.Credential, SignatureKey: c.Key.Public(), Use: mls.CredentialOfMember, Now: p.now}
	j := &judge{r: p.a.relay}
	if err := j.validate(check); !errors.Is(err, credential.ErrUntrusted) || !j.lacks["b.example"] {
		t.Errorf("before anything is known: %v, lacks %v", err, j.lacks)
	}
	if err := p.a.relay.checkCredential(t.Context(), &c.Credential, c.Key.Public()); err != nil {
		t.Errorf("good: %v", err)
	}
	if err := p.a.relay.checkCredential(t.Context(), &c.Credential, make([]byte, 32)); !errors.Is(err, credential.ErrKey) {
		t.Errorf("another key: %v", err)
	}
	alice, err := p.a.relay.client(t.Context(), p.alice)
	if err != nil {
		t.Fatal(err)
	}
	check.Replaces = &alice.Credential
	if err := j.validate(check); !errors.Is(err, errCredential) {
		t.Errorf("another user's place: %v", err)
	}
	// The authority of A says something about a user of B.
	forged, _, err := p.a.relay.authorities[0].Issue(p.now, credential.Subject{User: c.UserURI, Client: c.ClientURI, Key: c.Key}, puppets.Lifetime)
	if err != nil {
		t.Fatal(err)
	}
	asked := p.a.asked
	p.now = p.now.Add(2 * issuersFresh)
	if err := p.a.relay.checkCredential(t.Context(), &forged, c.Key.Public()); !errors.Is(err, credential.ErrUntrusted) {
		t.Errorf("of another provider's authority: %v", err)
	}
	if p.a.asked != asked+1 {
		t.Errorf("B was asked %d times for new authorities, want once", p.a.asked-asked)
	}
}

// Who presents somebody else's certificate does not make the hub ask their provider.
func TestStrangersCertificateIsNotLookedInto(t *testing.T) {
	p := certified(t, warm, "b.example").begin()
	ctx := context.Background()
	bob, err := p.b.relay.client(ctx, p.bob)
	must0(t, err)
	p.a.relay.issuers = nil
	asked := p.a.asked
	for peer, want := range map[string]int{"c.example": 0, "b.example": 1} {
		_, public, err := mls.GenerateKeyPair(rand.Reader, bob.Key.Suite())
		must0(t, err)
		q := &wire.GroupInfoRequest{Credential: bob.Credential, PublicKey: public}
		must0(t, q.Sign(bob.Key))
		_, err = p.a.relay.GroupInfo(ctx, peer, p.view(p.a).uri(), q.Marshal())
		must0(t, err)
		p.equal("asked for "+peer, p.a.asked-asked, want)
		asked = p.a.asked
		p.a.relay.issuers = nil
	}
}

// A provider that is silent is asked once for a step, not as often as the step is taken again.
func TestSilentProviderIsAskedOnce(t *testing.T) {
	p := certified(t, warm, "b.example").begin()
	bob, err := p.b.relay.client(t.Context(), p.bob)
	must0(t, err)
	must0(t, p.a.relay.checkCredential(t.Context(), &bob.Credential, bob.Key.Public()))
	// B has a new authority, which A has not heard of, and does not answer.
	authority, err := credential.NewAuthority(rand.Reader, p.now, "b.example")
	must0(t, err)
	cert, _, err := authority.Issue(p.now, credential.Subject{User: bob.UserURI, Client: bob.ClientURI, Key: bob.Key}, puppets.Lifetime)
	must0(t, err)
	p.now = p.now.Add(2 * issuersFresh)
	p.a.silent = map[string]bool{"b.example": true}
	asked := p.a.asked
	_, err = p.a.relay.runStep(t.Context(), p.a.room(p.room).ID, nil, store.Settle{}, func(s *step) error {
		return s.room.judge.validate(mls.CredentialCheck{Credential: &cert, SignatureKey: bob.Key.Public(), Use: mls.CredentialOfMember, Now: s.now})
	})
	if !errors.Is(err, credential.ErrUntrusted) {
		t.Errorf("judged: %v", err)
	}
	p.equal("asked", fmt.Sprint(p.a.asked-asked), "1")
}

// While a provider is asked for its authorities, the room goes on, and the step that lacked them is decided on what is there then.
func TestRoomGoesOnWhileAuthoritiesAreFetched(t *testing.T) {
	p := certified(t, warm, "b.example").begin()
	bob, err := p.b.relay.client(t.Context(), p.bob)
	must0(t, err)
	room := p.a.room(p.room).ID
	check := mls.CredentialCheck{Credential: &bob.Credential, SignatureKey: bob.Key.Public(), Use: mls.CredentialOfMember, Now: p.now}
	var seen []int64
	p.a.relay.issuers = nil
	p.a.relay.PeerAuthorities = func(ctx context.Context, domain string) ([][]byte, error) {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		other := make(chan error, 1)
		go func() {
			_, err := p.a.relay.runStep(ctx, room, nil, store.Settle{}, func(s *step) error {
				s.seq()
				return nil
			})
			other <- err
		}()
		select {
		case err := <-other:
			must0(t, err)
		case <-ctx.Done():
			t.Error("another step of the room waited for the provider")
		}
		return p.b.relay.Authorities(), nil
	}
	_, err = p.a.relay.runStep(t.Context(), room, nil, store.Settle{}, func(s *step) error {
		seen = append(seen, s.room.head.NextSeq)
		return s.room.judge.validate(check)
	})
	must0(t, err)
	if len(seen) != 2 || seen[1] != seen[0]+1 {
		t.Errorf("the step saw the room at %v, want it anew after the other step", seen)
	}
}
