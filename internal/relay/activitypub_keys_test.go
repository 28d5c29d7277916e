package relay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// steps are the activities of an outbox about KeyPackages, oldest first, as a reader sees them.
func (n *apNode) steps(t *testing.T, actor, reader string) string {
	t.Helper()
	l, err := n.face.List(context.Background(), ap.BoxOut, actor, reader, "", 100)
	if err != nil {
		t.Fatal(err)
	}
	out := ""
	for i := len(l.Items) - 1; i >= 0; i-- {
		if strings.Contains(l.Items[i].Str("id"), "/kp-") {
			out += l.Items[i].Str("type") + " "
		}
	}
	return strings.TrimSpace(out)
}

// TestTheLifeOfAKeyPackage: each step is an activity, in its order: Create and Add when it is offered, Remove and Delete when it was used or has come
// to its end. Steps of one that is meant for one requester are seen by that one alone. S001-036 … S001-041.
func TestTheLifeOfAKeyPackage(t *testing.T) {
	p, ctx := newAPPair(t), context.Background()
	if got := p.b.steps(t, p.bobID, p.aliceID); got != "Create Add Create Add Remove Delete" && got != "Create Add Remove Delete Create Add" {
		t.Errorf("whoever used one sees %q", got) // the last resort's, and those of the one
	}
	if got := p.b.steps(t, p.bobID, ""); got != "Create Add" {
		t.Errorf("everybody sees %q", got)
	}
	const eve = "https://c.example/u/eve"
	offer, err := p.b.face.Claim(ctx, "bob", eve)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.b.steps(t, p.bobID, eve); strings.Count(got, "Create") != 2 {
		t.Errorf("whoever claims one sees %q", got)
	}
	p.b.w.now = p.b.w.now.Add(65 * 24 * time.Hour)
	if err := p.b.face.CareForKeys(ctx); err != nil {
		t.Fatal(err)
	}
	if got := p.b.steps(t, p.bobID, ""); got != "Create Add Create Add Remove Delete" {
		t.Errorf("after the last resort was replaced everybody sees %q", got)
	}
	settleAP(t, p.a, p.b) // sent to those who share a conversation
	p.b.w.now = p.b.w.now.Add(15 * 24 * time.Hour)
	if err := p.b.face.CareForKeys(ctx); err != nil {
		t.Fatal(err)
	}
	if got := p.b.steps(t, p.bobID, eve); !strings.HasSuffix(got, "Remove Delete") || strings.Count(got, "Remove") != 2 {
		t.Errorf("after one was not used for too long whoever claimed it sees %q", got)
	}
	if _, err := p.b.face.Offered(ctx, "bob", offer.Token, eve); !errors.Is(err, ap.ErrNotFound) {
		t.Errorf("a deleted KeyPackage is served: %v", err)
	}
}

// TestRemovedPackagesAreNotUsed: what a peer removed or deleted is never used, also if it is still offered.
func TestRemovedPackagesAreNotUsed(t *testing.T) {
	p, ctx := newAPPair(t), context.Background()
	key, err := p.a.face.Key(ctx, p.aliceID)
	if err != nil {
		t.Fatal(err)
	}
	them, err := p.a.face.People.Actor(ctx, p.bobID, true)
	if err != nil {
		t.Fatal(err)
	}
	list, err := p.a.face.People.As(key).Packages(ctx, them, nil)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	for _, c := range []struct {
		kind, object string
		err          error
	}{{"Remove", "https://elsewhere.example/kp", ap.ErrForbidden}, {"Remove", list[0].ID, nil}, {"Delete", list[0].ID, nil}} {
		d := ap.Delivered{Activity: &ap.Activity{ID: p.bobID + "/" + c.kind, Type: c.kind, Actor: p.bobID, ObjectID: c.object, Target: p.bobID + "/keyPackages"}}
		if _, err := p.a.face.Receive(ctx, d); !errors.Is(err, c.err) {
			t.Errorf("%s: %v", c.kind, err)
		}
	}
	if _, err := p.a.face.freshPackage(ctx, p.bobID, p.aliceID); !errors.Is(err, ErrRefused) {
		t.Errorf("a removed KeyPackage is used: %v", err)
	}
}

// A KeyPackage that was never used is taken before others, also when one that was taken back stands before it; of those that were used one may be used again
// after a while.
func TestTheFreshKeyPackageIsPicked(t *testing.T) {
	p, ctx := newAPPair(t), context.Background()
	face, now := p.a.face, p.a.face.Clock()
	offer := func(id string) ap.Package {
		t.Helper()
		key, err := mls.GenerateSignatureKey(p.b.relay.Rand, apSuite)
		must0(t, err)
		kp, _, err := mls.NewKeyPackage(p.b.relay.Rand, mls.KeyPackageParams{Suite: apSuite, Credential: mls.BasicCredential([]byte(p.bobID)), SignatureKey: key, Capabilities: ap.Capabilities(),
			Lifetime: mls.Lifetime{NotBefore: uint64(now.Add(-time.Hour).Unix()), NotAfter: uint64(now.Add(time.Hour).Unix())}})
		must0(t, err)
		return ap.Package{ID: p.bobID + id, KeyPackage: kp, Bytes: kp.Marshal()}
	}
	spend := func(at time.Time, name []byte) {
		t.Helper()
		must0(t, p.a.db.Tx(ctx, func(tx *store.Tx) error { return tx.Spend(ctx, p.bobID, at.UnixMilli(), name) }))
	}
	old, removed, fresh, recent := offer("/1"), offer("/2"), offer("/3"), offer("/4")
	spend(now.Add(-time.Hour), old.Bytes)
	spend(now.Add(-time.Hour), []byte(removed.ID))
	spend(now, recent.Bytes)
	for name, c := range map[string]struct {
		list []ap.Package
		want *mls.KeyPackage
		busy bool
	}{
		"a fresh one":            {[]ap.Package{old, removed, fresh, recent}, fresh.KeyPackage, false},
		"one of a while ago":     {[]ap.Package{removed, old}, old.KeyPackage, false},
		"one that was just used": {[]ap.Package{removed, recent}, nil, true},
		"one that is gone":       {[]ap.Package{removed}, nil, false},
	} {
		if got, busy, err := face.pickPackage(ctx, p.bobID, c.list); err != nil || got != c.want || busy != c.busy {
			t.Errorf("%s: %p, %v, %v; want %p, %v", name, got, busy, err, c.want, c.busy)
		}
	}
}

