package relay

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// linked is a hub room of alice's that nobody from elsewhere is in yet, and a chat with the bot for everybody at B.
type linked struct {
	*pair
	chats map[string]*hsRoom
}

func newLinked(t *testing.T, m mode) *linked {
	p := newPair(t, m)
	p.room = p.a.hs.create(p.alice, "Club", "")
	p.a.hs.invite(p.room, p.alice, p.a.hs.mxid("mimibot"))
	p.settle()
	must0(t, p.a.relay.Plumb(context.Background(), p.room.id, p.alice, ""))
	p.settle()
	return &linked{pair: p, chats: map[string]*hsRoom{}}
}

var linkPattern = regexp.MustCompile(`mimi://\S+\?join=\S+`)

// link lets alice make a link and reads it in the room.
func (l *linked) link(o LinkOptions) string {
	l.t.Helper()
	must0(l.t, l.a.relay.CreateLink(context.Background(), l.room.id, l.alice, "$ask", o))
	l.settle()
	texts := l.a.hs.texts(l.room)
	found := linkPattern.FindString(texts[len(texts)-1])
	if found == "" {
		l.t.Fatalf("no link: %q", texts)
	}
	return found
}

// joins lets a user of B join by a link.
func (l *linked) joins(user, link, secret string) string {
	l.t.Helper()
	mxid := l.b.hs.mxid(user)
	if l.chats[user] == nil {
		l.b.hs.users[mxid] = true
		l.chats[user] = l.b.hs.create(mxid, "", "")
		l.b.hs.invite(l.chats[user], mxid, l.b.hs.mxid("mimibot"))
		l.settle()
	}
	must0(l.t, l.b.relay.Join(context.Background(), mxid, link, secret))
	l.pass(10 * time.Second)
	return mxid
}

// in demands that a user of B was let in, and joins the portal.
func (l *linked) in(user string) {
	l.t.Helper()
	mxid := l.b.hs.mxid(user)
	if l.portal == nil {
		l.portal = l.b.hs.roomOf(mxid, "invite")
	}
	if l.portal == nil || l.portal.members[mxid] != "invite" {
		l.t.Fatalf("%s was not let in: A %q; B %q; told %q", user, l.a.hs.rows, l.b.hs.rows, l.b.hs.texts(l.chats[user]))
	}
	l.b.hs.join(l.portal, mxid)
	l.settle()
	l.equal("ghost of "+user, l.room.members[l.a.ghost("mimi://b.example/u/"+user)], "join")
}

// out demands that a user of B was told why it was not let in.
func (l *linked) out(user, why string) {
	l.t.Helper()
	if l.portal != nil && l.portal.members[l.b.hs.mxid(user)] != "" {
		l.t.Errorf("%s was let in", user)
	}
	texts := l.b.hs.texts(l.chats[user])
	if len(texts) == 0 || !strings.Contains(texts[len(texts)-1], why) {
		l.t.Errorf("%s was told %q, want %q", user, texts, why)
	}
}

const notGood = "it may be used up, revoked or expired, or its passphrase is wrong or missing"

func TestJoinLinkForOne(t *testing.T) {
	for name, m := range map[string]mode{"warm": warm, "restarting": restarting, "doubling": doubling, "losing": losing} {
		t.Run(name, func(t *testing.T) {
			l := newLinked(t, m)
			link := l.link(LinkOptions{Lasts: time.Hour})
			l.joins("bob", link, "")
			l.in("bob")
			l.talk(1)
			l.joins("carol", link, "")
			l.out("carol", notGood)
			l.talk(2)
			l.agree(map[*node]*hsRoom{l.a: l.room, l.b: l.portal})
			// Nothing is left of the link in the policy, and no code may be used.
			v := l.a.view(l.room)
			l.equal("links in the policy", v.policy.JoinLinks, policy.JoinLinks(nil))
			l.equal("codes may be used", v.policy.Role(policy.RoleNone).Has(policy.CanUseJoinCode), false)
			l.noTrouble()
		})
	}
}

