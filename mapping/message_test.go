package mapping

import (
	"reflect"
	"strings"
	"testing"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/content"
)

const (
	aliceURI = "mimi://b.example/u/alice"
	bobURI   = "mimi://a.example/u/bob"
	bobGhost = id.UserID("@mimi_a.example=2fbob:hs.example")
)

func TestWhatIsAddedToAMessage(t *testing.T) {
	s := newSide(goldenPeople())
	s.Options = Options{Expires: 3600, SenderTime: true, ExternalID: "hs.example"}
	e := evt("$e", "@alice:hs.example", event.TypeMessage, `{"msgtype":"m.text","body":"**b**","format":"org.matrix.custom.html","formatted_body":"<b>b</b>"}`)
	o := s.ToMIMI(e, content.Salt{1}, nil)
	if part, ok := o.Message.Body.Body.(content.SinglePart); !ok || part.ContentType != content.TypeMarkdownMIMI || string(part.Content) != "**b**" {
		t.Errorf("%+v", o.Message.Body)
	}
	if x := o.Message.Expires; x == nil || !x.Relative || x.Time != 3600 || !reflect.DeepEqual(o.Expires, x) {
		t.Errorf("expiry that the room demands: %+v", x)
	}
	if ms, ok := o.Message.Extensions.SenderTimestamp(); !ok || ms != 1700000000000 {
		t.Error(ms, ok)
	}
	if ev, domain, ok := o.Message.Extensions.ExternalID(); !ok || string(ev) != "$e" || domain != "hs.example" {
		t.Error(string(ev), domain, ok)
	}
	if text, _ := o.Message.Extensions.Text(content.KeySenderURI); text != aliceURI {
		t.Error(text)
	}
}

// Where the operator does not want names put before texts, a mention whose name does not stand in the text is lost, and no other.
func TestMentionsWithoutPrefix(t *testing.T) {
	s := newSide(goldenPeople())
	s.MentionPrefix = false
	for body, want := range map[string]string{"look": "look", "Dora_D: look": "[@Dora_D](mimi://b.example/u/dora): look"} {
		m := event.Message{MsgType: event.MsgText, Body: body, Mentions: &event.Mentions{Users: []id.UserID{"@dora:hs.example"}}}
		o := s.ToMIMI(evt("$e", "@alice:hs.example", event.TypeMessage, string(m.Encode())), content.Salt{}, nil)
		if got := string(o.Message.Body.Body.(content.SinglePart).Content); got != want {
			t.Errorf("%q became %q", body, got)
		}
	}
}

// A small picture of a file goes beside it, and becomes its thumbnail again.
func TestThumbnailIsAPreview(t *testing.T) {
	a, b := bothSides()
	e := evt("$e", "@alice:one", event.TypeMessage, `{"msgtype":"m.image","body":"a.png","url":"mxc://one/a.png","info":{"mimetype":"image/png","xyz.amorgan.blurhash":"LKO2","thumbnail_url":"mxc://one/t"}}`)
	octets, _, o, err := a.send(e, func(mxc string) (Uploaded, bool) {
		up, ok := uploaded(mxc)
		up.Preview, up.PreviewType = []byte("JPEG"), "image/jpeg"
		return up, ok
	})
	if err != nil {
		t.Fatal(err)
	}
	parts := o.Message.Body.Body.(content.MultiPart).Parts
	if len(parts) != 3 || parts[1].Disposition != content.Preview || parts[2].Disposition != content.Preview || parts[2].Body.(content.SinglePart).ContentType != "text/blurhash" {
		t.Fatalf("%+v", parts)
	}
	res, _, err := b.receive("mimi://b.example/u/alice", octets, 1700000000000)
	if err != nil || len(res.Events) != 1 {
		t.Fatal(len(res.Events), err)
	}
	if f := res.Events[0].File; string(f.Thumbnail) != "JPEG" || f.ThumbnailType != "image/jpeg" || res.Events[0].Message.Media.Blurhash != "LKO2" {
		t.Errorf("%+v %+v", f, res.Events[0].Message.Media)
	}
}

