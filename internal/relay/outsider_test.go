package relay

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// A provider that has nobody in a room, or only people who are banned, cannot tell it from one that does not exist: not by an answer, nor by how often it may ask.
// No refusal makes the room be loaded anew. (S004-037)
func TestOutsidersCannotTellARoomFromNone(t *testing.T) {
	for _, banned := range []bool{false, true} {
		p := newPair(t, warm, "c.example").begin()
		const eve wire.IdentifierURI = "mimi://c.example/u/eve"
		if banned {
			p.a.hs.ban(p.room, p.alice, p.a.ghost(string(eve)))
			p.settle()
		}
		p.talk(1)
		c := p.nodes["c.example"]
		client, err := c.relay.client(t.Context(), c.hs.mxid("eve"))
		must0(t, err)
		_, public, err := mls.GenerateKeyPair(p.a.relay.Rand, client.Key.Suite())
		must0(t, err)
		room := string(p.view(p.a).uri())
		none := room[:len(room)-1] + map[bool]string{true: "2", false: "1"}[strings.HasSuffix(room, "1")]
		old := p.forge()
		p.a.hs.set(p.room, p.alice, "m.room.topic", map[string]string{"topic": "new epoch"})
		p.settle()
		v := p.view(p.b)
		message := p.said(v.group, p.leaf(), "x").Message
		p.b.relay.Forget()
		late := *message.MLS.Private
		late.Epoch = 0
		signed := func(at string) []byte {
			q := &wire.KeyMaterialRequest{RequestingUser: eve, TargetUser: bobURI, RoomID: wire.IdentifierURI(at),
				AcceptableSuites: []mls.Suite{client.Key.Suite()}, RequesterCredential: client.Credential}
			must0(t, q.Sign(client.Key))
			return q.Marshal()
		}
		info := &wire.GroupInfoRequest{Credential: client.Credential, PublicKey: public}
		must0(t, info.Sign(client.Key))
		coded := &wire.GroupInfoRequest{Credential: client.Credential, PublicKey: public, JoiningCode: []byte("guess")}
		must0(t, coded.Sign(client.Key))
		always := func(b []byte) func(string) []byte { return func(string) []byte { return b } }
		for what, ask := range map[string]struct {
			verb  string
			body  func(at string) []byte
			times int
		}{
			"a commit of an old epoch":   {verbUpdate, always(old.Marshal()), 1},
			"a commit":                   {verbUpdate, always(p.forge().Marshal()), 1},
			"a commit of another group":  {verbUpdate, always((&wire.HandshakeBundle{Message: message}).Marshal()), 1},
			"a message":                  {verbSubmitMessage, always((&wire.SubmitMessageRequest{Message: message, SendingURI: eve}).Marshal()), 1},
			"a message of an old epoch":  {verbSubmitMessage, always((&wire.SubmitMessageRequest{Message: wire.NewMessage(late.Message()), SendingURI: eve}).Marshal()), 1},
			"a message as somebody else": {verbSubmitMessage, always((&wire.SubmitMessageRequest{Message: message, SendingURI: bobURI}).Marshal()), 1},
			"the group's state":          {verbGroupInfo, always(info.Marshal()), 12},
			"the state, with a code":     {verbGroupInfo, always(coded.Marshal()), 12},
			"KeyPackages":                {verbKeyMaterial, signed, 1},
			"a report":                   {verbReportAbuse, always((&wire.AbuseReport{AllegedAbuserURI: bobURI}).Marshal()), 1},
			"a code":                     {verbLinkStatus, always((&wire.LinkStatusRequest{JoiningCode: []byte("guess")}).Marshal()), 12},
			"a knock":                    {verbKnock, always((&wire.KnockRequest{User: eve}).Marshal()), 60},
			"a status":                   {verbStatus, always((&wire.StatusMessage{Epoch: 1, Nonce: make([]byte, 12), Ciphertext: make([]byte, 99)}).Marshal()), 1},
		} {
			answer := func(at string) string {
				var r Reply
				for range ask.times {
					r, err = p.a.serve("c.example", ask.verb, at, ask.body(at))
					must0(t, err)
				}
				return fmt.Sprintf("%d %q", r.Status, bytes.ReplaceAll(r.Body, []byte(at), nil))
			}
			there, nowhere := answer(room), answer(none)
			if there != nowhere {
				t.Errorf("%s: %s, where there is no room %s", what, there, nowhere)
			}
			if (ask.verb == verbUpdate || ask.verb == verbSubmitMessage || ask.verb == verbKeyMaterial) && p.a.relay.slot(p.a.room(p.room).ID).mem == nil {
				t.Errorf("%s: the room must be loaded anew", what)
			}
		}
		for range 61 {
			p.post("c.example", &wire.AbuseReport{AllegedAbuserURI: bobURI})
		}
		r, err := p.a.serve("c.example", verbReportAbuse, none, (&wire.AbuseReport{AllegedAbuserURI: bobURI}).Marshal())
		must0(t, err)
		p.equal("reports", []int{p.post("c.example", &wire.AbuseReport{AllegedAbuserURI: bobURI}), r.Status}, []int{429, 429})
		if banned { // and the ban is lifted
			p.a.hs.member(p.room, p.alice, p.a.ghost(string(eve)), "leave", "")
			p.settle()
			p.now = p.now.Add(time.Hour)
			p.equal("a report when the ban was lifted", p.post("c.example", &wire.AbuseReport{AllegedAbuserURI: bobURI}), 404)
		}
		p.talk(2)
	}
}

// Who was in the room before a ban may report what they saw there.
func TestWhoWasBannedMayReport(t *testing.T) {
	p := newPair(t, warm).begin()
	p.a.hs.ban(p.room, p.alice, p.bobAtA)
	p.settle()
	p.equal("bob's place", p.room.members[p.bobAtA], "ban")
	p.equal("status", p.post("b.example", &wire.AbuseReport{AllegedAbuserURI: aliceURI}), 201)
}
