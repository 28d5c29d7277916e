package relay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// serveOther answers the verbs that are about no room, as mimiside/server does.
func (n *node) serveOther(ctx context.Context, peer, verb string, body []byte) (Reply, error) {
	if verb == verbIdentifierQuery {
		received, err := wire.UnmarshalIdentifierRequest(body)
		if err != nil {
			return Reply{}, err
		}
		q, err := received.Check()
		if err != nil {
			return Reply{}, err
		}
		return n.relay.IdentifierQuery(ctx, peer, q)
	}
	received, err := wire.UnmarshalConsentEntry(body)
	if err != nil {
		return Reply{}, err
	}
	if verb == verbRequestConsent {
		e, err := received.CheckRequest(peer, n.domain)
		if err != nil {
			return Reply{}, err
		}
		return n.relay.RequestConsent(ctx, peer, e)
	}
	e, err := received.CheckUpdate(peer, n.domain)
	if err != nil {
		return Reply{}, err
	}
	return n.relay.UpdateConsent(ctx, peer, e)
}

// asking is a pair in which B asks its users before they can be reached; alice has invited bob.
func asking(t *testing.T, m mode) *pair {
	p := newPair(t, m)
	p.b.relay.Consent = func(string) bool { return false }
	p.room = p.a.hs.create(p.alice, "Tea", "")
	p.a.hs.invite(p.room, p.alice, p.bobAtA)
	p.settle()
	return p
}

const aliceURI, bobURI = "mimi://a.example/u/alice", "mimi://b.example/u/bob"

// asked returns the chat in which bob was asked.
func (p *pair) asked() *hsRoom {
	p.t.Helper()
	r := p.b.hs.roomOf(p.bob, "invite")
	if r == nil || !strings.Contains(strings.Join(p.b.hs.texts(r), "\n"), "accept "+aliceURI) {
		p.t.Fatalf("bob was not asked; rows at A %q, at B %q", p.a.hs.rows, p.b.hs.rows)
	}
	if got := p.room.members[p.bobAtA]; got != "invite" {
		p.t.Fatalf("bob's ghost is %q while he is asked", got)
	}
	return r
}

