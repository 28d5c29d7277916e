package mapping

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/content"
)

var update = flag.Bool("update", false, "write the golden files anew; read the difference before you commit it")

// golden is one file of testdata: a conversation, line by line, as Matrix and
// as MIMI see it. The files were checked by hand against the drafts.
type golden struct {
	// Languages are what people here read.
	Languages []string     `json:"languages,omitempty"`
	Lines     []goldenLine `json:"lines"`
}

type goldenLine struct {
	Note string `json:"note,omitempty"`
	// Out is a Matrix event that goes to MIMI as MIMI.
	Out *goldenEvent `json:"matrix_sends,omitempty"`
	// In is a MIMI message that goes to Matrix as Matrix.
	In *goldenMIMI `json:"mimi_sends,omitempty"`
	// MIMI, Matrix and Drop are what must come out.
	MIMI   *goldenMIMI     `json:"mimi,omitempty"`
	Matrix json.RawMessage `json:"matrix,omitempty"`
	Drop   Drop            `json:"drop,omitempty"`
}

type goldenEvent struct {
	ID      string          `json:"event_id"`
	Sender  string          `json:"sender"`
	Type    string          `json:"type"`
	Redacts string          `json:"redacts,omitempty"`
	Content json.RawMessage `json:"content"`
}

// goldenMIMI is MIMI content in a form that people can read. References are
// "#n" for the message of line n.
type goldenMIMI struct {
	Sender     string            `json:"sender,omitempty"`
	Replaces   string            `json:"replaces,omitempty"`
	Topic      string            `json:"topic,omitempty"`
	InReplyTo  string            `json:"inReplyTo,omitempty"`
	Expires    string            `json:"expires,omitempty"`
	Extensions map[string]string `json:"extensions,omitempty"`
	Body       goldenPart        `json:"body"`
}

type goldenPart struct {
	Disposition string       `json:"disposition"`
	Null        bool         `json:"null,omitempty"`
	Type        string       `json:"type,omitempty"`
	Language    string       `json:"language,omitempty"`
	Content     string       `json:"content,omitempty"`
	URL         string       `json:"url,omitempty"`
	Description string       `json:"description,omitempty"`
	Filename    string       `json:"filename,omitempty"`
	Semantics   string       `json:"semantics,omitempty"`
	Parts       []goldenPart `json:"parts,omitempty"`
}

var dispositions = []string{"unspecified", "render", "reaction", "profile", "inline", "icon", "attachment", "session", "preview"}

func goldenPeople() *people {
	return newPeople(
		[3]string{"@alice:hs.example", "mimi://b.example/u/alice", "Alice"},
		[3]string{"@dora:hs.example", "mimi://b.example/u/dora", "Dora_D"},
		[3]string{"@mimi_a.example=2fbob:hs.example", "mimi://a.example/u/bob", "Bob (a.example)"},
		[3]string{"@mimi_a.example=2fcathy:hs.example", "mimi://a.example/u/cathy", "Cathy"},
	)
}

// talk plays a golden file and fills in what comes out.
type talk struct {
	side *side
	ids  []content.MessageID // by line
}

func (k *talk) name(m content.MessageID) string {
	for n, x := range k.ids {
		if x == m && !x.IsZero() {
			return "#" + itoa(n+1)
		}
	}
	return m.String()
}

func (k *talk) ref(s string) content.MessageID {
	if s == "" {
		return content.MessageID{}
	}
	if rest, ok := strings.CutPrefix(s, "#"); ok {
		n := 0
		for _, c := range rest {
			n = n*10 + int(c-'0')
		}
		return k.ids[n-1]
	}
	m, err := content.ParseMessageID(mustHex(s))
	if err != nil {
		panic(err)
	}
	return m
}

