package activitypub

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"slices"
	"testing"

	"github.com/matrix-mimi/bridge/mimiside/mls"
)

var testMLS = mls.Config{Validator: Validator{}}

const (
	carol = "https://c.example/u/carol"
	dave  = "https://b.example/ap/u/dave"
)

// pair is a conversation of alice and dave here with bob there.
func pair(t *testing.T) (ours, theirs *Thread) {
	t.Helper()
	b, d := newMember(t, bob), newMember(t, dave)
	key := newMember(t, alice).key.Private.SignatureKey
	ours, e, err := StartThread(rand.Reader, testNow, testMLS, "mimi://b.example/g/1", alice, key, []*mls.KeyPackage{b.key.KeyPackage, d.key.KeyPackage}, true)
	if err != nil {
		t.Fatal(err)
	}
	if !e.Whole || !slices.Equal(e.Joined, []string{bob, dave}) {
		t.Fatalf("%+v", e)
	}
	w := welcomeOf(t, e)
	if _, err := ours.JoinMore(testNow, w, []mls.JoinKey{d.key}); err != nil {
		t.Fatal(err)
	}
	theirs, e, err = JoinThread(testNow, testMLS, w, []mls.JoinKey{b.key})
	if err != nil || len(e.Joined) != 3 {
		t.Fatal(err)
	}
	return ours, theirs
}

