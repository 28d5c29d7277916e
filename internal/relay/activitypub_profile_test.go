package relay

import (
	"context"
	"strings"
	"testing"
)

// TestProfilesBothWays: the name and the picture of a user stand in the actor; a change is sent to those who share a conversation, whose ghosts take it.
func TestProfilesBothWays(t *testing.T) {
	p, ctx := newAPPair(t), context.Background()
	ghost := "@acct_alice=40a.example:" + p.b.hs.server
	p.a.hs.names = map[string][2]string{p.alice: {"Alice Bell", p.a.files.add(onePixel)}}
	p.a.w.now = p.a.w.now.Add(2 * ownProfileAge)
	p.a.hs.join(p.at, p.alice) // a change of the profile is an event of the member
	settleAP(t, p.a, p.b)
	g, err := p.b.db.Ghost(ctx, ghost)
	if err != nil || g.Display != "Alice Bell" {
		t.Errorf("%+v %v", g, err)
	}
	self, err := p.a.face.User(ctx, "alice")
	if err != nil || self.DisplayName != "Alice Bell" || !strings.HasPrefix(self.Icon, "https://") {
		t.Errorf("%+v %v", self, err)
	}
	if d := dataOfGhost(&g); d.Picture != self.Icon {
		t.Errorf("the picture is %q", d.Picture)
	}
	l, err := p.a.face.List(ctx, "out", p.aliceID, "", "", 1)
	if err != nil || l.Items[0].Str("type") != "Update" {
		t.Errorf("%+v %v", l, err)
	}
	p.a.hs.join(p.at, p.alice)
	settleAP(t, p.a, p.b)
	if again, _ := p.a.face.List(ctx, "out", p.aliceID, "", "", 1); again.Total != l.Total {
		t.Error("the same profile was sent twice")
	}
}
