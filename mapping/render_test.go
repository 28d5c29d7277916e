package mapping

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/matrixside/html"
	"github.com/matrix-mimi/bridge/mimiside/content"
)

// vectors is the directory with the official test vectors.
func vectors() string {
	if v := os.Getenv("VECTORS"); v != "" {
		return v
	}
	return "../../shared/vectors"
}

// The examples of the content draft, as Matrix shows them.
func TestDraftExamplesAsMatrix(t *testing.T) {
	dir := filepath.Join(vectors(), "mimi-content")
	if _, err := os.Stat(dir); err != nil {
		fmt.Printf("NOT VERIFIED: %s: no examples of the content draft at %s; set VECTORS\n", t.Name(), dir)
		t.Skipf("NOT VERIFIED: no examples of the content draft at %s; set VECTORS", dir)
	}
	const alice, bob, cathy = "mimi://example.com/u/alice-smith", "mimi://example.com/u/bob-jones", "mimi://example.com/u/cathy-washington"
	const room = "mimi://example.com/r/engineering_team"
	b := &book{}
	r := &Room{URI: room, Links: b, People: newPeople([3]string{"@alice:hs", alice, "Alice"}, [3]string{"@bob:hs", bob, "Bob"}, [3]string{"@cathy:hs", cathy, "Cathy"})}
	for _, c := range []struct {
		file, sender string
		want         []string // what each event shows
	}{
		{"original", alice, []string{"Hi everyone"}},
		{"reply", bob, []string{"Right on!"}},
		{"reaction", cathy, []string{"❤"}},
		{"mention", cathy, []string{"Kudos to"}},
		{"mention-html", cathy, []string{"Kudos to"}},
		{"edit", bob, []string{"Right on!"}},
		{"delete", bob, []string{"redacts", "redacts"}},
		{"unlike", cathy, []string{"redacts"}},
		{"expiring", alice, []string{"VPN GOING DOWN"}},
		{"attachment", bob, []string{"2 hours of key signing video"}},
		{"conferencing", alice, []string{"https://"}},
		{"multipart-1", alice, []string{""}},
		{"multipart-2", alice, []string{"", "", ""}},
		{"multipart-3", alice, []string{"Welcome"}},
	} {
		octets, err := os.ReadFile(filepath.Join(dir, c.file+".cbor"))
		if err != nil {
			t.Fatal(err)
		}
		rec, err := content.Receive(octets, content.Envelope{SenderURI: c.sender, RoomURI: room, AcceptedMS: 1644387225019})
		if err != nil {
			t.Errorf("%s: %v", c.file, err)
			continue
		}
		sender, _ := r.People.MXID(c.sender)
		res := r.FromMIMI(Incoming{Message: rec.Message, ID: rec.ID, SenderURI: c.sender, Sender: sender, AcceptedMS: 1644387225019})
		if len(res.Events) != len(c.want) {
			t.Errorf("%s: %d events, drop %q: %s", c.file, len(res.Events), res.Drop, showEvents(res))
			continue
		}
		for n, o := range res.Events {
			shown := string(o.Content)
			if o.Message != nil {
				shown = o.Message.Body + " " + o.Message.HTML
			}
			if o.Redacts != "" {
				shown = "redacts"
			}
			if !strings.Contains(shown, c.want[n]) {
				t.Errorf("%s: event %d shows %q, want %q", c.file, n, shown, c.want[n])
			}
			if o.Kind != "" {
				b.add(Known{Event: id.EventID(fmt.Sprint("$", c.file, n)), ID: rec.ID, Part: n, First: o.First, FirstEvent: o.FirstEvent, Sender: c.sender, Memory: o.Memory})
			}
		}
	}
}

