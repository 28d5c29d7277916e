package activitypub

import (
	"encoding/base64"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/matrix-mimi/bridge/mimiside/content"
)

const (
	alice = "https://b.example/ap/u/alice"
	bob   = "https://a.example/u/bob"
)

// book is a Memory over a list.
type book []Known

func (b book) ByAS2(id, author string) (Known, bool) {
	for _, k := range b {
		if k.AS2 == id && (author == "" || k.Author == author) {
			return k, true
		}
	}
	return Known{}, false
}

func (b book) ByMIMI(id content.MessageID) (Known, bool) {
	for _, k := range b {
		if k.ID == id {
			return k, true
		}
	}
	return Known{}, false
}

var seenByAll = book{
	{ID: MIMIID([]byte("g"), bob, "urn:uuid:1"), AS2: "urn:uuid:1", Author: bob},
	{ID: MIMIID([]byte("g"), alice, "urn:uuid:2"), AS2: "urn:uuid:2", Author: alice},
	{ID: MIMIID([]byte("g"), bob, "urn:uuid:like"), AS2: "urn:uuid:like", Author: bob, Like: "urn:uuid:2", Emoji: "👍"},
}

func single(t *testing.T, m *content.Message) content.SinglePart {
	t.Helper()
	s, ok := m.Body.Body.(content.SinglePart)
	if !ok {
		t.Fatalf("%T", m.Body.Body)
	}
	return s
}

