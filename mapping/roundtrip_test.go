package mapping

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"maunium.net/go/mautrix/id"
	"pgregory.net/rapid"

	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/content"
)

// the same three people as the users of two bridges see them.
func bothSides() (a, b *side) {
	a = newSide(newPeople(
		[3]string{"@alice:one", "mimi://b.example/u/alice", "Alice"},
		[3]string{"@dora_x:one", "mimi://b.example/u/dora", "Dora *D*"},
		[3]string{"@mimi_bob:one", "mimi://a.example/u/bob", "Bob (a.example)"}))
	b = newSide(newPeople(
		[3]string{"@mimi_alice:two", "mimi://b.example/u/alice", "Alice"},
		[3]string{"@mimi_dora:two", "mimi://b.example/u/dora", "Dora *D*"},
		[3]string{"@bob:two", "mimi://a.example/u/bob", "Bob (a.example)"}))
	return a, b
}

var users = []id.UserID{"@alice:one", "@dora_x:one", "@mimi_bob:one"}

// drawContent makes a message of any kind, with relations to what was sent before.
func drawContent(t *rapid.T, sent []event.Event) (typ string, m event.Message) {
	word := rapid.StringOfN(rapid.RuneFrom([]rune("abcxyz 019.*_`~<>&|#-+=[]()!\\\"é日:/@")), 1, 14, -1)
	text := rapid.Custom(func(t *rapid.T) string {
		return strings.TrimSpace("w" + strings.Join(rapid.SliceOfN(word, 1, 3).Draw(t, "words"), rapid.SampledFrom([]string{" ", "\n"}).Draw(t, "sep")))
	})
	typ = event.TypeMessage
	m = event.Message{Body: text.Draw(t, "body")}
	esc := strings.NewReplacer("&", "&amp;", "<", "&lt;", "\n", "<br>")
	switch rapid.IntRange(0, 9).Draw(t, "kind") {
	case 0, 1:
		m.MsgType = event.MsgText
	case 2:
		m.MsgType = event.MsgNotice
	case 3:
		m.MsgType = event.MsgEmote
	case 4, 5:
		m.MsgType = rapid.SampledFrom([]string{event.MsgText, event.MsgEmote, event.MsgNotice}).Draw(t, "type")
		m.HTML = "<b>" + esc.Replace(text.Draw(t, "b")) + "</b> " + esc.Replace(text.Draw(t, "h"))
		if rapid.Bool().Draw(t, "block") {
			m.HTML = "<p>" + m.HTML + "</p><ul><li>" + esc.Replace(text.Draw(t, "li")) + "</li></ul><pre><code>" + esc.Replace(word.Draw(t, "code")) + "</code></pre>"
		}
		if rapid.Bool().Draw(t, "lossy") {
			m.HTML += " <u>" + esc.Replace(text.Draw(t, "u")) + "</u>"
		}
	case 6:
		m.MsgType = event.MsgText
		u := rapid.SampledFrom(users).Draw(t, "pill")
		m.HTML = `<a href="https://matrix.to/#/` + string(u) + `">X</a> ` + esc.Replace(text.Draw(t, "h"))
		m.Mentions = &event.Mentions{Users: []id.UserID{u}, Room: rapid.Bool().Draw(t, "room")}
	case 7:
		m.MsgType, m.GeoURI = event.MsgLocation, fmt.Sprintf("geo:%d,%d;u=7", rapid.IntRange(-90, 90).Draw(t, "lat"), rapid.IntRange(-180, 180).Draw(t, "lon"))
	default:
		m.MsgType = rapid.SampledFrom([]string{event.MsgImage, event.MsgFile, event.MsgVideo, event.MsgAudio, ""}).Draw(t, "media")
		m.Media = &event.Media{URL: "mxc://one/" + rapid.StringMatching("[a-z]{3}").Draw(t, "mxc"), Mimetype: "image/png", Size: rapid.Int64Range(0, 9999).Draw(t, "size"),
			Width: rapid.Int64Range(0, 4000).Draw(t, "w"), Height: rapid.Int64Range(0, 4000).Draw(t, "h"), Blurhash: rapid.SampledFrom([]string{"", "LKO2"}).Draw(t, "hash"),
			Spoiler: rapid.Bool().Draw(t, "spoiler")}
		switch m.MsgType {
		case event.MsgVideo:
			m.Media.URL, m.Media.Mimetype, m.Media.Duration = m.Media.URL+".mp4", "video/mp4", rapid.Int64Range(0, 1e7).Draw(t, "duration")
		case event.MsgAudio:
			m.Media.URL, m.Media.Mimetype, m.Media.Duration = m.Media.URL+".ogg", "audio/ogg", rapid.Int64Range(0, 1e7).Draw(t, "duration")
			m.Media.Width, m.Media.Height, m.Media.Blurhash = 0, 0, ""
			if m.Media.Voice = rapid.Bool().Draw(t, "voice"); m.Media.Voice {
				m.Media.Waveform = rapid.SliceOfN(rapid.IntRange(0, 1024), 1, 9).Draw(t, "waveform")
			}
		}
		if rapid.IntRange(0, 3).Draw(t, "encrypted") == 0 {
			m.Media.File, m.Media.URL = &event.EncryptedFile{URL: m.Media.URL, IV: "AA", Version: "v2", Hashes: map[string]string{"sha256": "AA"}}, ""
		}
		if m.MsgType == "" {
			typ = event.TypeSticker
		} else if rapid.Bool().Draw(t, "caption") {
			m.Media.Filename = "pic.png"
			if rapid.Bool().Draw(t, "formatted") {
				m.HTML = "<em>" + esc.Replace(text.Draw(t, "em")) + "</em> " + esc.Replace(m.Body)
			}
			if rapid.IntRange(0, 3).Draw(t, "mentions") == 0 {
				u := rapid.SampledFrom(users).Draw(t, "pill")
				m.HTML = `<a href="https://matrix.to/#/` + string(u) + `">X</a> ` + esc.Replace(m.Body)
				m.Mentions = &event.Mentions{Users: []id.UserID{u}}
			}
		} else {
			m.Body = "pic.png"
		}
	}
	if m.Mentions == nil {
		m.Mentions = &event.Mentions{}
	}
	if len(sent) > 0 {
		target := rapid.SampledFrom(sent).Draw(t, "target").ID
		switch rapid.IntRange(0, 4).Draw(t, "relation") {
		case 1:
			m.Relation = event.Relation{ReplyTo: target}
		case 2:
			m.Relation = event.Relation{Thread: target, ReplyTo: target, ThreadFallback: true}
		case 3:
			m.Relation = event.Relation{Thread: target, ReplyTo: sent[len(sent)-1].ID}
		}
	}
	if rapid.IntRange(0, 5).Draw(t, "timer") == 0 {
		m.Timer = &event.Timer{AfterRead: rapid.Bool().Draw(t, "read"), Milliseconds: 1000 * rapid.Int64Range(1, 9999).Draw(t, "seconds")}
	}
	return typ, m
}