// TestChangedKeysAreTold: new keys of somebody are told in the rooms that one shares with them; the fingerprints, old and new, are shown, and the user can
// mark them as compared. S001-099.
func TestChangedKeysAreTold(t *testing.T) {
	p, ctx := newAPPair(t), context.Background()
	before, err := p.a.face.Fingerprints(ctx, p.alice, "@bob@b.example")
	if err != nil || len(before) != 1 || before[0].Verified || before[0].New || !before[0].Offered {
		t.Fatalf("%+v %v", before, err)
	}
	for digits, want := range map[string]int{before[0].Text[:17]: 1, "ffff": 0, "": 1} {
		if n, err := p.a.face.VerifyKeys(ctx, p.alice, "acct:bob@b.example", digits); err != nil || n != want {
			t.Errorf("%q: %d %v", digits, n, err)
		}
	}
	// Bob gets another key, and his bridge says so.
	key, err := mls.GenerateSignatureKey(p.b.relay.Rand, apSuite)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.b.db.Tx(ctx, func(tx *store.Tx) error { return tx.SetSecret(ctx, clientKeyName(p.bobID), key.Marshal(), 1) }); err != nil {
		t.Fatal(err)
	}
	p.b.w.now = p.b.w.now.Add(time.Minute)
	if err := p.b.face.renewLastResort(ctx, p.bobID, nil); err != nil {
		t.Fatal(err)
	}
	settleAP(t, p.a, p.b)
	notice := p.at.find(t, "m.room.message", "has new keys").object().Str("body")
	if !strings.Contains(notice, "@bob@b.example") || !strings.Contains(notice, groups(ap.HashBytes(key.Public()))) {
		t.Errorf("%q", notice)
	}
	after, err := p.a.face.Fingerprints(ctx, p.alice, "@bob@b.example")
	if err != nil || len(after) != 2 || !after[0].Verified || after[1].Verified || !after[1].New {
		t.Errorf("%+v %v", after, err)
	}
	settleAP(t, p.a, p.b)
	if texts := strings.Join(p.a.hs.texts(p.at), "\n"); strings.Count(texts, "has new keys") != 1 {
		t.Errorf("told more than once: %q", texts)
	}
}

// TestALeafMustBeItsActors: a leaf that a member adds in the name of somebody is refused when that actor does not offer its key, or is not there; one
// whose key it offers is taken. S001-044 … S001-047, docs/activitypub.md, "Ghost members".
func TestALeafMustBeItsActors(t *testing.T) {
	p, ctx := newAPPair(t), context.Background()
	room, _, err := p.b.face.Owns(ctx, p.bt.id)
	if err != nil {
		t.Fatal(err)
	}
	for n, identity := range []string{p.bobID, "http://nowhere.example/u/eve"} {
		key, err := mls.GenerateSignatureKey(p.b.relay.Rand, apSuite)
		if err != nil {
			t.Fatal(err)
		}
		kp, _, err := mls.NewKeyPackage(p.b.relay.Rand, mls.KeyPackageParams{Suite: apSuite, Credential: mls.BasicCredential([]byte(identity)), SignatureKey: key, Capabilities: ap.Capabilities(),
			Lifetime: mls.Lifetime{NotBefore: uint64(p.b.w.now.Add(-time.Hour).Unix()), NotAfter: uint64(p.b.w.now.Add(time.Hour).Unix())}})
		if err != nil {
			t.Fatal(err)
		}
		var commit []byte
		stop := errors.New("not kept")
		err = p.b.face.run(ctx, room, func(x *apStep) error {
			lax, err := ap.LoadThread(mls.Config{Validator: ap.Validator{}}, x.room.group.Export(), nil)
			if err != nil {
				return err
			}
			e, err := lax.Commit(x.Rand, x.now, p.bobID, []*mls.KeyPackage{kp}, nil, true)
			if err != nil {
				return err
			}
			commit = e.Commit
			return stop
		})
		if !errors.Is(err, stop) {
			t.Fatal(err)
		}
		object, err := ap.ParseMLSObject(p.b.face.Site.MLSCreate(ap.Envelope{ID: fmt.Sprint("x", n), Actor: p.bobID}, commit)["object"].(ap.Object))
		if err != nil {
			t.Fatal(err)
		}
		fresh, err := p.a.face.Receive(ctx, ap.Delivered{MLS: object, Activity: &ap.Activity{ID: fmt.Sprint("http://b.example/x", n), Type: "Create", Actor: p.bobID, To: []string{p.aliceID}}})
		if err == nil || fresh {
			t.Errorf("a leaf in the name of %s was taken", identity)
		}
	}
	if m := p.at.members["@acct_bob=40b.example:"+p.a.hs.server]; m != "join" {
		t.Errorf("bob is %q", m)
	}
}
