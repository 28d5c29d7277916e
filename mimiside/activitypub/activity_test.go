package activitypub

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// sample is an MLSMessage: a GroupInfo would do, a KeyPackage is easier to make.
func sampleKeyPackage(t testing.TB) *mls.KeyPackage {
	return newMember(t, "https://a.example/u/bob").key.KeyPackage
}

func create(t testing.TB, object Object, change func(Object)) []byte {
	o := Object{"@context": inlineContext(), "id": "https://a.example/a/1", "type": "Create", "actor": "https://a.example/u/bob",
		"to": []any{"https://b.example/ap/u/alice"}, "object": object}
	if change != nil {
		change(o)
	}
	return o.Marshal()
}

// TestEverySpellingIsRead are the readings of activitypub.md §2.1. S001-025, S001-026, S000-068.
func TestEverySpellingIsRead(t *testing.T) {
	kp := sampleKeyPackage(t)
	framed, bare := kp.Message(), kp.Marshal()
	std := base64.StdEncoding.EncodeToString(framed)
	mls := func(o Object) Object {
		for k, v := range map[string]any{"id": "https://a.example/o/1", "attributedTo": "https://a.example/u/bob", "mediaType": "message/mls", "encoding": "base64", "content": std} {
			if _, there := o[k]; !there {
				o[k] = v
			}
		}
		return o
	}
	for name, object := range map[string]Object{
		"type array":          mls(Object{"type": []any{"Object", "KeyPackage"}}),
		"type string":         mls(Object{"type": "KeyPackage"}),
		"type with prefix":    mls(Object{"type": "mls:KeyPackage"}),
		"type as IRI":         mls(Object{"type": "https://purl.archive.org/socialweb/mls#KeyPackage"}),
		"encoding missing":    mls(Object{"type": "KeyPackage", "encoding": nil}),
		"encoding prefixed":   mls(Object{"type": "KeyPackage", "encoding": nil, "mls:encoding": "base64"}),
		"no padding":          mls(Object{"type": "KeyPackage", "content": strings.TrimRight(std, "=")}),
		"URL alphabet":        mls(Object{"type": "KeyPackage", "content": base64.URLEncoding.EncodeToString(framed)}),
		"URL without padding": mls(Object{"type": "KeyPackage", "content": base64.RawURLEncoding.EncodeToString(framed)}),
		"without frame":       mls(Object{"type": "KeyPackage", "content": base64.StdEncoding.EncodeToString(bare)}),
		"Note of media type":  mls(Object{"type": "Note"}),
		"wrong label":         mls(Object{"type": "GroupInfo"}),
	} {
		t.Run(name, func(t *testing.T) {
			r, err := ReadActivity(create(t, object, nil))
			if err != nil {
				t.Fatal(err)
			}
			a, err := r.Check("https://a.example/u/bob", false)
			if err != nil {
				t.Fatal(err)
			}
			if !IsMLSObject(a.Object) {
				t.Fatal("not seen as MLS")
			}
			x, err := ParseMLSObject(a.Object)
			if err != nil || x.KeyPackage == nil || string(x.KeyPackage.Marshal()) != string(bare) {
				t.Fatalf("%+v %v", x, err)
			}
		})
	}
	t.Run("Note to a channel", func(t *testing.T) {
		if _, err := MLSCarrier(Object{"type": "Note", "content": std}); err != nil {
			t.Fatal(err)
		}
		// Words may be base64 as well.
		if x, err := MLSCarrier(Object{"type": "Note", "content": "in the clear"}); x != nil || !errors.Is(err, ErrMLSObject) {
			t.Fatal(x, err)
		}
		if _, err := MLSCarrier(Object{"type": "Note", "content": "<p>hello</p>"}); !errors.Is(err, ErrMLSObject) {
			t.Fatal(err)
		}
	})
	t.Run("bytes after the message", func(t *testing.T) {
		if _, _, err := ParseMLS(append(append([]byte{}, framed...), 0)); !errors.Is(err, ErrMLSObject) {
			t.Fatal(err)
		}
	})
}

// TestAddressesAndHandshakes: Public in every spelling, commit and welcome under every name. S000-065, S000-073, S000-075.
func TestAddressesAndHandshakes(t *testing.T) {
	std := base64.StdEncoding.EncodeToString(sampleKeyPackage(t).Message())
	for _, name := range []string{"commit", "mimi:commit", "urn:ietf:ns:mimi#commit"} {
		for _, public := range []string{"https://www.w3.org/ns/activitystreams#Public", "as:Public", "Public"} {
			r, err := ReadActivity(create(t, Object{}, func(o Object) {
				o["type"], o["object"], o["target"] = "Add", "https://a.example/u/bob", "https://b.example/ap/r/x/followers"
				o["to"], o["cc"] = "https://b.example/ap/r/x/followers", []any{public}
				o[name], o["mimi:welcome"] = std, std
			}))
			if err != nil {
				t.Fatal(err)
			}
			a, err := r.Check("https://a.example/u/bob", false)
			if err != nil || !a.Public || len(a.To) != 1 || a.Commit == nil || a.Welcome == nil || a.Target == "" || a.ObjectID != "https://a.example/u/bob" {
				t.Fatalf("%s %s: %+v %v", name, public, a, err)
			}
		}
	}
}