func TestJoinLinkForManyWithAPassphraseAndAnEnd(t *testing.T) {
	l := newLinked(t, warm)
	link := l.link(LinkOptions{Many: true, Lasts: 24 * time.Hour, Passphrase: "open sesame"})
	v := l.a.view(l.room)
	l.equal("multiuser, seconds", []uint32{map[bool]uint32{true: 1}[v.policy.JoinLinkPolicy.MultiUser], v.policy.JoinLinkPolicy.Expiration}, []uint32{1, 86400})
	if len(v.policy.JoinLinks) != 1 || strings.Contains(link, strings.TrimPrefix(v.policy.JoinLinks[0], v.head.URI+"?link=")) {
		t.Errorf("links in the policy: %q", v.policy.JoinLinks)
	}
	if err := l.b.relay.Join(context.Background(), l.bob, link, ""); err == nil || !strings.Contains(err.Error(), "passphrase") {
		t.Errorf("joining without a passphrase: %v", err)
	}
	l.joins("bob", link, "open barley")
	l.out("bob", notGood)
	l.joins("bob", link, "open sesame")
	l.in("bob")
	l.joins("carol", link, "open sesame") // into a group that the bridge holds
	l.in("carol")
	l.talk(1)
	l.agree(map[*node]*hsRoom{l.a: l.room, l.b: l.portal})
	l.pass(25 * time.Hour)
	l.joins("dave", link, "open sesame")
	l.out("dave", notGood)
	l.equal("links in the policy", l.a.view(l.room).policy.JoinLinks, policy.JoinLinks(nil))
	l.noTrouble()
}

func TestJoinLinkRevokedAndListed(t *testing.T) {
	l := newLinked(t, warm)
	link := l.link(LinkOptions{Many: true})
	id := strings.TrimPrefix(l.a.view(l.room).policy.JoinLinks[0], l.a.view(l.room).head.URI+"?link=")
	ctx := context.Background()
	must0(t, l.a.relay.RevokeLink(ctx, l.room.id, l.alice, "", id))
	l.settle()
	l.joins("bob", link, "")
	l.out("bob", notGood)
	must0(t, l.a.relay.ListLinks(ctx, l.room.id, l.alice, ""))
	must0(t, l.a.relay.RevokeLink(ctx, l.room.id, l.alice, "", id))
	mallory := l.a.hs.mxid("mallory")
	l.a.hs.invite(l.room, l.alice, mallory)
	l.a.hs.join(l.room, mallory)
	must0(t, l.a.relay.CreateLink(ctx, l.room.id, mallory, "", LinkOptions{}))
	l.settle()
	l.last("A", l.a.hs.texts(l.room),
		"notice mimibot: "+id+" (for any number of people, revoked), made by "+l.alice+", joined by it: 0",
		"notice mimibot: There is no join link "+id+" in use. Say \"link list\" for those that are.",
		"notice mimibot: You may not make join links in this room: that needs power level 50.")
	l.noTrouble()
}

// A link can give more than newcomers have, where its maker and the bot may.
func TestJoinLinkWithARole(t *testing.T) {
	l := newLinked(t, warm)
	ctx := context.Background()
	ask := func(role string) string {
		must0(t, l.a.relay.CreateLink(ctx, l.room.id, l.alice, "", LinkOptions{Role: role}))
		l.settle()
		texts := l.a.hs.texts(l.room)
		return texts[len(texts)-1]
	}
	l.equal("a role that is not there", ask("king"), "notice mimibot: There is no such role in this room. There are: muted, member, admin.")
	l.equal("before the bot has power", ask("admin"), "notice mimibot: I may not give that role in this room. Give me power level 100 first.")
	l.a.hs.set(l.room, l.alice, event.TypePowerLevels, map[string]any{"users": map[string]int{l.alice: 100, l.a.hs.mxid("mimibot"): 100}})
	l.settle()
	link := l.link(LinkOptions{Role: "admin"})
	l.joins("bob", link, "")
	l.in("bob")
	l.equal("power of bob", l.room.power.User(userID(l.bobAtA)), 100)
	l.equal("power of bob in the portal", l.portal.power.User(userID(l.bob)) > 0, true)
	l.talk(1)
	// The role cannot be chosen by who joins.
	parsed, err := wire.ParseJoinLink(l.link(LinkOptions{}))
	must0(t, err)
	admin, _ := wire.ParseJoinLink(link)
	parsed.Role = admin.Role
	l.joins("carol", parsed.String(), "")
	l.out("carol", "could not be joined")
	l.equal("ghost of carol", l.room.members[l.a.ghost("mimi://b.example/u/carol")], "")
	l.noTrouble()
}