func must0(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestConsentIsAskedAndGranted(t *testing.T) {
	modes(t, func(t *testing.T, m mode) {
		p := asking(t, m)
		chat := p.asked()
		must0(t, p.b.relay.GrantConsent(context.Background(), p.bob, aliceURI))
		p.settle()
		p.portal = p.b.hs.roomOf(p.bob, "invite")
		if p.portal == nil || p.portal == chat {
			t.Fatalf("bob was not invited after he agreed; rows at A %q", p.a.hs.rows)
		}
		p.b.hs.join(p.portal, p.bob)
		p.settle()
		p.talk(1)
		// Of the next one people are told by name, in the room.
		p.b.hs.users[p.b.hs.mxid("carol")] = true
		p.a.hs.invite(p.room, p.alice, p.a.ghost("mimi://b.example/u/carol"))
		p.settle()
		p.last("asked", p.a.hs.texts(p.room), "notice mimibot: carol (b.example) was asked for permission and is added when they agree.")
		p.noTrouble()
	})
}

// While nobody of the bridge is in the room that somebody is invited to, the inviter is told in the chat with the bot.
func TestInviterIsToldInTheChatWithTheBot(t *testing.T) {
	p := newPair(t, warm)
	chat := p.botChat(t)
	p.b.relay.Consent = func(string) bool { return false }
	p.room = p.a.hs.create(p.alice, "Tea", "")
	p.a.hs.invite(p.room, p.alice, p.bobAtA)
	p.settle()
	name := bobURI
	p.last("asked", p.a.hs.texts(chat), "notice mimibot: "+name+" was asked for permission and is added when they agree.")
	must0(t, p.b.relay.RevokeConsent(context.Background(), p.bob, aliceURI))
	p.settle()
	p.last("refused", p.a.hs.texts(chat), "notice mimibot: "+name+" could not be invited: they do not accept invitations from you.")
	p.noTrouble()
}

func TestConsentDeclinedSaysNothing(t *testing.T) {
	p := asking(t, warm)
	p.asked()
	must0(t, p.b.relay.DeclineConsent(context.Background(), p.bob, aliceURI))
	p.settle()
	p.equal("ghost", p.room.members[p.bobAtA], "invite")
	p.pass(15 * 24 * time.Hour) // alice's invitation ends by itself
	p.equal("ghost", p.room.members[p.bobAtA], "leave")
	p.a.hs.invite(p.room, p.alice, p.bobAtA) // and bob is not asked again
	p.settle()
	if n := strings.Count(strings.Join(p.b.hs.texts(p.b.hs.roomOf(p.bob, "invite")), "\n"), "asks to invite you"); n != 1 {
		t.Errorf("bob was asked %d times", n)
	}
}

// Only what was asked can be taken back (draft-ietf-mimi-protocol-06 §5.7): a refusal does not go away, and bob is not asked again.
func TestCancelOfWhatWasNotAsked(t *testing.T) {
	p := asking(t, warm)
	p.asked()
	must0(t, p.b.relay.DeclineConsent(context.Background(), p.bob, aliceURI))
	p.settle()
	ask := func(op wire.ConsentOperation) {
		t.Helper()
		e := &wire.ConsentEntry{Operation: op, RequesterURI: aliceURI, TargetURI: bobURI, RoomID: wire.IdentifierURI(p.a.room(p.room).URI)}
		r, err := p.b.serve("a.example", verbRequestConsent, bobURI, e.Marshal())
		must0(t, err)
		p.equal("status", r.Status, 201)
		p.settle()
	}
	ask(wire.ConsentCancel)
	ask(wire.ConsentRequest)
	if n := strings.Count(strings.Join(p.b.hs.texts(p.b.hs.roomOf(p.bob, "invite")), "\n"), "asks to invite you"); n != 1 {
		t.Errorf("bob was asked %d times", n)
	}
}

func TestConsentRevokeEndsAnInvitation(t *testing.T) {
	p := asking(t, warm)
	p.asked()
	must0(t, p.b.relay.RevokeConsent(context.Background(), p.bob, aliceURI))
	p.settle()
	p.equal("ghost", p.room.members[p.bobAtA], "leave")
	p.noTrouble()
}

func TestConsentIsCancelledWithTheInvitation(t *testing.T) {
	p := asking(t, warm)
	chat := p.asked()
	p.a.hs.kick(p.room, p.alice, p.bobAtA)
	p.settle()
	if got := p.b.hs.texts(chat); !strings.Contains(got[len(got)-1], "does not ask you any more") {
		t.Errorf("bob sees %q", got)
	}
	p.noTrouble()
}

func TestConsentTimesOut(t *testing.T) {
	p := asking(t, warm)
	chat := p.asked()
	p.pass(14*24*time.Hour + time.Hour)
	p.equal("ghost", p.room.members[p.bobAtA], "leave")
	if got := p.b.hs.texts(chat); !strings.Contains(got[len(got)-1], "does not ask you any more") {
		t.Errorf("bob sees %q", got)
	}
}

// A provider that is closed to a peer asks nobody.
func TestNoConsent(t *testing.T) {
	p := newPair(t, warm)
	p.b.relay.Consent = func(string) bool { return false }
	p.b.relay.Ask = func(string) bool { return false }
	p.room = p.a.hs.create(p.alice, "Tea", "")
	p.a.hs.invite(p.room, p.alice, p.bobAtA)
	p.settle()
	if r := p.b.hs.roomOf(p.bob, "invite"); r != nil {
		t.Errorf("bob was asked: %q", p.b.hs.texts(r))
	}
}

// A granted consent holds for the next room too when it was given for all.
func TestConsentGivenBeforeItIsAsked(t *testing.T) {
	p := newPair(t, warm)
	p.b.relay.Consent = func(string) bool { return false }
	must0(t, p.b.relay.GrantConsent(context.Background(), p.bob, aliceURI))
	p.settle()
	p.begin().talk(1)
	p.noTrouble()
}

func TestIdentifierQuery(t *testing.T) {
	p := newPair(t, warm)
	ctx := context.Background()
	must0(t, p.b.relay.SetSearchable(ctx, p.b.hs.mxid("carol"), true))
	p.b.hs.users[p.b.hs.mxid("carol")] = true
	for _, c := range []struct{ kind, query, want string }{
		{"handle", "acct:bob@b.example", bobURI},
		{"handle", p.bob, bobURI},
		{"handle", "im:bob@" + p.b.hs.server, bobURI},
		{"handle", bobURI, bobURI},
		{"handle", "acct:nobody@b.example", ""},
		{"nick", "bob", ""}, // bob did not agree to be found
		{"nick", "carol", "mimi://b.example/u/carol"},
		{"email", "bob@b.example", ""},
	} {
		found, err := p.a.relay.Search(ctx, "b.example", c.kind, c.query)
		if got := len(found) == 1 && found[0].URI == c.want; got != (c.want != "") || (err == nil) != (c.want != "") {
			t.Errorf("%s %q found %v, %v", c.kind, c.query, found, err)
		}
	}
	for _, c := range []struct{ address, want, err string }{
		{"@bob@b.example", bobURI, ""},
		{"bob@b.example", bobURI, ""},
		{p.a.ghost(bobURI), bobURI, ""},
		{"@nobody@b.example", "", "nobody was found"},
		{"acct:alice@a.example", "", "they are on Matrix; invite them there as you invite anybody"},
		{p.alice, "", "they are on Matrix; invite them there as you invite anybody"},
		{"bob@c.example", "", "c.example cannot be asked: it does not answer, or is no MIMI provider"},
		{"bob", "", "it is no address: they look like mimi://a.example/u/alice or acct:alice@a.example"},
	} {
		uri, err := p.a.relay.Resolve(ctx, p.alice, c.address)
		if said := fmt.Sprint(err); uri != c.want || err != nil && said != c.err || (err != nil) != (c.err != "") {
			t.Errorf("%s is resolved to %q, %v", c.address, uri, err)
		}
	}
}

// What a provider says of its users' consent is bounded by the hour, whoever it is about; what was refused is not stored.
func TestUpdatesOfConsentAreBounded(t *testing.T) {
	p := newPair(t, warm)
	ctx := context.Background()
	say := func(room int) error {
		_, err := p.a.relay.UpdateConsent(ctx, "b.example", &wire.ConsentEntry{Operation: wire.ConsentRevoke, RequesterURI: aliceURI, TargetURI: bobURI,
			RoomID: wire.IdentifierURI(fmt.Sprintf("mimi://a.example/r/%d", room))})
		return err
	}
	_, err := p.a.relay.client(ctx, p.alice)
	must0(t, err)
	must0(t, say(1))
	must0(t, p.a.relay.allowN(ctx, "consentUpdate", "b.example", updatesAnHour-1, updatesAnHour))
	if err := say(2); !errors.Is(err, ErrBusy) {
		t.Errorf("one too many: %v", err)
	}
	list, err := p.a.db.ConsentsBy(ctx, store.Out, aliceURI)
	must0(t, err)
	p.equal("consents", len(list), 1)
	p.now = p.now.Add(time.Hour)
	must0(t, say(2))
}

// What others say of their consent without being asked is kept within bounds; what was asked for is always taken.
func TestConsentsOfOthersAreBounded(t *testing.T) {
	p := newPair(t, warm)
	ctx := context.Background()
	_, err := p.a.relay.client(ctx, p.alice) // she is known
	must0(t, err)
	must0(t, p.a.db.Tx(ctx, func(tx *store.Tx) error {
		return tx.PutConsent(ctx, store.Consent{Direction: store.Out, Owner: bobURI, Requester: aliceURI, State: store.ConsentRequested})
	}))
	grant := func(user string) {
		t.Helper()
		e := &wire.ConsentEntry{Operation: wire.ConsentGrant, RequesterURI: aliceURI, TargetURI: wire.IdentifierURI(user)}
		_, err := p.a.relay.UpdateConsent(ctx, "b.example", e)
		must0(t, err)
	}
	for n := range maxConsents + 5 {
		grant(fmt.Sprintf("mimi://b.example/u/somebody%d", n))
	}
	grant(bobURI)
	rows, err := p.a.db.ConsentsBy(ctx, store.Out, aliceURI)
	must0(t, err)
	p.equal("kept", len(rows), maxConsents)
	p.equal("of bob", exact(ofOwner(rows, bobURI), aliceURI, ""), store.ConsentGranted)
}

// Who may invite anywhere may do so into a room, too, for which it was refused before.
func TestConsentGivenAfterARefusal(t *testing.T) {
	p := asking(t, warm)
	p.asked()
	ctx := context.Background()
	must0(t, p.b.relay.DeclineConsent(ctx, p.bob, aliceURI))
	p.settle()
	must0(t, p.b.relay.GrantConsent(ctx, p.bob, aliceURI))
	p.settle()
	list, err := p.b.relay.Consents(ctx, p.bob)
	must0(t, err)
	for _, c := range list {
		if c.State != store.ConsentGranted {
			t.Errorf("for %q: %s", c.Room, c.State)
		}
	}
	p.equal("consents", len(list), 2) // for the room, and for all
	p.bobJoins()
	p.talk(1)
	p.noTrouble()
}
