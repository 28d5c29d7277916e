package content

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func typed(contentType, language, body string) Part {
	return Part{Disposition: Render, Language: language, Body: SinglePart{ContentType: contentType, Content: []byte(body)}}
}

func multi(s Semantics, parts ...Part) Part { return Part{Body: MultiPart{Semantics: s, Parts: parts}} }

func TestFlatten(t *testing.T) {
	root := multi(ProcessAll,
		multi(ChooseOne, typed("text/html", "", ""), typed("text/plain", "", "")),
		Part{Body: NullPart{}},
		multi(SingleUnit, typed("image/png", "", ""), multi(ProcessAll, typed("a/b", "", ""), typed("c/d", "", ""))))
	var got []string
	for _, p := range root.Flatten() {
		got = append(got, fmt.Sprintf("%d<%d@%d", p.Index, p.Parent, p.Level))
	}
	want := "0<-1@1 1<0@2 2<1@3 3<1@3 4<0@2 5<0@2 6<5@3 7<5@3 8<7@4 9<7@4"
	if s := strings.Join(got, " "); s != want {
		t.Errorf("indices %s, want %s", s, want)
	}
}

func TestCID(t *testing.T) {
	for uri, want := range map[string]int{
		"cid:0@local.invalid": 0, "CID:17@local.invalid": 17, "cid:1023@local.invalid": 1023,
		"cid:1024@local.invalid": -1, "cid:01@local.invalid": -1, "cid:-1@local.invalid": -1, "cid:+1@local.invalid": -1,
		"cid:@local.invalid": -1, "cid:1@local.invalid.example": -1, "cid:1@example.com": -1, "mid:1@local.invalid": -1, "cid": -1,
		"cid:99999999999999999999@local.invalid": -1,
	} {
		got, ok := ParseCID(uri)
		if ok != (want >= 0) || ok && got != want {
			t.Errorf("ParseCID(%q) = %d, %v", uri, got, ok)
		}
		if ok && !strings.EqualFold(CID(got), uri) {
			t.Errorf("CID(%d) = %q", got, CID(got))
		}
	}
	in := `<img src="cid:5@local.invalid"><img src='CID:2@LOCAL.INVALID'>![](cid:5@local.invalid) cid:cid:7@local.invalid cid:9@other`
	if got, want := CIDReferences([]byte(in)), []int{2, 5, 7}; !reflect.DeepEqual(got, want) {
		t.Errorf("references %v, want %v", got, want)
	}
}

func TestSelect(t *testing.T) {
	prefer := func(languages string, types ...string) Preference {
		var p Preference
		if languages != "" {
			p.Languages = strings.Split(languages, " ")
		}
		for _, s := range types {
			p.MediaTypes = append(p.MediaTypes, MediaType{Type: s})
		}
		return p
	}
	vendor := typed("application/vnd.example", "", "")
	html := typed("text/html", "", `<img src="cid:2@local.invalid">`)
	image := Part{Body: ExternalPart{ContentType: "image/png"}}
	cases := []struct {
		name   string
		part   Part
		prefer Preference
		want   string
	}{
		{"a single part", typed("text/plain", "", ""), prefer("", "text/plain"), "0[]"},
		{"not understood", vendor, prefer("", "text/plain"), ""},
		{"null part", Part{Body: NullPart{}}, prefer("", "text/plain"), ""},
		{"unknown type in chooseOne: another one", multi(ChooseOne, vendor, typed("text/plain", "", "")), prefer("", "text/plain"), "2[]"},
		{"unknown type in singleUnit: none", multi(SingleUnit, vendor, typed("text/plain", "", "")), prefer("", "text/plain"), ""},
		{"unknown type in processAll: the rest", multi(ProcessAll, vendor, typed("text/plain", "", "")), prefer("", "text/plain"), "2[]"},
		{"receiver's order", multi(ChooseOne, typed("text/plain", "", ""), typed("text/html", "", "")), prefer("", "text/html", "text/plain"), "2[]"},
		{"sender's order when equal", multi(ChooseOne, typed("text/html", "", ""), typed("text/html", "", "")), prefer("", "text/html"), "1[]"},
		{"language before type", multi(ChooseOne, typed("text/html", "fr", ""), typed("text/plain", "en-GB, de", "")), prefer("en", "text/html", "text/plain"), "2[]"},
		{"no language before another language", multi(ChooseOne, typed("text/html", "fr", ""), typed("text/plain", "", "")), prefer("en", "text/html", "text/plain"), "2[]"},
		{"en does not take enm", multi(ChooseOne, typed("text/plain", "enm", ""), typed("text/plain", "", "")), prefer("en", "text/plain"), "2[]"},
		{"a later part that was referred to is skipped", multi(ProcessAll, html, image), prefer("", "text/html", "image/*"), "1[2]"},
		{"an earlier one is not", multi(ProcessAll, image, typed("text/html", "", "cid:1@local.invalid")), prefer("", "*/*"), "1[] 2[1]"},
		{"a reference to itself, to a multipart, to nothing", multi(ProcessAll, typed("text/html", "", "cid:1@local.invalid cid:0@local.invalid cid:9@local.invalid"), image), prefer("", "*/*"), "1[] 2[]"},
		{"a reference to what is not understood", multi(ProcessAll, html, image), prefer("", "text/html"), "1[]"},
		{"plain text cannot refer", multi(ProcessAll, typed("text/plain", "", "cid:2@local.invalid"), image), prefer("", "*/*"), "1[] 2[]"},
		{"the alternative that gives more", multi(ChooseOne, typed("text/html", "", ""), multi(ProcessAll, typed("text/html", "", ""), image)), prefer("", "text/html", "image/png"), "3[] 4[]"},
		{"something before nothing", multi(ChooseOne, Part{Body: NullPart{}}, typed("text/plain", "", "")), prefer("", "text/plain"), "2[]"},
		{"bad media type", typed("not a type", "", ""), prefer("", "*/*"), ""},
	}
	for _, c := range cases {
		var got []string
		for _, s := range c.part.Select(c.prefer) {
			got = append(got, fmt.Sprintf("%d%v", s.Index, s.References))
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: selected %q, want %q", c.name, s, c.want)
		}
	}
}

