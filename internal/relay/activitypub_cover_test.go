package relay

import (
	"context"
	"strings"
	"testing"
	"time"

	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
)

// TestCoverMessages: where it is switched on, messages that say nothing go out at random times, as long as real ones and in the name of those who have joined, also after a restart; nobody is shown
// anything of them, and they are as many as the setting says. S001-106.
func TestCoverMessages(t *testing.T) {
	p, ctx := newAPPair(t), context.Background()
	sent := func(n *apNode, actor string) int {
		t.Helper()
		l, err := n.face.List(ctx, ap.BoxOut, actor, actor, "", 0)
		if err != nil {
			t.Fatal(err)
		}
		return l.Total
	}
	run := func(hours int) {
		t.Helper()
		for range hours * 12 {
			p.a.w.now = p.a.w.now.Add(5 * time.Minute)
			settleAP(t, p.a, p.b)
		}
	}
	none := sent(p.a, p.aliceID)
	run(3)
	if got := sent(p.a, p.aliceID); got != none {
		t.Fatalf("%d were sent without being asked for", got-none)
	}
	p.a.face.CoverEvery = 30 * time.Minute
	before, shown := sent(p.b, p.bobID), len(p.b.hs.texts(p.bt))
	p.a.hs.say(p.at, p.alice, "hello")
	run(10)
	p.a.relay.Forget()
	run(10)
	got := sent(p.a, p.aliceID) - none - 1
	if got < 15 || got > 80 { // 40 are meant, each after up to an hour
		t.Errorf("%d cover messages in 20 hours", got)
	}
	if sent(p.b, p.bobID) != before {
		t.Error("the other side sends some, too")
	}
	if texts := p.b.hs.texts(p.bt); len(texts) != shown+1 || !strings.Contains(texts[shown], "hello") {
		t.Errorf("shown: %q", texts)
	}
	lengths := map[int]bool{}
	l, err := p.a.face.List(ctx, ap.BoxOut, p.aliceID, p.bobID, "", 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range l.Items {
		lengths[len(o["object"].(ap.Object).Str("content"))] = true
	}
	if len(lengths) < 2 {
		t.Errorf("all are of one length: %v", lengths)
	}
	p.a.face.CoverEvery = 0
	run(2)
	after := sent(p.a, p.aliceID)
	run(3)
	if sent(p.a, p.aliceID) != after {
		t.Error("they do not end when they are switched off")
	}
}