// What goes from Matrix over MIMI to another Matrix bridge arrives as the same
// thing: sent on from there, it would be the very same MIMI message.
func TestMatrixMIMIMatrixRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := bothSides()
		var sent []event.Event
		for n := range rapid.IntRange(1, 4).Draw(t, "messages") {
			sender := rapid.SampledFrom(users).Draw(t, "sender")
			typ, m := drawContent(t, roots(a, sent))
			e := evt(fmt.Sprintf("$a%d", n), string(sender), typ, string(m.Encode()))
			octets, mimi, o, err := a.send(e, uploaded)
			if err != nil {
				t.Fatalf("%s: %v", m.Encode(), err)
			}
			sent = append(sent, e)
			uri, _ := a.People.URI(sender)
			res, ids, err := b.receive(uri, octets, 1700000000000)
			if err != nil || len(res.Events) != 1 {
				t.Fatalf("%s: %d events, %v", m.Encode(), len(res.Events), err)
			}
			got := res.Events[0]
			wantType := m.MsgType
			if got.Message.MsgType != wantType || got.Type != typ {
				t.Fatalf("%s arrived as %s %s", m.Encode(), got.Type, got.Message.Encode())
			}
			checkMentions(t, a, b, m, got)
			got.Complete(Stored{MXC: "mxc://two/" + m.Media.Address()[strings.LastIndexByte(m.Media.Address(), '/')+1:]})
			again := evt(string(ids[0]), string(got.Sender), got.Type, string(got.Message.Encode()))
			b.book.list = b.book.list[:len(b.book.list)-1] // as if it had been written there
			g, _ := again.Message()
			g.Origin = nil
			again.Content, _ = event.ParseObject(g.Encode())
			back := b.ToMIMI(again, o.Message.Salt, uploaded)
			if back.Message == nil {
				t.Fatalf("%s: arrived as %s, which gives %q", m.Encode(), got.Message.Encode(), back.Drop)
			}
			b.book.add(Known{Event: ids[0], ID: mimi, Sender: uri, Memory: got.Memory})
			if !sameMessage(o.Message, back.Message) {
				t.Fatalf("event   %s\nMIMI    %s\narrived %s\nback    %s", m.Encode(), text(o.Message), got.Message.Encode(), text(back.Message))
			}
		}
	})
}

// roots leaves out events that are in a thread already: Matrix has no threads
// in threads.
func roots(a *side, sent []event.Event) []event.Event {
	var out []event.Event
	for _, e := range sent {
		if k, ok := a.book.ByEvent(e.ID); ok && k.Thread == "" {
			out = append(out, e)
		}
	}
	return out
}

func checkMentions(t *rapid.T, a, b *side, m event.Message, got Out) {
	var want []id.UserID
	for _, u := range m.Mentions.Users {
		uri, _ := a.People.URI(u)
		there, _ := b.People.MXID(uri)
		want = append(want, there)
	}
	if !reflect.DeepEqual(got.Message.Mentions.Users, want) || got.Message.Mentions.Room != m.Mentions.Room {
		t.Fatalf("%s mentions %v, arrived %s", m.Encode(), want, got.Message.Encode())
	}
}

func sameMessage(x, y *content.Message) bool {
	return reflect.DeepEqual(x.Body, y.Body) && reflect.DeepEqual(x.Extensions, y.Extensions) && x.InReplyTo == y.InReplyTo &&
		string(x.TopicID) == string(y.TopicID) && x.Replaces == y.Replaces && reflect.DeepEqual(x.Expires, y.Expires)
}

func text(m *content.Message) string {
	b, _ := json.Marshal((&talk{}).show(m))
	return string(b)
}
