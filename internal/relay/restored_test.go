package relay

import (
	"context"
	"testing"
	"time"
)

// After a restore nothing is sent before the keys were renewed (T17).
func TestUpdateBeforeSendAfterRestore(t *testing.T) {
	p := newPair(t, warm).begin()
	for _, n := range []*node{p.a, p.b} {
		before := map[*node]*hsRoom{p.a: p.room, p.b: p.portal}[n]
		epoch := n.room(before).Epoch
		if _, _, err := n.db.BeginRecovery(context.Background()); err != nil {
			t.Fatal(err)
		}
		p.talk(1)
		if now := n.room(before).Epoch; now <= epoch {
			t.Errorf("%s sent in epoch %d, which is the one of the backup", n.domain, now)
		}
		if n.room(before).Refresh {
			t.Errorf("%s is still to be refreshed", n.domain)
		}
	}
	p.agree(map[*node]*hsRoom{p.a: p.room, p.b: p.portal})
	p.noTrouble()
}

// After a failover that lost nothing, the hub's commits are on their way: a follower waits for them, and reads what comes with them,
// before it joins anew.
func TestFollowerCatchesUpAfterAFailover(t *testing.T) {
	p := newPair(t, warm).begin()
	away := true
	p.fault = func(_, _, verb string, _ []byte) fault {
		if away && verb == verbNotify {
			return dropRequest
		}
		return deliver
	}
	p.a.hs.say(p.room, p.alice, "before the commit")
	p.a.hs.set(p.room, p.alice, "m.room.topic", map[string]string{"topic": "new epoch"})
	p.settle()
	if _, _, err := p.b.db.BeginRecovery(context.Background()); err != nil {
		t.Fatal(err)
	}
	p.settle()
	if p.calls[verbGroupInfo] == 0 {
		t.Fatal("the groups were not compared")
	}
	away = false
	p.pass(time.Minute)
	p.equal("B", p.b.hs.texts(p.portal), []string{local(p.aliceAtB) + ": before the commit"})
	p.talk(1)
	p.agree(map[*node]*hsRoom{p.a: p.room, p.b: p.portal})
	p.noTrouble()
}