// checkTree checks what holds for the parts of every message.
func checkTree(t interface{ Fatalf(string, ...any) }, root *Part, prefer Preference) {
	list := root.Flatten()
	for i, p := range list {
		if p.Index != i || p.Parent >= i || i > 0 && p.Level != list[p.Parent].Level+1 {
			t.Fatalf("part %d has index %d, parent %d, level %d", i, p.Index, p.Parent, p.Level)
		}
	}
	last := -1
	taken := make(map[int]bool)
	for _, s := range root.Select(prefer) {
		if s.Index <= last || taken[s.Index] {
			t.Fatalf("part %d is selected after %d, or twice", s.Index, last)
		}
		last = s.Index
		if _, ok := list[s.Index].Part.Body.(MultiPart); ok {
			t.Fatalf("multipart %d is selected", s.Index)
		}
		taken[s.Index] = true
		for _, ref := range s.References {
			taken[ref] = true
		}
	}
	// At most one branch of every chooseOne is taken, and all or none of a singleUnit without chooseOne inside.
	branches := make(map[int]map[int]bool)
	for i := range taken {
		for at := i; list[at].Parent >= 0; at = list[at].Parent {
			up := list[at].Parent
			if branches[up] == nil {
				branches[up] = make(map[int]bool)
			}
			branches[up][at] = true
		}
	}
	for i, taken := range branches {
		if m := list[i].Part.Body.(MultiPart); m.Semantics == ChooseOne && len(taken) > 1 {
			t.Fatalf("chooseOne %d has branches %v", i, taken)
		}
	}
}

func TestSelectProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		root := genPart(MaxPartLevels).Draw(t, "root")
		checkTree(t, &root, Preference{MediaTypes: []MediaType{{Type: "*/*"}}})
	})
}

// buildTree makes a tree of parts out of arbitrary octets.
func buildTree(in []byte, level int) (Part, []byte) {
	next := func() byte {
		if len(in) == 0 {
			return 0
		}
		b := in[0]
		in = in[1:]
		return b
	}
	p := Part{Disposition: Disposition(next()), Language: []string{"", "en", "fr,de", "xx"}[next()%4]}
	switch kind := next() % 6; {
	case kind < 2 && level < MaxPartLevels+1:
		n := int(next()%8) + 2
		m := MultiPart{Semantics: Semantics(next() % 3)}
		for range n {
			var child Part
			child, in = buildTree(in, level+1)
			m.Parts = append(m.Parts, child)
		}
		p.Body = m
	case kind == 2:
		p.Body = NullPart{}
	case kind == 3:
		p.Body = ExternalPart{ContentType: []string{"image/png", "video/mp4"}[next()%2]}
	default:
		p.Body = SinglePart{
			ContentType: []string{"text/html", "text/markdown;variant=GFM-MIMI", "text/plain", "x/y"}[next()%4],
			Content:     []byte(CID(int(binary.BigEndian.Uint16([]byte{next() % 4, next()})))),
		}
	}
	return p, in
}

func FuzzContentPartsTree(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x01\x00\x00\x06\x02\x01\x01\x04\x00\x00\x05\x01\x01\x03\x00\x00\x02"))
	f.Add(slices.Repeat([]byte{1, 0, 0, 7, 0}, 30))
	f.Fuzz(func(t *testing.T, in []byte) {
		root, _ := buildTree(in, 1)
		m := &Message{Body: root}
		prefer := Preference{
			MediaTypes: []MediaType{{Type: "text/markdown", Parameters: map[string]string{"variant": "gfm-mimi"}}, {Type: "text/html"}, {Type: "image/*"}},
			Languages:  []string{"de", "en"},
		}
		b, err := m.Marshal()
		list := root.Flatten()
		deepest := 0
		for _, p := range list {
			deepest = max(deepest, p.Level)
		}
		if fits := deepest <= MaxPartLevels && len(list) <= MaxParts; fits != (err == nil) {
			t.Fatalf("%d parts %d levels deep: %v", len(list), deepest, err)
		}
		checkTree(t, &root, prefer)
		if err != nil {
			return
		}
		back, err := Unmarshal(b)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := back.Body.Flatten(), list; len(got) != len(want) {
			t.Fatalf("%d parts came back of %d", len(got), len(want))
		}
		indices := func(p *Part) (out []int) {
			for _, s := range p.Select(prefer) {
				out = append(append(out, s.Index, -1), s.References...)
			}
			return out
		}
		if got, want := indices(&back.Body), indices(&root); !slices.Equal(got, want) {
			t.Fatalf("selects %v after the round trip, %v before", got, want)
		}
	})
}