func mustHex(s string) []byte {
	var m content.MessageID
	if err := m.UnmarshalText([]byte(s)); err != nil {
		panic(err)
	}
	return m[:]
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

func (k *talk) show(m *content.Message) *goldenMIMI {
	g := &goldenMIMI{Body: showPart(m.Body)}
	if !m.Replaces.IsZero() {
		g.Replaces = k.name(m.Replaces)
	}
	if !m.InReplyTo.IsZero() {
		g.InReplyTo = k.name(m.InReplyTo)
	}
	g.Topic = string(m.TopicID)
	if id, err := content.ParseMessageID(m.TopicID); err == nil {
		g.Topic = k.name(id)
	}
	if x := m.Expires; x != nil {
		g.Expires = "at " + itoa(int(x.Time))
		if x.Relative {
			g.Expires = itoa(int(x.Time)) + " s after reading"
		}
	}
	for key := range m.Extensions {
		if key.Name == "" {
			continue
		}
		if g.Extensions == nil {
			g.Extensions = map[string]string{}
		}
		g.Extensions[key.Name], _ = m.Extensions.Text(key)
	}
	return g
}

func showPart(p content.Part) goldenPart {
	g := goldenPart{Disposition: dispositions[p.Disposition], Language: p.Language}
	switch b := p.Body.(type) {
	case content.NullPart:
		g.Null = true
	case content.SinglePart:
		g.Type, g.Content = b.ContentType, string(b.Content)
	case content.ExternalPart:
		g.Type, g.URL, g.Description, g.Filename = b.ContentType, b.URL, b.Description, b.Filename
	case content.MultiPart:
		g.Semantics = b.Semantics.String()
		for _, c := range b.Parts {
			g.Parts = append(g.Parts, showPart(c))
		}
	}
	return g
}

func (k *talk) build(g *goldenMIMI) *content.Message {
	m := &content.Message{Salt: content.Salt{9, byte(len(k.ids))}, Replaces: k.ref(g.Replaces), InReplyTo: k.ref(g.InReplyTo), Extensions: content.Extensions{}, Body: buildPart(g.Body)}
	if strings.HasPrefix(g.Topic, "#") {
		t := k.ref(g.Topic)
		m.TopicID = t[:]
	} else {
		m.TopicID = []byte(g.Topic)
	}
	for key, v := range g.Extensions {
		m.Extensions.SetText(content.TextKey(key), v)
	}
	switch {
	case g.Expires == "":
	case strings.HasPrefix(g.Expires, "at "):
		m.Expires = &content.Expiration{Time: atou(g.Expires[3:])}
	default:
		m.Expires = &content.Expiration{Relative: true, Time: atou(strings.TrimSuffix(g.Expires, " s after reading"))}
	}
	return m
}

func atou(s string) uint32 {
	var n uint32
	_ = json.Unmarshal([]byte(s), &n)
	return n
}

func buildPart(g goldenPart) content.Part {
	p := content.Part{Language: g.Language}
	for n, name := range dispositions {
		if name == g.Disposition {
			p.Disposition = content.Disposition(n)
		}
	}
	switch {
	case g.Null:
		p.Body = content.NullPart{}
	case g.Semantics != "":
		m := content.MultiPart{Semantics: map[string]content.Semantics{"chooseOne": content.ChooseOne, "singleUnit": content.SingleUnit, "processAll": content.ProcessAll}[g.Semantics]}
		for _, c := range g.Parts {
			m.Parts = append(m.Parts, buildPart(c))
		}
		p.Body = m
	case g.URL != "":
		p.Body = content.ExternalPart{ContentType: g.Type, URL: g.URL, Description: g.Description, Filename: g.Filename, Size: 1000}
	default:
		p.Body = content.SinglePart{ContentType: g.Type, Content: []byte(g.Content)}
	}
	return p
}

// showEvents is the Matrix side of a line: one object an event.
func showEvents(res Rendering) json.RawMessage {
	type shown struct {
		Sender  string          `json:"sender"`
		Type    string          `json:"type"`
		Redacts string          `json:"redacts,omitempty"`
		File    string          `json:"needs_file,omitempty"`
		Thumb   string          `json:"thumbnail,omitempty"`
		Content json.RawMessage `json:"content,omitempty"`
	}
	var list []shown
	for _, o := range res.Events {
		s := shown{Sender: string(o.Sender), Type: o.Type, Redacts: string(o.Redacts), Content: o.Content}
		if o.File != nil {
			s.File, s.Thumb = o.File.Mimetype, o.File.ThumbnailType
			if o.File.External != nil {
				s.File = o.File.External.URL
			}
		}
		if o.Message != nil {
			s.Content = o.Message.Encode()
		}
		if len(s.Content) > 0 {
			c, _ := event.ParseObject(s.Content)
			delete(c, "im.mimi.message") // its id is another at every change of the line
			s.Content = c.Encode()
		}
		list = append(list, s)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(list)
	return b.Bytes()
}

// Golden tables of Matrix event and MIMI content: docs/mapping.md §7.
// S003-084, S003-085, S003-086, S003-087
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var g golden
			if err := json.Unmarshal(raw, &g); err != nil {
				t.Fatal(err)
			}
			k := &talk{side: newSide(goldenPeople())}
			k.side.Languages = g.Languages
			got := golden{Languages: g.Languages}
			for _, l := range g.Lines {
				got.Lines = append(got.Lines, k.play(t, l))
			}
			var b bytes.Buffer
			enc := json.NewEncoder(&b)
			enc.SetEscapeHTML(false)
			enc.SetIndent("", "  ")
			if err := enc.Encode(got); err != nil {
				t.Fatal(err)
			}
			if *update {
				if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			for n := range g.Lines {
				want, have := compact(g.Lines[n]), compact(got.Lines[n])
				if want != have {
					t.Errorf("line %d (%s)\n got %s\nwant %s", n+1, g.Lines[n].Note, have, want)
				}
			}
		})
	}
}

func compact(l goldenLine) string {
	raw, _ := json.Marshal(l)
	var v any
	_ = json.Unmarshal(raw, &v)
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v)
	return b.String()
}

// play does one line and returns it with what came out.
func (k *talk) play(t *testing.T, l goldenLine) goldenLine {
	t.Helper()
	l.MIMI, l.Matrix, l.Drop = nil, nil, ""
	if l.Out != nil {
		raw, _ := json.Marshal(map[string]any{"event_id": l.Out.ID, "room_id": "!r:hs.example", "sender": l.Out.Sender, "type": l.Out.Type,
			"redacts": l.Out.Redacts, "content": l.Out.Content, "origin_server_ts": 1700000000000})
		e, err := event.ParseChecked(raw)
		if err != nil {
			t.Fatal(err)
		}
		_, mimi, o, err := k.side.send(e, uploaded)
		if o.Message == nil {
			l.Drop = o.Drop
		} else {
			if err != nil {
				t.Fatal(err)
			}
			l.MIMI = k.show(o.Message)
		}
		k.ids = append(k.ids, mimi)
		return l
	}
	m := k.build(l.In)
	octets, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	mimi, err := content.ID(l.In.Sender, testRoom, octets, m.Salt)
	if err != nil {
		t.Fatal(err)
	}
	res, _, err := k.side.receive(l.In.Sender, octets, 1700000000000)
	if err != nil {
		t.Fatal(err)
	}
	k.ids = append(k.ids, mimi)
	l.Drop = res.Drop
	if len(res.Events) > 0 {
		l.Matrix = showEvents(res)
	}
	return l
}