func welcomeOf(t *testing.T, e *Effect) *mls.Welcome {
	t.Helper()
	m, err := mls.UnmarshalMLSMessage(e.Welcome)
	if err != nil || m.Welcome == nil {
		t.Fatal(err)
	}
	return m.Welcome
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// says checks that what one says the other hears, and that the state survives a restart.
func says(t *testing.T, from *Thread, actor string, to *Thread, text string) {
	t.Helper()
	e, err := from.Say(rand.Reader, actor, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadThread(testMLS, to.Group.Export(), to.Fork(testNow))
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []*Thread{again, to} {
		got, err := x.Receive(testNow, e.Message)
		if err != nil || got.Said == nil || got.Said.Sender != actor || string(got.Said.Data) != text {
			t.Fatalf("%+v %v", got, err)
		}
	}
	if _, err := to.Receive(testNow, e.Message); !errors.Is(err, ErrOld) {
		t.Fatalf("again: %v", err)
	}
}

// TestAConversation: Welcome, messages both ways, a member more, a member less, leaving. S001-001, S001-016, S000-054.
func TestAConversation(t *testing.T) {
	ours, theirs := pair(t)
	says(t, ours, alice, theirs, "hello")
	says(t, ours, dave, theirs, "me too")
	says(t, theirs, bob, ours, "hi")
	c := newMember(t, carol)
	e := must(ours.Commit(rand.Reader, testNow, alice, []*mls.KeyPackage{c.key.KeyPackage}, nil, true))
	if kindOf(e.Commit) != "PrivateMessage" || !slices.Equal(e.Joined, []string{carol}) {
		t.Fatalf("%+v", e)
	}
	if got := must(theirs.Receive(testNow, e.Commit)); !slices.Equal(got.Joined, []string{carol}) || got.By != alice {
		t.Fatalf("%+v", got)
	}
	third, _, err := JoinThread(testNow, testMLS, welcomeOf(t, e), []mls.JoinKey{c.key})
	if err != nil {
		t.Fatal(err)
	}
	says(t, third, carol, ours, "new here")
	e = must(ours.Leave(rand.Reader, testNow, dave, true)) // another leaf of ours commits
	for _, x := range []*Thread{theirs, third} {
		if got := must(x.Receive(testNow, e.Commit)); !slices.Equal(got.Left, []string{dave}) {
			t.Fatalf("%+v", got)
		}
	}
	e = must(ours.Leave(rand.Reader, testNow, alice, true)) // the last one proposes
	for _, x := range []*Thread{theirs, third} {
		if got := must(x.Receive(testNow, e.Proposal)); !got.Pending || got.By != alice {
			t.Fatalf("%+v", got)
		}
	}
	e = must(theirs.Commit(rand.Reader, testNow, bob, nil, nil, true))
	if got := must(third.Receive(testNow, e.Commit)); !slices.Equal(got.Left, []string{alice}) {
		t.Fatalf("%+v", got)
	}
	if got := must(ours.Receive(testNow, e.Commit)); !got.Gone {
		t.Fatalf("%+v", got)
	}
	says(t, theirs, bob, third, "just us")
	if _, err := ours.Say(rand.Reader, alice, []byte("x")); !errors.Is(err, ErrNotMember) {
		t.Fatal(err)
	}
}

// TestTwoCommitsAtOnce: without a sequencer both sides find the same winner, and go on together (docs/activitypub.md).
func TestTwoCommitsAtOnce(t *testing.T) {
	won := map[bool]int{}
	for try := 0; try < 20 && (won[true] == 0 || won[false] == 0); try++ {
		ours, theirs := pair(t)
		c, d := newMember(t, carol), newMember(t, "https://c.example/u/dora")
		a := must(ours.Commit(rand.Reader, testNow, alice, []*mls.KeyPackage{c.key.KeyPackage}, nil, true))
		b := must(theirs.Commit(rand.Reader, testNow, bob, []*mls.KeyPackage{d.key.KeyPackage}, nil, true))
		ha, hb := sha256.Sum256(a.Commit), sha256.Sum256(b.Commit)
		aWins := bytes.Compare(ha[:], hb[:]) < 0
		won[aWins]++
		winner, loser, winning, losing := ours, theirs, a, b
		if !aWins {
			winner, loser, winning, losing = theirs, ours, b, a
		}
		if _, err := winner.Receive(testNow, losing.Commit); !errors.Is(err, ErrOld) {
			t.Fatalf("the winner took the loser's: %v", err)
		}
		e, err := loser.Receive(testNow, winning.Commit)
		if err != nil || !e.Lost || !e.Whole {
			t.Fatalf("%+v %v", e, err)
		}
		says(t, ours, alice, theirs, "together")
		says(t, theirs, bob, ours, "again")
	}
	if len(won) != 2 {
		t.Fatal("only one side ever won")
	}
}

// TestAChannelTakesOneCommitAnEpoch: epoch, form and meaning of the commit are checked; a loser is told. S000-073 … S000-076.
func TestAChannelTakesOneCommitAnEpoch(t *testing.T) {
	room := "https://b.example/ap/r/x"
	host, b, c := newMember(t, room), newMember(t, bob), newMember(t, carol)
	thread, e, err := StartThread(rand.Reader, testNow, testMLS, "mimi://b.example/r/x", room, host.key.Private.SignatureKey, []*mls.KeyPackage{b.key.KeyPackage, c.key.KeyPackage}, false)
	if err != nil {
		t.Fatal(err)
	}
	channel := &Channel{Thread: thread, ID: room}
	atBob, _, err := JoinThread(testNow, testMLS, welcomeOf(t, e), []mls.JoinKey{b.key})
	if err != nil {
		t.Fatal(err)
	}
	atCarol, _, err := JoinThread(testNow, testMLS, welcomeOf(t, e), []mls.JoinKey{c.key})
	if err != nil {
		t.Fatal(err)
	}
	dora, eve := newMember(t, "https://d.example/u/dora"), newMember(t, "https://e.example/u/eve")
	first := must(atBob.Commit(rand.Reader, testNow, bob, []*mls.KeyPackage{dora.key.KeyPackage}, nil, false))
	late, err := atCarol.Stage(rand.Reader, testNow, carol, []*mls.KeyPackage{eve.key.KeyPackage}, nil)
	if err != nil {
		t.Fatal(err)
	}
	add := func(actor, object string, commit, welcome []byte) *Activity {
		return &Activity{ID: actor + "/1", Type: "Add", Actor: actor, ObjectID: object, Target: room + "/followers", Commit: commit, Welcome: welcome}
	}
	for name, a := range map[string]*Activity{
		"somebody else is added": add(bob, eve.id, first.Commit, first.Welcome),
		"no welcome":             add(bob, dora.id, first.Commit, nil),
		"no commit":              add(bob, dora.id, nil, first.Welcome),
		"another's commit":       add(carol, dora.id, first.Commit, first.Welcome),
		"not a commit":           add(bob, dora.id, first.Welcome, first.Welcome),
		"target elsewhere":       {Type: "Add", Actor: bob, ObjectID: dora.id, Target: "https://b.example/ap/r/y/followers", Commit: first.Commit, Welcome: first.Welcome},
		"a Remove that adds":     {Type: "Remove", Actor: bob, ObjectID: dora.id, Target: room + "/followers", Commit: first.Commit},
	} {
		if _, err := channel.Accept(testNow, a, nil); !errors.Is(err, ErrActivity) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := channel.Accept(testNow, add("https://z.example/u/z", dora.id, first.Commit, first.Welcome), nil); !errors.Is(err, ErrForbidden) {
		t.Error(err)
	}
	if _, err := channel.Accept(testNow, add(bob, dora.id, first.Commit, first.Welcome), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := channel.Accept(testNow, add(carol, eve.id, late.Commit(), late.Welcome()), nil); !errors.Is(err, ErrEpoch) {
		t.Fatalf("a second commit in the epoch: %v", err)
	}
	must(atCarol.Receive(testNow, first.Commit))
	says(t, atCarol, carol, atBob, "in order")
	second := must(atCarol.Commit(rand.Reader, testNow, carol, []*mls.KeyPackage{eve.key.KeyPackage}, nil, false))
	if _, err := channel.Accept(testNow, add(carol, eve.id, second.Commit, second.Welcome), nil); err != nil {
		t.Fatal(err)
	}
	gone := must(atCarol.Commit(rand.Reader, testNow, carol, nil, []string{dora.id}, false))
	if e, err := channel.Accept(testNow, &Activity{Type: "Remove", Actor: carol, ObjectID: dora.id, Target: room + "/followers", Commit: gone.Commit}, nil); err != nil || !slices.Equal(e.Left, []string{dora.id}) {
		t.Fatal(err)
	}
}

// TestFanOutIsOncePerSharedInbox and in the form that each recipient reads. S000-067, S000-069.
func TestFanOutIsOncePerSharedInbox(t *testing.T) {
	site := Site{Base: "https://b.example"}
	room := site.Room("x")
	m := newMember(t, bob).key.KeyPackage.Message()
	original := Object{"@context": inlineContext(), "id": bob + "/1", "type": "Create", "actor": bob}
	posts := site.FanOut(Envelope{ID: "1", Actor: room}, bob, original, m, []Recipient{
		{Actor: bob, Inbox: bob + "/inbox", SharedInbox: "https://a.example/inbox", Dialect: DialectE2EE},
		{Actor: "https://a.example/u/2", SharedInbox: "https://a.example/inbox", Dialect: DialectE2EE},
		{Actor: carol, Inbox: carol + "/inbox", Dialect: DialectE2EE},
		{Actor: "https://d.example/1", SharedInbox: "https://d.example/inbox", Dialect: DialectAIM},
		{Actor: "https://d.example/2", SharedInbox: "https://d.example/inbox", Dialect: DialectAIM},
		{Actor: "https://e.example/1", Inbox: "https://e.example/inbox", Dialect: DialectNone},
	})
	got := map[string]string{}
	for _, p := range posts {
		if got[p.Inbox] != "" {
			t.Errorf("%s twice", p.Inbox)
		}
		got[p.Inbox] = p.Body.Str("type")
		if p.Body.Str("actor") != room {
			t.Error("the channel is not the actor")
		}
		o := p.Body["object"].(Object)
		if p.Body.Str("type") == "Create" && ref(o["attributedTo"]) != bob {
			t.Error("the author is not named")
		}
		if p.Body.Str("type") == "Announce" && (o.Str("id") != bob+"/1" || o["@context"] != nil) {
			t.Error("the activity is not whole")
		}
	}
	if len(posts) != 3 || got["https://a.example/inbox"] != "Create" || got[carol+"/inbox"] != "Create" || got["https://d.example/inbox"] != "Announce" {
		t.Fatalf("%v", got)
	}
	if SetKey([]string{bob, alice}) != SetKey([]string{alice, bob, alice}) || SetKey([]string{bob}) == SetKey([]string{alice}) {
		t.Error("sets are not named by their members")
	}
}
