package relay

import (
	"context"
	"testing"

	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/wire"
	"github.com/matrix-mimi/bridge/puppets"
)

// counting counts the requests from A to B by verb.
func (p *pair) counting() map[string]int {
	n, before := map[string]int{}, p.fault
	p.fault = func(from, to, verb string, body []byte) fault {
		if from == "a.example" {
			n[verb]++
		}
		if before != nil {
			return before(from, to, verb, body)
		}
		return deliver
	}
	return n
}

// A grant for a room brings the KeyPackages for it: none are claimed.
func TestKeyPackagesOfAGrantAreUsed(t *testing.T) {
	modes(t, func(t *testing.T, m mode) {
		p := asking(t, m)
		chat := p.asked()
		n := p.counting()
		must0(t, p.b.relay.GrantConsent(context.Background(), p.bob, aliceURI))
		p.settle()
		p.portal = p.b.hs.roomOf(p.bob, "invite")
		if p.portal == nil || p.portal == chat {
			t.Fatalf("bob was not invited after he agreed; rows at A %q", p.a.hs.rows)
		}
		if n[verbKeyMaterial] > 0 {
			t.Errorf("%d KeyPackages were claimed after the grant", n[verbKeyMaterial])
		}
		p.b.hs.join(p.portal, p.bob)
		p.settle()
		p.talk(1)
		p.noTrouble()
	})
}

// KeyPackages that do not fit are not used: of somebody else, of another suite, used before. Others are claimed then.
func TestKeyPackagesOfAGrantAreChecked(t *testing.T) {
	for name, change := range map[string]func(p *pair, room wire.IdentifierURI) []*mls.KeyPackage{
		"of somebody else": func(p *pair, _ wire.IdentifierURI) []*mls.KeyPackage { return p.packages("carol", 0) },
		"of another suite": func(p *pair, _ wire.IdentifierURI) []*mls.KeyPackage {
			return p.packages("bob", mls.SuiteP256AES128P256)
		},
		"none": func(*pair, wire.IdentifierURI) []*mls.KeyPackage { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			p := asking(t, warm)
			p.asked()
			room := wire.IdentifierURI(p.a.room(p.room).URI)
			p.b.relay.Consent = func(string) bool { return true }
			n := p.counting()
			e := &wire.ConsentEntry{Operation: wire.ConsentGrant, RequesterURI: aliceURI, TargetURI: bobURI, RoomID: room, KeyPackages: change(p, room)}
			r, err := p.a.serve("b.example", verbUpdateConsent, bobURI, e.Marshal())
			must0(t, err)
			p.equal("status", r.Status, 201)
			p.settle()
			p.equal("claims", n[verbKeyMaterial], 1)
			if p.portal = p.b.hs.roomOf(p.bob, "invite"); p.portal == nil {
				t.Fatal("bob was not invited")
			}
			p.noTrouble()
		})
	}
}

// packages makes a KeyPackage that somebody of B could send.
func (p *pair) packages(user string, suite mls.Suite) []*mls.KeyPackage {
	p.t.Helper()
	client, err := p.b.relay.client(context.Background(), p.b.hs.mxid(user))
	if err != nil {
		p.t.Fatal(err)
	}
	if suite != 0 {
		if client.Key, err = mls.GenerateSignatureKey(p.b.relay.Rand, suite); err != nil {
			p.t.Fatal(err)
		}
	}
	kp, err := puppets.NewKeyPackage(p.b.relay.Rand, p.now, client, false)
	if err != nil {
		p.t.Fatal(err)
	}
	return []*mls.KeyPackage{kp.Public}
}