// TestActivitiesThatAreRefused are the rows "Cross-origin ids", "JSON bombs" and "Duplicate keys" of the security list.
func TestActivitiesThatAreRefused(t *testing.T) {
	note := Object{"id": "https://a.example/o/1", "type": "Note", "content": "x"}
	deep := func() string { return strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40) }()
	for name, body := range map[string]string{
		"not signed by its actor":   string(create(t, note, func(o Object) { o["actor"] = "https://a.example/u/eve" })),
		"id of another origin":      string(create(t, note, func(o Object) { o["id"] = "https://c.example/a/1" })),
		"id missing":                string(create(t, note, func(o Object) { delete(o, "id") })),
		"object of another origin":  string(create(t, Object{"id": "https://c.example/o/1", "type": "Note"}, nil)),
		"attributed elsewhere":      string(create(t, Object{"id": "https://a.example/o/1", "type": "Note", "attributedTo": "https://c.example/u/x"}, nil)),
		"no object":                 string(create(t, note, func(o Object) { delete(o, "object") })),
		"unknown type":              string(create(t, note, func(o Object) { o["type"] = "Frobnicate" })),
		"no actor":                  string(create(t, note, func(o Object) { delete(o, "actor") })),
		"actor twice in other case": `{"id":"https://a.example/a/1","type":"Create","actor":"https://a.example/u/bob","ACTOR":"https://a.example/u/eve","object":"https://a.example/o/1"}`,
		"key twice":                 `{"id":"https://a.example/a/1","id":"https://a.example/a/2","type":"Create","actor":"https://a.example/u/bob","object":"x"}`,
		"@graph":                    `{"@graph":[],"id":"https://a.example/a/1","type":"Create","actor":"https://a.example/u/bob","object":"x"}`,
		"@reverse inside":           `{"id":"https://a.example/a/1","type":"Create","actor":"https://a.example/u/bob","object":{"@reverse":{}}}`,
		"@included":                 `{"@included":[],"id":"https://a.example/a/1","type":"Create","actor":"https://a.example/u/bob","object":"x"}`,
		"too deep":                  string(create(t, Object{"x": json.RawMessage(deep)}, nil)),
		"too many values":           string(create(t, Object{"x": make([]int, maxNodes+1)}, nil)),
		"something after it":        string(create(t, note, nil)) + "{}",
		"not UTF-8":                 "{\"type\":\"Create\",\"x\":\"\xff\"}",
		"an array":                  "[]",
		"nothing":                   "",
		"commit that is no MLS":     string(create(t, note, func(o Object) { o["commit"] = "AAAA" })),
	} {
		t.Run(name, func(t *testing.T) {
			r, err := ReadActivity([]byte(body))
			if err == nil {
				_, err = r.Check("https://a.example/u/bob", false)
			}
			if !errors.Is(err, ErrActivity) && !errors.Is(err, ErrJSON) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

// TestAChannelMayNameTheAuthor: attributedTo of an MLS object that the channel actor of our group sends is a hint, and of nobody else.
func TestAChannelMayNameTheAuthor(t *testing.T) {
	body := create(t, Object{"id": "https://a.example/o/1", "type": []any{"Object", "PrivateMessage"}, "attributedTo": "https://c.example/u/carol",
		"content": base64.StdEncoding.EncodeToString(sampleKeyPackage(t).Message())}, nil)
	for hosts, want := range map[bool]bool{true: true, false: false} {
		r, err := ReadActivity(body)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Check("https://a.example/u/bob", hosts); (err == nil) != want {
			t.Errorf("hosts %v: %v", hosts, err)
		}
	}
}

// TestWhatIsSentNamesNoContextThatCannotBeFetched: both vocabularies are inline, types come as arrays, Public in full.
func TestWhatIsSentNamesNoContextThatCannotBeFetched(t *testing.T) {
	kp := sampleKeyPackage(t)
	b := (Site{Base: "https://b.example"}).MLSCreate(Envelope{ID: "1", Actor: "https://b.example/ap/u/alice", To: []string{"https://a.example/u/bob"}}, kp.Message()).Marshal()
	o, err := ParseObject(b)
	if err != nil {
		t.Fatal(err)
	}
	list := o["@context"].([]any)
	if len(list) != 2 || list[0] != activityStreams {
		t.Fatalf("%v", list)
	}
	if _, inline := list[1].(Object); !inline {
		t.Fatal("no inline terms")
	}
	for _, bad := range []string{`"https://purl.archive.org/socialweb/mls"`, `"urn:ietf:ns:mimi"`, `"as:Public"`} {
		if strings.Contains(string(b), bad) {
			t.Errorf("%s stands in %s", bad, b)
		}
	}
	object := o["object"].(Object)
	if ts := object["type"].([]any); ts[0] != "Object" || ts[1] != "KeyPackage" {
		t.Fatalf("%v", ts)
	}
	if object["attributedTo"] != o["actor"] || object["id"] == "" || object["mediaType"] != "message/mls" {
		t.Fatalf("%v", object)
	}
}
