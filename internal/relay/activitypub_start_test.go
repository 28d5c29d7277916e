package relay

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// TestASetOfPeopleHasOneConversation: whoever of some people begins a conversation with exactly the others, in whatever order, finds the one that is there; other sets have
// others. S000-020, S000-026, S000-080.
func TestASetOfPeopleHasOneConversation(t *testing.T) {
	w := newWorld(t, "sqlite")
	places := map[string]string{}
	a, b := newAPNode(t, w, places, "a.example"), newAPNode(t, w, places, "b.example")
	alice, bob, carol := a.hs.mxid("alice"), b.hs.mxid("bob"), b.hs.mxid("carol")
	a.hs.users = map[string]bool{alice: true}
	b.hs.users = map[string]bool{bob: true, carol: true}
	ctx := context.Background()
	start := func(n *apNode, by string, handles ...string) {
		t.Helper()
		if err := n.face.StartChat(ctx, by, handles...); err != nil {
			t.Fatal(err)
		}
		settleAP(t, a, b)
	}
	start(a, alice, "@bob@b.example", "@carol@b.example")
	three := a.hs.roomOf(alice, "invite")
	there := b.hs.roomOf(bob, "invite")
	if three == nil || there == nil || there != b.hs.roomOf(carol, "invite") {
		t.Fatal("not all three were invited to one room")
	}
	a.hs.join(three, alice)
	b.hs.join(there, bob)
	b.hs.join(there, carol)
	settleAP(t, a, b)
	atA, atB := len(a.hs.order), len(b.hs.order)
	start(a, alice, "@carol@b.example", "@bob@b.example", "@bob@b.example")
	start(b, bob, "@alice@a.example", "@carol@b.example")
	if len(a.hs.order) != atA || len(b.hs.order) != atB {
		t.Errorf("the set of three has %d rooms more at A, %d at B", len(a.hs.order)-atA, len(b.hs.order)-atB)
	}
	if texts := strings.Join(b.hs.texts(there), "\n"); !strings.Contains(texts, "the conversation of exactly these people") {
		t.Errorf("nothing shows where the conversation is: %q", texts)
	}
	start(a, alice, "@bob@b.example")
	if len(a.hs.order) != atA+1 {
		t.Errorf("the pair has %d rooms", len(a.hs.order)-atA)
	}
	if err := a.face.StartChat(ctx, alice, "@alice@a.example"); err == nil {
		t.Error("a conversation with oneself")
	}
	many := make([]string, maxStart+1)
	if err := a.face.StartChat(ctx, alice, many...); !errors.Is(err, ErrRefused) {
		t.Errorf("%d people: %v", len(many), err)
	}
}
