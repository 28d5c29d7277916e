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

// TestActivitiesThatAreRefused are the rows "Cross-origin ids", "JSON bombs" and "Duplicate / case-folded keys" of the security list.
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
