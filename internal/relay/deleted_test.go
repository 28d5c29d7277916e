package relay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// S004-059: a user who was deleted leaves everywhere, its KeyPackages and consents are void, and others are told.
func TestUserDeleted(t *testing.T) { modes(t, testUserDeleted) }

func testUserDeleted(t *testing.T, m mode) {
	p := sharingPair(t, m)
	ctx := context.Background()
	// An invitation elsewhere that is not answered yet.
	other := p.a.hs.create(p.alice, "Other", "")
	p.a.hs.invite(other, p.alice, p.bobAtA)
	p.settle()
	put := func(n *node, c store.Consent) {
		if err := n.db.Tx(ctx, func(tx *store.Tx) error { return tx.PutConsent(ctx, c) }); err != nil {
			t.Fatal(err)
		}
	}
	const alice, bob = "mimi://a.example/u/alice", "mimi://b.example/u/bob"
	put(p.a, store.Consent{Direction: store.Out, Owner: bob, Requester: alice, State: store.ConsentGranted})
	put(p.b, store.Consent{Direction: store.In, Owner: bob, Requester: alice, State: store.ConsentGranted})
	if err := p.b.relay.DeleteUser(ctx, p.bob); err != nil {
		t.Fatal(err)
	}
	p.settle()
	p.equal("bob's ghost", p.room.members[p.bobAtA], "leave")
	p.equal("bob's ghost in the other room", other.members[p.bobAtA], "leave")
	if p.calls[verbUserDeleted] == 0 {
		t.Error("nobody was told")
	}
	for _, n := range []*node{p.a, p.b} {
		for _, dir := range []store.Direction{store.In, store.Out} {
			list, err := n.db.ConsentsOf(ctx, dir, bob)
			if err != nil || len(list) != 0 {
				t.Errorf("%s: %v, %v", n.domain, list, err)
			}
		}
	}
	stock, err := p.b.db.KeyPackageStock(ctx, bob, 0)
	if err != nil || len(stock) != 0 {
		t.Errorf("%v, %v", stock, err)
	}
	// Who invites the user anew hears why not.
	p.a.hs.invite(p.room, p.alice, p.bobAtA)
	p.settle()
	texts := p.a.hs.texts(p.room)
	if len(texts) == 0 || !strings.Contains(texts[len(texts)-1], "does not exist any more") {
		t.Errorf("%q", texts)
	}
	p.noTrouble()
}

// The user of a hub goes, too; draft peers see that it leaves and are told nothing else.
func TestUserOfTheHubDeleted(t *testing.T) {
	for _, shares := range []bool{true, false} {
		p := newPair(t, warm)
		p.offers["a.example"], p.offers["b.example"] = true, shares
		p.begin()
		if err := p.a.relay.DeleteUser(context.Background(), p.alice); err != nil {
			t.Fatal(err)
		}
		p.settle()
		p.equal("alice's ghost", p.portal.members[p.aliceAtB], "leave")
		p.equal("bob", p.portal.members[p.bob], "join")
		p.equal("told", p.calls[verbUserDeleted] > 0, shares)
		// Who comes back is a user again.
		p.a.hs.leave(p.room, p.alice)
		p.a.hs.join(p.room, p.alice)
		p.settle()
		p.equal("alice's ghost", p.portal.members[p.aliceAtB], "join")
		p.talk(1)
		p.noTrouble()
	}
}

func TestWhoDeletesUsers(t *testing.T) {
	p := sharingPair(t, warm)
	ctx := context.Background()
	body := (&wire.UserDeleted{UserURI: "mimi://b.example/u/bob"}).Marshal()
	for _, peer := range []string{"c.example", "a.example"} {
		if _, err := p.a.relay.Extension(ctx, peer, verbUserDeleted, "mimi://a.example", body); !errors.Is(err, wire.ErrForbidden) {
			t.Errorf("%s: %v", peer, err)
		}
	}
	stranger := (&wire.UserDeleted{UserURI: "mimi://b.example/u/stranger"}).Marshal()
	if _, err := p.a.relay.Extension(ctx, "b.example", verbUserDeleted, "mimi://a.example", stranger); err != nil {
		t.Errorf("a user who is not known: %v", err)
	}
	for _, mxid := range []string{p.a.hs.mxid("nobody"), p.bobAtA, p.a.hs.mxid("mimibot")} {
		if err := p.a.relay.DeleteUser(ctx, mxid); !errors.Is(err, ErrNobody) {
			t.Errorf("%s: %v", mxid, err)
		}
	}
	p.talk(1)
}