// A message that came out of this very MIMI room over another bridge is not
// sent into it again; one of another room is.
func TestLoopIsSeen(t *testing.T) {
	s := newSide(goldenPeople())
	m := event.Message{MsgType: event.MsgText, Body: "x", Origin: &event.Origin{ID: strings.Repeat("01", 32), Room: testRoom}}
	if o := s.ToMIMI(evt("$e", "@alice:hs.example", event.TypeMessage, string(m.Encode())), content.Salt{}, nil); o.Drop != DropLoop {
		t.Errorf("%+v", o)
	}
	m.Origin.Room = "mimi://c.example/r/other"
	if o := s.ToMIMI(evt("$e", "@alice:hs.example", event.TypeMessage, string(m.Encode())), content.Salt{}, nil); o.Message == nil {
		t.Errorf("%+v", o)
	}
}

func TestMentionSpamNotifiesNobody(t *testing.T) {
	list := [][3]string{{"@alice:hs.example", aliceURI, "Alice"}, {string(bobGhost), bobURI, "Bob"}}
	var md, pills []string
	var users []id.UserID
	for n := range MaxMentions + 1 {
		name := "u" + itoa(n)
		list = append(list, [3]string{"@" + name + ":hs.example", "mimi://b.example/u/" + name, name})
		md = append(md, "<mimi://b.example/u/"+name+">")
		pills = append(pills, `<a href="https://matrix.to/#/@`+name+`:hs.example">`+name+`</a>`)
		users = append(users, id.UserID("@"+name+":hs.example"))
	}
	s := newSide(newPeople(list...))
	octets, err := (&content.Message{Body: single(content.Render, content.TypeMarkdownMIMI, strings.Join(md, " ")), Extensions: content.Extensions{}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	res, _, err := s.receive(bobURI, octets, 1700000000000)
	if err != nil || len(res.Events[0].Message.Mentions.Users) != 0 {
		t.Errorf("%+v %v", res, err)
	}
	m := event.Message{MsgType: event.MsgText, Body: "x", HTML: strings.Join(pills, " "), Mentions: &event.Mentions{Users: users}}
	o := s.ToMIMI(evt("$e", "@alice:hs.example", event.TypeMessage, string(m.Encode())), content.Salt{}, nil)
	if text := string(o.Message.Body.Body.(content.SinglePart).Content); strings.Contains(text, "mimi:") {
		t.Error(text)
	}
}

func TestRoomMentionNeedsPower(t *testing.T) {
	s := newSide(goldenPeople())
	m := &content.Message{Body: single(content.Render, content.TypeMarkdownMIMI, "[@room]("+testRoom+") hi")}
	for _, may := range []bool{true, false} {
		res := s.FromMIMI(Incoming{Message: m, SenderURI: bobURI, Sender: bobGhost, AcceptedMS: 1, MayNotifyRoom: may})
		if res.Events[0].Message.Mentions.Room != may {
			t.Errorf("may %v: %s", may, res.Events[0].Message.Encode())
		}
	}
}

func TestFiles(t *testing.T) {
	e := evt("$e", "@alice:hs.example", event.TypeMessage, `{"msgtype":"m.image","body":"c","filename":"a.png","url":"mxc://hs.example/x","info":{"size":5,"thumbnail_url":"mxc://hs.example/t"}}`)
	files := FilesOf(e)
	if len(files) != 1 || files[0].MXC != "mxc://hs.example/x" || files[0].Name != "a.png" || files[0].Thumbnail == nil || files[0].Thumbnail.MXC != "mxc://hs.example/t" {
		t.Fatalf("%+v", files)
	}
	s := newSide(goldenPeople())
	o := s.ToMIMI(e, content.Salt{}, nil)
	if o.Message != nil || !reflect.DeepEqual(o.Needs, files) {
		t.Fatalf("%+v", o)
	}
	if got := FilesOf(evt("$e", "@alice:hs.example", event.TypeMessage, `{"msgtype":"m.text","body":"x"}`)); got != nil {
		t.Error(got)
	}
	res := s.FromMIMI(Incoming{Message: &content.Message{Body: content.Part{Disposition: content.Inline, Body: content.ExternalPart{ContentType: "image/png", URL: "https://a.example/x", Filename: "p.png"}}}, SenderURI: bobURI, Sender: bobGhost, AcceptedMS: 1700000000000})
	out, lost := res.Events[0], res.Events[0]
	out.Complete(Stored{MXC: "mxc://hs.example/new", Size: 77, Width: 3, Height: 4, Thumbnail: &Stored{MXC: "mxc://hs.example/th"}})
	if f := out.Message.Media; out.File != nil || f.URL != "mxc://hs.example/new" || f.Size != 77 || f.Width != 3 || f.Thumbnail.URL != "mxc://hs.example/th" {
		t.Errorf("%+v", out.Message.Media)
	}
	lost.Fail("gone")
	if lost.Message.MsgType != event.MsgNotice || lost.Message.Body != "[p.png] could not be fetched (gone)" || lost.Kind != KindNotice || lost.File != nil {
		t.Errorf("%+v", lost)
	}
}

// MIMI has no part of a message: redacting one event of several takes back all.
func TestRedactionOfOnePartTakesBackAll(t *testing.T) {
	s := newSide(goldenPeople())
	m := &content.Message{Body: content.Part{Disposition: content.Render, Body: content.MultiPart{Semantics: content.ProcessAll, Parts: []content.Part{
		single(content.Render, content.TypePlain, "one"), single(content.Render, content.TypePlain, "two")}}}}
	octets, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	_, ids, err := s.receive(bobURI, octets, 1700000000000)
	if err != nil || len(ids) != 2 {
		t.Fatal(ids, err)
	}
	e := evt("$r", "@alice:hs.example", event.TypeRedaction, `{"redacts":"`+string(ids[1])+`"}`)
	o := s.ToMIMI(e, content.Salt{}, nil)
	if !o.Others || !reflect.DeepEqual(o.Siblings, []id.EventID{ids[0]}) || o.Message.Purpose() != content.Delete {
		t.Errorf("%+v", o)
	}
}

// An answer to a message that is still on its way to the homeserver refers to it
// all the same.
func TestAnswerToAMessageThatWaits(t *testing.T) {
	s := newSide(goldenPeople())
	var first content.MessageID
	first[0], first[1] = 1, 7
	s.book.add(Known{ID: first, Sender: bobURI, Memory: Memory{Kind: KindText}})
	m := &content.Message{InReplyTo: first, Body: single(content.Render, content.TypePlain, "re")}
	res := s.FromMIMI(Incoming{Message: m, SenderURI: bobURI, Sender: bobGhost, AcceptedMS: 1})
	if ref := res.Events[0].Message.Relation.ReplyTo; ref != event.PendingID(first[:], 0) {
		t.Error(ref)
	}
}

func TestStatusReports(t *testing.T) {
	s := newSide(goldenPeople())
	ids := make([]content.MessageID, 4)
	for n := range ids {
		ids[n][0], ids[n][1] = 1, byte(n+1)
		kind := KindText
		if n == 3 {
			kind = KindReaction
		}
		s.book.add(Known{Event: id.EventID("$" + itoa(n)), ID: ids[n], Sender: aliceURI, Memory: Memory{Kind: kind}})
	}
	report := content.StatusReport{{ID: ids[2], Status: content.Read}, {ID: ids[0], Status: content.Read}, {ID: ids[3], Status: content.Read}, {ID: ids[1], Status: content.Failed}}
	k, ok := s.ReadUpTo(report)
	if !ok || k.Event != "$2" {
		t.Errorf("%+v %v", k, ok)
	}
	if req := Receipt(bobGhost, k); req.Verb != event.VerbReceipt || !strings.Contains(string(req.Args), `"thread":"main"`) {
		t.Errorf("%s", req.Args)
	}
	delivered, failed := Delivered(report)
	if len(delivered) != 3 || len(failed) != 1 {
		t.Error(delivered, failed)
	}
	m, err := s.ToStatus(aliceURI, ids[:2], content.Read, content.Salt{1})
	if err != nil {
		t.Fatal(err)
	}
	octets, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	res, _, err := s.receive(aliceURI, octets, 1700000000000)
	if err != nil || len(res.Events) != 0 || len(res.Status) != 2 || res.Status[0].Status != content.Read {
		t.Errorf("%+v %v", res, err)
	}
	if m, err := s.ToStatus(aliceURI, nil, content.Read, content.Salt{}); m != nil || err != nil {
		t.Error(m, err)
	}
	many := make([]content.MessageID, MaxStatuses+7)
	for n := range many {
		many[n][0], many[n][1] = 1, byte(n)
	}
	if m, err = s.ToStatus(aliceURI, many, content.Read, content.Salt{}); err != nil {
		t.Fatal(err)
	}
	if got, ok, err := content.StatusIn(m); !ok || err != nil || len(got) != MaxStatuses || got[0].ID != many[0] {
		t.Errorf("a report of %d messages, %v", len(got), err)
	}
	// What else a status can say concerns nobody here.
	for _, status := range []content.MessageStatus{content.Unread, content.Expired, content.Deleted, content.Hidden} {
		other := content.StatusReport{{ID: ids[0], Status: status}}
		delivered, failed := Delivered(other)
		if _, ok := s.ReadUpTo(other); ok || len(delivered)+len(failed) != 0 {
			t.Errorf("%v: read %v, delivered %v, failed %v", status, ok, delivered, failed)
		}
	}
}

// A message of many parts is shown up to a bound, and says how much is missing; a picture of the sender is no part of it.
func TestManyPartsAreBounded(t *testing.T) {
	s := newSide(goldenPeople())
	parts := []content.Part{{Disposition: content.Profile, Body: content.SinglePart{ContentType: "image/png", Content: []byte("x")}}}
	for n := range MaxEvents + 5 {
		parts = append(parts, single(content.Render, content.TypePlain, "part "+itoa(n)))
	}
	m := &content.Message{Body: content.Part{Disposition: content.Render, Body: content.MultiPart{Semantics: content.ProcessAll, Parts: parts}}}
	octets, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	res, _, err := s.receive(bobURI, octets, 1700000000000)
	if err != nil || len(res.Events) != MaxEvents {
		t.Fatalf("%d events, %v", len(res.Events), err)
	}
	if first, last := res.Events[0].Message.Body, res.Events[MaxEvents-1].Message.Body; first != "part 0" || last != "(6 more parts of this message are not shown)" {
		t.Errorf("%q … %q", first, last)
	}
}

// What an edit brings that the first version did not have comes as a message of its own.
func TestEditThatBringsAText(t *testing.T) {
	s := newSide(goldenPeople())
	file := content.Part{Disposition: content.Inline, Body: content.ExternalPart{ContentType: "image/png", URL: "https://a.example/x", Filename: "p.png"}}
	octets, err := (&content.Message{Body: file}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	_, ids, err := s.receive(bobURI, octets, 1700000000000)
	if err != nil || len(ids) != 1 {
		t.Fatal(ids, err)
	}
	first, _ := s.book.ByEvent(ids[0])
	res := s.FromMIMI(Incoming{Message: &content.Message{Replaces: first.ID, Body: single(content.Render, content.TypePlain, "no picture")}, SenderURI: bobURI, Sender: bobGhost, AcceptedMS: 1700000001000})
	if len(res.Events) != 1 || res.Events[0].Message.Body != "(edited) no picture" || res.Events[0].Message.Relation.ReplyTo != ids[0] || res.Events[0].Message.Relation.Replaces != "" {
		t.Errorf("%+v", res)
	}
}

// However many a message mentions, no more are remembered than decide that nobody is notified.
func TestMentionsAreCountedUpToTheBound(t *testing.T) {
	for bound, most := range map[int]int{0: MaxMentions, 3: 3} {
		p := &pills{in: &in{room: &Room{Options: Options{Mentions: bound}}}}
		for n := range 10 * MaxMentions {
			p.add(id.UserID("@u" + itoa(n/2) + ":hs.example"))
			if m := p.mentions(); len(m.Users) > 0 != (len(p.users) <= most) || len(p.users) > most+1 {
				t.Fatalf("after %d: %d remembered, %d notified, %d may be", n, len(p.users), len(m.Users), most)
			}
		}
	}
}