// Who guesses passphrases is refused even with the right one, until an hour has passed.
func TestJoinLinkPassphrasesCannotBeGuessed(t *testing.T) {
	l := newLinked(t, warm)
	link, err := wire.ParseJoinLink(l.link(LinkOptions{Many: true, Passphrase: "open sesame"}))
	must0(t, err)
	judge := func(secret string) wire.LinkStatus {
		var why wire.LinkStatus
		_, err := l.a.relay.runStep(context.Background(), l.a.room(l.room).ID, nil, store.Settle{}, func(s *step) error {
			_, why = s.judgeCode(link.JoiningCode(secret))
			return nil
		})
		must0(t, err)
		return why
	}
	for range wrongAnHour {
		l.equal("a guess", judge("guess"), wire.LinkPassphrase)
		l.a.relay.Forget()
	}
	l.equal("the right one", judge("open sesame"), wire.LinkLocked)
	l.now = l.now.Add(time.Hour)
	l.equal("an hour later", judge("open sesame"), wire.LinkGood)
	l.equal("others", []wire.LinkStatus{judge("x:y"), judge("")}, []wire.LinkStatus{wire.LinkPassphrase, wire.LinkPassphrase})
}

// The code of who joins, and its passphrase, are sealed while the hub does not answer, and forgotten when it did.
func TestJoiningCodesAreSealed(t *testing.T) {
	l := newLinked(t, warm)
	link := l.link(LinkOptions{Many: true, Passphrase: "open sesame"})
	l.fault = func(_, _, verb string, _ []byte) fault {
		if verb == verbGroupInfo {
			return dropAnswer
		}
		return deliver
	}
	l.joins("bob", link, "open sesame")
	l.b.start()
	parsed, err := wire.ParseJoinLink(link)
	must0(t, err)
	var stored []byte
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(l.b.cfg.DSN + suffix)
		must0(t, err)
		stored = append(stored, b...)
	}
	if !bytes.Contains(stored, []byte(parsed.Room)) {
		t.Fatal("the database was not read")
	}
	for _, secret := range []string{parsed.Code, "open sesame"} {
		for shift := range 3 {
			coded := base64.StdEncoding.EncodeToString(append(make([]byte, shift), secret...))
			if bytes.Contains(stored, []byte(secret)) || bytes.Contains(stored, []byte(coded[shift+1:len(coded)-4])) {
				t.Errorf("%q is in the database", secret)
			}
		}
	}
	room, err := l.b.db.RoomByName(t.Context(), store.NameMIMI, parsed.Room.Key())
	must0(t, err)
	_, err = l.b.db.Secret(t.Context(), joinCodeName(room.ID))
	must0(t, err)
	l.fault = nil
	l.pass(10 * time.Minute)
	l.in("bob")
	if _, err = l.b.db.Secret(t.Context(), joinCodeName(room.ID)); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("after bob came in the code is still kept: %v", err)
	}
}

// Between bridges that share it people are told why a link does not let them in.
func TestWhyAJoinLinkIsRefused(t *testing.T) {
	l := newLinked(t, warm)
	l.offers["a.example"], l.offers["b.example"] = true, true
	once, ended := l.link(LinkOptions{}), l.link(LinkOptions{Many: true, Lasts: time.Hour})
	revoked, pass := l.link(LinkOptions{Many: true}), l.link(LinkOptions{Many: true, Passphrase: "open sesame"})
	view := l.a.view(l.room)
	must0(t, l.a.relay.RevokeLink(context.Background(), l.room.id, l.alice, "", view.links[2].ID))
	l.settle()
	l.joins("bob", once, "")
	l.in("bob")
	l.now = l.now.Add(2 * time.Hour)
	for link, why := range map[string]string{once: "the link is used up", ended: "the link has expired", revoked: "the link was revoked"} {
		l.joins("carol", link, "")
		l.out("carol", "could not be joined: "+why+".")
	}
	l.joins("carol", pass, "open barley")
	l.out("carol", "the passphrase is wrong or missing.")
	unknown, err := wire.ParseJoinLink(once)
	must0(t, err)
	unknown.Code = "nothing"
	l.joins("carol", unknown.String(), "")
	l.out("carol", notGood)
	l.noTrouble()
}