// A provider cannot take back what a user of ours refused by its word that the refused one was deleted.
func TestRefusalOutlivesDeletion(t *testing.T) {
	p := sharingPair(t, warm)
	ctx := context.Background()
	const alice, bob = "mimi://a.example/u/alice", "mimi://b.example/u/bob"
	must0(t, p.b.db.Tx(ctx, func(tx *store.Tx) error {
		return errors.Join(tx.PutConsent(ctx, store.Consent{Direction: store.In, Owner: bob, Requester: alice, State: store.ConsentRevoked}),
			tx.PutConsent(ctx, store.Consent{Direction: store.In, Owner: bob, Requester: alice, Room: "mimi://a.example/r/x", State: store.ConsentGranted}))
	}))
	_, err := p.b.relay.Extension(ctx, "a.example", verbUserDeleted, "mimi://b.example", (&wire.UserDeleted{UserURI: alice}).Marshal())
	must0(t, err)
	list, err := p.b.db.ConsentsOf(ctx, store.In, bob)
	if err != nil || len(list) != 1 || list[0].State != store.ConsentRevoked {
		t.Errorf("%v, %v", list, err)
	}
}

// Who was deleted is not found any more, and the introductions that it gave out are void.
func TestWhoWasDeletedIsNotFound(t *testing.T) {
	p := sharingPair(t, warm)
	ctx := context.Background()
	must0(t, p.b.relay.SetFindable(ctx, p.bob, "email", "bob@example.org"))
	_, _, err := p.b.relay.CreateIntroduction(ctx, p.bob, true, 0)
	must0(t, err)
	queries := map[string]string{"email": "bob@example.org", "any": "bob", "handle": p.bob}
	for kind, query := range queries {
		if got, _ := p.found(kind, query); len(got) != 1 {
			t.Errorf("%s before: %v", kind, got)
		}
	}
	must0(t, p.b.relay.DeleteUser(ctx, p.bob))
	for kind, query := range queries {
		if got, _ := p.found(kind, query); len(got) != 0 {
			t.Errorf("%s after: %v", kind, got)
		}
	}
	list, err := p.b.relay.Introductions(ctx, p.bob)
	if err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}

// The word that a user was deleted, or that a room has ended, is stored once, and different ones are bounded by the hour.
func TestWordsThatComeAgain(t *testing.T) {
	p := sharingPair(t, warm)
	ctx := context.Background()
	id, uri := p.b.room(p.portal).ID, wire.IdentifierURI(p.b.room(p.portal).URI)
	words := map[string]struct {
		path wire.IdentifierURI
		body func(at uint64) []byte
	}{
		verbUserDeleted:   {"mimi://b.example", func(at uint64) []byte { return (&wire.UserDeleted{UserURI: aliceURI, Timestamp: at}).Marshal() }},
		verbRoomDestroyed: {uri, func(at uint64) []byte { return (&wire.RoomDestroyed{RoomID: uri, Timestamp: at}).Marshal() }},
	}
	inputs := func() int {
		list, err := p.b.db.InputsIn(ctx, id, store.InputReady, 100)
		must0(t, err)
		return len(list)
	}
	stored := inputs()
	for verb, w := range words {
		say := func(at uint64) error {
			_, err := p.b.relay.Extension(ctx, "a.example", verb, w.path, w.body(at))
			return err
		}
		for range 3 {
			must0(t, say(1))
		}
		stored++
		p.equal(verb+" again: inputs", fmt.Sprint(inputs()), fmt.Sprint(stored))
		must0(t, p.b.relay.allowN(ctx, verb, "a.example", wordsAnHour-1, wordsAnHour))
		must0(t, say(1)) // taken before
		if err := say(2); !errors.Is(err, ErrBusy) {
			t.Errorf("%s too often: %v", verb, err)
		}
		p.equal(verb+" too often: inputs", fmt.Sprint(inputs()), fmt.Sprint(stored))
	}
	p.settle()
	p.equal("alice's ghost", p.portal.members[p.aliceAtB], "leave")
	p.noTrouble()
}