// Whatever a peer sends, what goes to Matrix is small, clean and well formed.
func FuzzRenderContent(f *testing.F) {
	files, _ := filepath.Glob(filepath.Join(vectors(), "mimi-content", "*.cbor"))
	for _, file := range files {
		if b, err := os.ReadFile(file); err == nil {
			f.Add(b)
		}
	}
	k := &talk{side: newSide(goldenPeople())}
	for _, l := range []goldenMIMI{
		{Body: goldenPart{Disposition: "render", Type: content.TypeMarkdownMIMI, Content: "**x** [@a](mimi://b.example/u/alice)"}, Extensions: map[string]string{"org.matrix.msgtype": "m.emote", "org.matrix.emote_prefix": "* x "}},
		{Body: goldenPart{Disposition: "inline", Type: "image/png", URL: "https://a.example/x", Filename: "a/b"}, Extensions: map[string]string{"org.matrix.info": `{"w":-1}`}},
	} {
		if b, err := k.build(&l).Marshal(); err == nil {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, octets []byte) {
		m, err := content.Unmarshal(octets)
		if err != nil {
			return
		}
		s := newSide(goldenPeople())
		var target content.MessageID
		target[0] = 1
		s.book.add(Known{Event: "$t", ID: target, Sender: "mimi://a.example/u/bob", Memory: Memory{Kind: KindText}})
		if !m.InReplyTo.IsZero() {
			s.book.add(Known{Event: "$r", ID: m.InReplyTo, Sender: "mimi://b.example/u/alice", Memory: Memory{Kind: KindText}})
		}
		if !m.Replaces.IsZero() {
			s.book.add(Known{Event: "$o", ID: m.Replaces, Sender: "mimi://a.example/u/bob", Memory: Memory{Kind: KindText}})
		}
		res := s.FromMIMI(Incoming{Message: m, ID: target, SenderURI: "mimi://a.example/u/bob", Sender: "@mimi_a.example=2fbob:hs.example", AcceptedMS: 1700000000000})
		if len(res.Events) > MaxEvents+1 {
			t.Fatalf("%d events", len(res.Events))
		}
		for n := range res.Events {
			o := &res.Events[n]
			if o.Message != nil {
				if h := o.Message.HTML; html.Sanitize(h) != h {
					t.Fatalf("unclean HTML %q", h)
				}
				if len(o.Message.Mentions.Users) > MaxMentions {
					t.Fatal("too many mentions")
				}
			}
			o.Complete(Stored{MXC: "mxc://hs.example/x"})
			if req := o.Request(); len(req.Args) > 160<<10 {
				t.Fatalf("request of %d octets", len(req.Args))
			}
		}
	})
}

// An event of a homeserver may have 65,535 octets: long texts become files, and
// an edit, which holds its text twice, is shortened where only old clients look.
func TestLongTextsFit(t *testing.T) {
	s := newSide(goldenPeople())
	show := func(m *content.Message) Rendering {
		octets, err := m.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		res, _, err := s.receive("mimi://a.example/u/bob", octets, 1700000000000)
		if err != nil || len(res.Events) != 1 {
			t.Fatal(len(res.Events), err)
		}
		return res
	}
	for name, text := range map[string]string{
		"letters": strings.Repeat("long ", 9000), "quotes": strings.Repeat(`"`, 24000), "breaks": strings.Repeat("a\n", 16000), "marks": strings.Repeat("**b** ", 4000),
	} {
		first := show(&content.Message{Salt: content.Salt{1, byte(len(name))}, Body: single(content.Render, content.TypeMarkdownMIMI, text)})
		size := func(o Out) int {
			var b bytes.Buffer
			enc := json.NewEncoder(&b)
			enc.SetEscapeHTML(false)
			_ = enc.Encode(o.Message.Encode())
			var v any
			_ = json.Unmarshal(o.Message.Encode(), &v)
			b.Reset()
			_ = enc.Encode(v)
			return b.Len()
		}
		if n := size(first.Events[0]); n > 60000 || first.Events[0].File != nil {
			t.Errorf("%s: %d octets, file %v", name, n, first.Events[0].File != nil)
		}
		var id content.MessageID
		if err := id.UnmarshalText([]byte(first.Events[0].Message.Origin.ID)); err != nil {
			t.Fatal(err)
		}
		edit := show(&content.Message{Salt: content.Salt{2, byte(len(name))}, Replaces: id, Body: single(content.Render, content.TypeMarkdownMIMI, text+"!")})
		if n := size(edit.Events[0]); n > 60000 || edit.Events[0].Message.NewContent == nil {
			t.Errorf("%s: edit of %d octets", name, n)
		}
	}
	res := show(&content.Message{Salt: content.Salt{3}, Body: single(content.Render, content.TypeMarkdownMIMI, strings.Repeat("long ", 20000))})
	if f := res.Events[0].File; f == nil || f.Name != "message.md" || len(f.Inline) != 100000 || res.Events[0].Message.MsgType != event.MsgFile {
		t.Errorf("a text of 100,000 octets: %+v", res.Events[0])
	}
}
