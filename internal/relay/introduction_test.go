package relay

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Bob is asked before somebody may invite him, unless they come with an introduction of his.
func TestIntroduction(t *testing.T) {
	for name, m := range map[string]mode{"warm": warm, "restarting": restarting, "doubling": doubling, "losing": losing} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, m)
			p.b.relay.Consent = func(string) bool { return false }
			ctx := context.Background()
			text, id, err := p.b.relay.CreateIntroduction(ctx, p.bob, false, time.Hour)
			must0(t, err)
			chat := p.a.hs.create(p.alice, "", "")
			p.a.hs.invite(chat, p.alice, p.a.hs.mxid("mimibot"))
			p.settle()
			user, err := p.a.relay.Introduce(ctx, p.alice, text)
			p.equal("user", user+errText(err), bobURI)
			p.pass(10 * time.Second)
			p.last("alice", p.a.hs.texts(chat), "notice mimibot: "+bobURI+" accepts invitations from you now. Say \"start-chat "+bobURI+"\".")
			p.begin().talk(1)
			// The code is used up: the next one is asked about.
			list, err := p.b.relay.Introductions(ctx, p.bob)
			p.equal("codes left", len(list), 0)
			must0(t, err)
			_, err = p.a.relay.Introduce(ctx, p.a.hs.mxid("carol"), text)
			must0(t, err)
			p.pass(10 * time.Second)
			consents, err := p.b.relay.Consents(ctx, p.bob)
			must0(t, err)
			states := map[string]string{}
			for _, c := range consents {
				states[c.Requester] = c.State
			}
			p.equal("alice, carol", states[aliceURI]+" "+states["mimi://a.example/u/carol"], store.ConsentGranted+" "+store.ConsentRequested)
			p.equal("revoke", p.b.relay.RevokeIntroduction(ctx, p.bob, id), nil)
			p.noTrouble()
		})
	}
}

func TestIntroductionEndsAndIsRevoked(t *testing.T) {
	p := newPair(t, warm)
	p.b.relay.Consent = func(string) bool { return false }
	ctx := context.Background()
	ended, _, err := p.b.relay.CreateIntroduction(ctx, p.bob, true, time.Hour)
	must0(t, err)
	revoked, id, err := p.b.relay.CreateIntroduction(ctx, p.bob, true, 0)
	must0(t, err)
	must0(t, p.b.relay.RevokeIntroduction(ctx, p.bob, id))
	if err := p.b.relay.RevokeIntroduction(ctx, p.bob, id); err == nil {
		t.Error("revoked twice")
	}
	p.now = p.now.Add(2 * time.Hour)
	for _, text := range []string{ended, revoked} {
		_, err = p.a.relay.Introduce(ctx, p.alice, text)
		must0(t, err)
	}
	p.settle()
	p.equal("consents", stateOf(t, p), store.ConsentRequested)
	// Who was turned away stays so, code or not.
	must0(t, p.b.relay.DeclineConsent(ctx, p.bob, aliceURI))
	p.settle()
	good, _, err := p.b.relay.CreateIntroduction(ctx, p.bob, true, 0)
	must0(t, err)
	_, err = p.a.relay.Introduce(ctx, p.alice, good)
	must0(t, err)
	p.settle()
	p.equal("consents", stateOf(t, p), store.ConsentRevoked)
	for _, bad := range []string{"", "mimi://b.example/u/bob", aliceURI + "?introduction=abc"} {
		if _, err := p.a.relay.Introduce(ctx, p.alice, bad); err == nil {
			t.Errorf("%q was sent", bad)
		}
	}
	p.noTrouble()
}

func stateOf(t *testing.T, p *pair) string {
	t.Helper()
	list, err := p.b.relay.Consents(context.Background(), p.bob)
	must0(t, err)
	var out []string
	for _, c := range list {
		out = append(out, c.State)
	}
	return strings.Join(out, " ")
}

// That somebody agrees is stored with what is told of it: a failure after the one does not lose the other.
func TestConsentAndItsNewsAreOne(t *testing.T) {
	p := newPair(t, warm)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	_, err := p.a.relay.client(ctx, p.alice)
	must0(t, err)
	asked := store.Consent{Direction: store.Out, Owner: "mimi://b.example/u/bob", Requester: "mimi://a.example/u/alice", State: store.ConsentRequested}
	must0(t, p.a.db.Tx(ctx, func(tx *store.Tx) error { return tx.PutConsent(ctx, asked) }))
	clock := p.a.relay.Clock
	p.a.relay.Clock = func() time.Time {
		if c, err := p.a.db.Consent(context.Background(), store.Out, asked.Owner, asked.Requester, ""); err == nil && c.State == store.ConsentGranted {
			cancel() // the process ends when the consent is stored
		}
		return clock()
	}
	e := &wire.ConsentEntry{Operation: wire.ConsentGrant, RequesterURI: wire.IdentifierURI(asked.Requester), TargetURI: wire.IdentifierURI(asked.Owner)}
	_, _ = p.a.relay.UpdateConsent(ctx, "b.example", e)
	id, err := p.a.relay.consentRoom(context.Background(), p.alice)
	must0(t, err)
	n, _, err := p.a.db.InputsOf(context.Background(), id, inputConsent, "")
	must0(t, err)
	p.equal("what alice is to be told", n, int64(1))
}