// TestWhatMembersSay is the table of docs/activitypub.md from ActivityPub to MIMI. S001-048 … S001-080.
func TestWhatMembersSay(t *testing.T) {
	png := base64.StdEncoding.EncodeToString([]byte("png"))
	for _, tc := range []struct {
		name, json string
		err        error
		check      func(*content.Message) bool
	}{
		{"Create Note", `{"type":"Create","id":"urn:uuid:a","object":{"type":"Note","id":"urn:uuid:9","content":"<p>hi<script>x</script></p>"}}`, nil,
			func(m *content.Message) bool {
				return string(single(t, m).Content) == "hi" && m.Purpose() == content.Post
			}},
		{"paragraphs", `{"type":"Create","object":{"type":"Note","id":"urn:uuid:9","content":"<p>a</p><p>b</p>"}}`, nil,
			func(m *content.Message) bool { return string(single(t, m).Content) == "<p>a</p><p>b</p>" }},
		{"bare Note", `{"type":"Note","id":"uri:uuid:9","content":"hi"}`, nil, func(m *content.Message) bool { return string(single(t, m).Content) == "hi" }},
		{"Article", `{"type":"Create","object":{"type":"Article","id":"mls://m/01","name":"T&T","content":"long"}}`, nil,
			func(m *content.Message) bool {
				return strings.Contains(string(single(t, m).Content), "<h3>T&amp;T</h3>")
			}},
		{"reply", `{"type":"Create","object":{"type":"Note","id":"urn:uuid:9","content":"x","inReplyTo":"urn:uuid:2"}}`, nil,
			func(m *content.Message) bool { return m.InReplyTo == seenByAll[1].ID }},
		{"reply to the unknown", `{"type":"Create","object":{"type":"Note","id":"urn:uuid:9","content":"x","inReplyTo":"urn:uuid:x"}}`, nil,
			func(m *content.Message) bool { return m.InReplyTo.IsZero() }},
		{"Image", `{"type":"Create","object":{"type":"Image","id":"urn:uuid:9","mediaType":"image/png","content":"` + png + `"}}`, nil,
			func(m *content.Message) bool {
				return string(single(t, m).Content) == "png" && single(t, m).ContentType == "image/png"
			}},
		{"Audio by data URL", `{"type":"Create","object":{"type":"Audio","id":"urn:uuid:9","url":"data:audio/ogg;base64,` + png + `"}}`, nil,
			func(m *content.Message) bool { return single(t, m).ContentType == "audio/ogg" }},
		{"Note with Video", `{"type":"Create","object":{"type":"Note","id":"urn:uuid:9","content":"see","attachment":[{"type":"Video","mediaType":"video/mp4","content":"` + png + `"},{"type":"Link","href":"https://x"}]}}`, nil,
			func(m *content.Message) bool {
				mp, ok := m.Body.Body.(content.MultiPart)
				return ok && len(mp.Parts) == 2
			}},
		{"Update", `{"type":"Update","object":{"type":"Note","id":"urn:uuid:1","content":"new"}}`, nil, func(m *content.Message) bool { return m.Purpose() == content.Edit && m.Replaces == seenByAll[0].ID }},
		{"Update of another's", `{"type":"Update","object":{"type":"Note","id":"urn:uuid:2","content":"new"}}`, ErrNotAuthor, nil},
		{"Update of the unknown", `{"type":"Update","object":{"type":"Note","id":"urn:uuid:x","content":"new"}}`, ErrUnknownTarget, nil},
		{"Delete by reference", `{"type":"Delete","object":"urn:uuid:1"}`, nil, func(m *content.Message) bool { return m.Purpose() == content.Delete }},
		{"Delete by node", `{"type":"Delete","object":{"type":"Note","id":"urn:uuid:1"}}`, nil, func(m *content.Message) bool { return m.Purpose() == content.Delete }},
		{"Delete of another's", `{"type":"Delete","object":"urn:uuid:2"}`, ErrNotAuthor, nil},
		{"Like", `{"type":"Like","id":"urn:uuid:l","object":"urn:uuid:2","content":"🎉"}`, nil,
			func(m *content.Message) bool {
				return m.Purpose() == content.React && string(single(t, m).Content) == "🎉" && m.InReplyTo == seenByAll[1].ID
			}},
		{"Like without emoji", `{"type":"Like","id":"urn:uuid:l","object":"urn:uuid:2"}`, nil, func(m *content.Message) bool { return m.Purpose() == content.React }},
		{"EmojiReact", `{"type":"EmojiReact","id":"urn:uuid:l","object":"urn:uuid:2","content":"🎉"}`, nil, func(m *content.Message) bool { return m.Purpose() == content.React }},
		{"Undo Like", `{"type":"Undo","object":{"type":"Like","id":"urn:uuid:like","object":"urn:uuid:2"}}`, nil, func(m *content.Message) bool { return m.Purpose() == content.Unlike }},
		{"Undo of a Create", `{"type":"Undo","object":"urn:uuid:1"}`, ErrUnsupported, nil},
		{"Announce of a message", `{"type":"Announce","object":"urn:uuid:2","content":"look"}`, nil, func(m *content.Message) bool { return m.InReplyTo == seenByAll[1].ID }},
		{"Announce of the web", `{"type":"Announce","object":"https://c.example/n/1","content":"look"}`, nil,
			func(m *content.Message) bool {
				return strings.Contains(string(single(t, m).Content), "https://c.example/n/1")
			}},
		{"Read", `{"type":"Read","object":"urn:uuid:2"}`, ErrIgnore, nil},
		{"Listen", `{"type":"Listen","object":"urn:uuid:2"}`, ErrIgnore, nil},
		{"View", `{"type":"View","object":"urn:uuid:2"}`, ErrIgnore, nil},
		{"IntransitiveActivity", `{"type":"IntransitiveActivity"}`, ErrIgnore, nil},
		{"Acknowledge", `{"type":"Acknowledge","object":"urn:uuid:2"}`, ErrIgnore, nil},
		{"unknown activity", `{"type":"Dance","object":"urn:uuid:2"}`, ErrUnsupported, nil},
		{"Update of the group's name", `{"type":"Update","object":{"type":"Context","id":"mimi://b.example/r/1","name":"x"}}`, ErrUnsupported, nil},
		{"empty", `{"type":"Create","object":{"type":"Note","id":"urn:uuid:9","content":""}}`, ErrIgnore, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := ParseContent([]byte(tc.json), bob)
			if err != nil {
				t.Fatal(err)
			}
			m, err := c.ToMIMI(seenByAll, content.Salt{1})
			if !errors.Is(err, tc.err) {
				t.Fatal(err)
			}
			if tc.check != nil {
				if !tc.check(m) {
					t.Fatalf("%+v", m)
				}
				if _, err := m.Marshal(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestNobodySpeaksAsAnother: the inner actor is the MLS sender, whatever stands in the content; and ids inside are no addresses.
func TestNobodySpeaksAsAnother(t *testing.T) {
	for name, json := range map[string]string{
		"actor":           `{"type":"Create","actor":"` + alice + `","object":{"type":"Note","id":"urn:uuid:9","content":"x"}}`,
		"attributedTo":    `{"type":"Create","object":{"type":"Note","id":"urn:uuid:9","attributedTo":"` + alice + `","content":"x"}}`,
		"web id":          `{"type":"Create","object":{"type":"Note","id":"https://a.example/o/1","content":"x"}}`,
		"no id":           `{"type":"Create","object":{"type":"Note","content":"x"}}`,
		"no object":       `{"type":"Create","object":"urn:uuid:1"}`,
		"no type":         `{"object":"urn:uuid:1"}`,
		"Like of nothing": `{"type":"Like"}`,
		"not JSON":        `hello`,
	} {
		if _, err := ParseContent([]byte(json), bob); !errors.Is(err, ErrContent) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if MIMIID([]byte("g"), bob, "x") == MIMIID([]byte("g"), alice, "x") {
		t.Error("two members' ids meet")
	}
}

// TestWhatWeSay is the table of docs/activitypub.md from MIMI to ActivityPub.
func TestWhatWeSay(t *testing.T) {
	id := MIMIID([]byte("g"), alice, "mine")
	text := func(kind, s string) content.Part {
		return content.Part{Disposition: content.Render, Body: content.SinglePart{ContentType: kind, Content: []byte(s)}}
	}
	mention := func(uri string) (string, string) {
		if uri == "mimi://a.example/u/bob" {
			return bob, "@bob@a.example"
		}
		return "", ""
	}
	for _, tc := range []struct {
		name string
		m    content.Message
		want []string
	}{
		{"plain", content.Message{Body: text(content.TypePlain, "a < b\nc")}, []string{`"type":"Create"`, `<p>a &lt; b<br>c</p>`, `"actor":"` + alice + `"`, `"attributedTo":"` + alice + `"`, `"id":"urn:uuid:`}},
		{"markdown", content.Message{Body: text(content.TypeMarkdownMIMI, "**hi** <script>")}, []string{`<strong>hi</strong>`}},
		{"mention", content.Message{Body: text(content.TypeMarkdownMIMI, "[@Bob](mimi://a.example/u/bob)")}, []string{bob, `"type":"Mention"`, `@bob@a.example`}},
		{"long", content.Message{Body: text(content.TypePlain, strings.Repeat("x", longText+1))}, []string{`"type":"Article"`}},
		{"image", content.Message{Body: content.Part{Disposition: content.Inline, Body: content.SinglePart{ContentType: "image/png", Content: []byte("png")}}}, []string{`"type":"Image"`, `"content":"cG5n"`, `"url":"data:image/png;base64,cG5n"`}},
		{"reply", content.Message{InReplyTo: seenByAll[0].ID, Body: text(content.TypePlain, "x")}, []string{`"inReplyTo":"urn:uuid:1"`}},
		{"edit", content.Message{Replaces: seenByAll[1].ID, Body: text(content.TypePlain, "new")}, []string{`"type":"Update"`, `"id":"urn:uuid:2"`, "new"}},
		{"deletion", content.Message{Replaces: seenByAll[1].ID, Body: content.Part{Disposition: content.Render, Body: content.NullPart{}}}, []string{`"type":"Delete"`, `"object":"urn:uuid:2"`}},
		{"reaction", content.Message{InReplyTo: seenByAll[0].ID, Body: content.Part{Disposition: content.Reaction, Body: content.SinglePart{ContentType: content.TypePlain, Content: []byte("👍")}}}, []string{`"type":"Like"`, `"content":"👍"`, `"object":"urn:uuid:1"`}},
		{"unlike", content.Message{Replaces: seenByAll[2].ID, Body: content.Part{Disposition: content.Reaction, Body: content.NullPart{}}}, []string{`"type":"Undo"`, `"type":"Like"`, `"object":"urn:uuid:2"`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := FromMIMI(&tc.m, id, alice, seenByAll, mention)
			if err != nil {
				t.Fatal(err)
			}
			b := string(c.Marshal(true))
			for _, w := range tc.want {
				if !strings.Contains(b, w) {
					t.Errorf("%s lacks %s", b, w)
				}
			}
			if strings.Contains(b, "<script") {
				t.Error(b)
			}
			back, err := ParseContent([]byte(b), alice)
			if err != nil || back.Type != c.Type {
				t.Fatal(err)
			}
		})
	}
}

// TestHTMLIsSanitised is the row "HTML" of the security list. S001-097, S001-098.
func TestHTMLIsSanitised(t *testing.T) {
	for in, want := range map[string]string{
		`<b>x</b>`:                                    `<b>x</b>`,
		`<img src=x onerror=alert(1)>y`:               `y`,
		`<a href="javascript:x">y</a>`:                `y`,
		`<p onclick="x" style="y">z</p>`:              `<p>z</p>`,
		`<script>x</script><style>y</style>z`:         `z`,
		`<code class="language-go">x</code>`:          `<code class="language-go">x</code>`,
		`<iframe src=x></iframe><form><input></form>`: ``,
	} {
		if got := Sanitize(in); got != want {
			t.Errorf("%s → %s, want %s", in, got, want)
		}
	}
}

func FuzzAS2Content(f *testing.F) {
	f.Add([]byte(`{"type":"Create","object":{"type":"Note","id":"urn:uuid:9","content":"<p>hi","attachment":[{"type":"Image","mediaType":"image/png","content":"AAAA"}],"tag":{"type":"Mention"}}}`))
	f.Add([]byte(`{"type":"Undo","object":{"type":"Like","object":"urn:uuid:2"}}`))
	f.Add([]byte(`{"type":"Announce","object":"https://x.example/"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseContent(b, bob)
		if err != nil {
			return
		}
		if c.Actor != bob {
			t.Fatal("speaks as another")
		}
		m, err := c.ToMIMI(seenByAll, content.Salt{})
		if err != nil {
			return
		}
		octets, err := m.Marshal()
		if err != nil {
			return // over a limit of MIMI content
		}
		if _, err := content.Unmarshal(octets); err != nil {
			t.Fatal(err)
		}
		if _, err := ParseContent(c.Marshal(true), bob); err != nil {
			t.Fatalf("does not come back: %v", err)
		}
	})
}

// TestPreviewsComeBack: the smaller picture and the blurhash of a file go out with it and come back as they were, whether it stands alone or is an attachment; those that are
// none are left out.
func TestPreviewsComeBack(t *testing.T) {
	part := func(d content.Disposition, kind, octets string) content.Part {
		return content.Part{Disposition: d, Body: content.SinglePart{ContentType: kind, Content: []byte(octets)}}
	}
	parts := []content.Part{part(content.Inline, "image/png", "png"), part(content.Preview, "image/jpeg", "small"), part(content.Preview, typeBlurhash, "LEHV6nWB2yk8")}
	m := &content.Message{Body: content.Part{Disposition: content.Render, Body: content.MultiPart{Semantics: content.ProcessAll, Parts: parts}}}
	c, err := FromMIMI(m, MIMIID([]byte("g"), alice, "mine"), alice, seenByAll, nil)
	if err != nil {
		t.Fatal(err)
	}
	read := func(data []byte) []content.Part {
		t.Helper()
		c, err := ParseContent(data, alice)
		if err != nil {
			t.Fatal(err)
		}
		back, err := c.ToMIMI(seenByAll, content.Salt{})
		if err != nil {
			t.Fatal(err)
		}
		if multi, ok := back.Body.Body.(content.MultiPart); ok {
			return multi.Parts
		}
		return []content.Part{back.Body}
	}
	if got := read(c.Marshal(true)); !reflect.DeepEqual(got, parts) {
		t.Errorf("attached: %+v", got)
	}
	alone := *c
	alone.Item = &c.Item.Attachments[0]
	alone.Item.ID, alone.Item.AttributedTo = c.Item.ID, alice
	if got := read(alone.Marshal(false)); !reflect.DeepEqual(got, parts) {
		t.Errorf("alone: %+v", got)
	}
	long := &content.Message{Body: content.Part{Disposition: content.Render, Body: content.MultiPart{Semantics: content.ProcessAll,
		Parts: []content.Part{parts[0], part(content.Preview, typeBlurhash, strings.Repeat("x", maxBlurhash+1))}}}}
	if c, err := FromMIMI(long, MIMIID([]byte("g"), alice, "mine"), alice, seenByAll, nil); err != nil || c.Item.Attachments[0].Blurhash != "" {
		t.Errorf("a long blurhash is sent on: %v", err)
	}
	for name, change := range map[string]func(*Item){
		"too large":     func(i *Item) { i.Preview = make([]byte, maxPreview+1) },
		"no picture":    func(i *Item) { i.PreviewType = "text/html" },
		"long blurhash": func(i *Item) { i.Blurhash = strings.Repeat("x", maxBlurhash+1) },
	} {
		odd := alone
		item := *alone.Item
		odd.Item = &item
		change(odd.Item)
		if got := read(odd.Marshal(false)); len(got) != len(parts)-1 {
			t.Errorf("%s: %d parts", name, len(got))
		}
	}
}
