package activitypub

import (
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/matrix-mimi/bridge/mimiside/content"
)

// saysAlways is a server that gives the same document at every address, with that address as its id.
func saysAlways(o Object, asked *int) *Fetcher {
	return testFetcher(FetcherConfig{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		*asked++
		d := Object{}
		for k, v := range o {
			d[k] = v
		}
		d["id"] = r.URL.String()
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {TypeActivity}}, Body: io.NopCloser(bytes.NewReader(d.Marshal())), Request: r}, nil
	})})
}

// FuzzOutbox: whatever an outbox holds, reading it ends within its bounds, and what comes of it is of the actor and has MLS in it.
func FuzzOutbox(f *testing.F) {
	const actor = "http://a.example/u/bob"
	site := Site{Base: "http://a.example"}
	kinds := everyKind(f)
	item := site.MLSCreate(Envelope{ID: "1", Actor: actor, To: []string{"https://b.example/ap/u/alice"}}, kinds["PrivateMessage"])
	named := site.MLSCreate(Envelope{ID: "2", Actor: actor}, kinds["PublicMessage"])
	named["object"] = "http://a.example/o/1"
	for _, o := range []Object{
		Page("x", "y", []any{item, named, "http://a.example/o/1"}, "http://a.example/next"), Collection(actor+"/outbox", 3),
		{"type": "OrderedCollection", "first": Page("x", "y", []any{item}, "http://c.example/next")},
		site.ChannelAdd(Envelope{ID: "3", Actor: actor}, site.Room("x"), actor, kinds["PublicMessage"], kinds["Welcome"]),
	} {
		f.Add(o.Marshal())
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		o, err := ParseObject(body)
		if err != nil {
			return
		}
		asked := 0
		p := NewPeople(saysAlways(o, &asked))
		list, err := p.Pull(context.Background(), &RemoteActor{ID: actor, Outbox: actor + "/outbox"}, SigningKey{}, func(string) (bool, error) { return false, nil })
		if err != nil {
			return
		}
		if len(list) > maxPullItems || asked > 1+maxPullPages+2*maxPullItems {
			t.Fatalf("%d activities by %d questions", len(list), asked)
		}
		for _, d := range list {
			if d.Activity.Actor != actor || d.MLS == nil && d.Activity.Commit == nil && d.Activity.Welcome == nil {
				t.Fatalf("%+v", d.Activity)
			}
		}
	})
}

// FuzzActorDocument: whatever an actor says of itself and of its KeyPackages, reading it ends within its bounds, and leads to no other server.
func FuzzActorDocument(f *testing.F) {
	const id = "http://a.example/u/bob"
	site := Site{Base: "http://a.example"}
	kp := newMember(f, id).key.KeyPackage
	object := site.KeyPackageObject(id, id+"/keyPackages/1", kp.Marshal(), 1)
	for _, packages := range []any{id + "/keyPackages", []any{object}, Object{"type": "OrderedCollection", "orderedItems": []any{object}}, Page("x", "y", []any{object}, id+"/2")} {
		o := site.Person(Profile{Name: "bob", Username: "bob"})
		o["keyPackages"] = packages
		f.Add(o.Marshal())
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		o, err := ParseObject(body)
		if err != nil {
			return
		}
		o["id"] = id
		a, err := ReadActor(&Document{URL: id, Object: o})
		if err != nil {
			return
		}
		if !sameOrigin(a.Inbox, id) || a.SharedInbox != "" && !sameOrigin(a.SharedInbox, id) || len(a.keys) > maxKeys {
			t.Fatalf("%+v", a)
		}
		_, _ = a.Key(KeyID(id))
		asked := 0
		list, err := NewPeople(saysAlways(o, &asked)).Packages(context.Background(), a, nil)
		if asked > maxPackageDocuments || len(list) > 2*maxKeyPackages {
			t.Fatalf("%d KeyPackages by %d questions, %v", len(list), asked, err)
		}
		for _, p := range list {
			if p.KeyPackage == nil || p.ID != "" && !sameOrigin(p.ID, id) || len(p.Client) > 100 {
				t.Fatalf("%+v", p)
			}
		}
	})
}

// FuzzExternal: what stands in mimi:external becomes an encrypted file with a key, of bounded fields, that is written as it was read; or nothing.
func FuzzExternal(f *testing.F) {
	part := content.ExternalPart{ContentType: "application/pdf", URL: "https://a.example/f", Filename: "f", EncAlg: 1, Key: make([]byte, 16), Nonce: make([]byte, 12), HashAlg: 1,
		ContentHash: make([]byte, 32), Size: 99, Expires: 7}
	i := Item{Type: "Document", ID: "urn:uuid:1", MediaType: "application/pdf", Name: "f", URL: "https://a.example/f", External: &part}
	f.Add(i.object(false).Marshal())
	f.Add([]byte(`{"type":"Image","id":"urn:uuid:1","url":"https://a.example/f","mimi:external":{"encAlg":-1,"key":"` + base64.StdEncoding.EncodeToString(make([]byte, 300)) + `","size":1e99}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		o, err := ParseObject(body)
		if err != nil {
			return
		}
		i, err := parseItem(o, 0)
		if err != nil || i.External == nil {
			return
		}
		x := i.External
		if x.EncAlg == content.NoAEAD || len(x.Key) == 0 || !strings.HasPrefix(x.URL, "https://") || max(len(x.Key), len(x.Nonce), len(x.AAD), len(x.ContentHash)) > 256 {
			t.Fatalf("%+v", x)
		}
		back, err := ParseObject(i.object(false).Marshal())
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseItem(back, 0)
		if err != nil || !reflect.DeepEqual(again.External, x) {
			t.Fatalf("%+v became %+v, %v", x, again, err)
		}
	})
}

// FuzzNames: names in addresses come back as they were, there is one way to write each, and an address names nothing else than what it was made of.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"alice", "a_b", "@bob:hs.example", "Ä", "__", "_5f", "https://b.example/ap/u/alice", "https://b.example/ap/r/x?y", ""} {
		f.Add(s)
	}
	site := Site{Base: "https://b.example"}
	f.Fuzz(func(t *testing.T, s string) {
		name := EscapeName(s)
		if back, err := UnescapeName(name); s != "" && (err != nil || back != s) {
			t.Fatalf("%q, %q, %q %v", s, name, back, err)
		}
		if plain, err := UnescapeName(s); err == nil && EscapeName(plain) != s {
			t.Fatalf("%q is another way to write %q", s, plain)
		}
		if kind, got := site.Parse(site.User(name)); s != "" && (kind != KindUser || got != name) {
			t.Fatalf("%q: %v %q", name, kind, got)
		}
		if kind, got := site.Parse(s); kind == KindUser && site.User(got) != s || kind == KindRoom && site.Room(got) != s || kind != KindNone && !site.Own(s) {
			t.Fatalf("%q: %v %q", s, kind, got)
		}
	})
}

// FuzzGroupNames: what a member says of a group names that group alone, in plain text.
func FuzzGroupNames(f *testing.F) {
	f.Add(Naming(content.MessageID{1}, alice, "mimi://b.example/g/1", "Garden", "<b>plants</b>").Marshal(false))
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := ParseContent(body, alice)
		if err != nil {
			return
		}
		name, topic, ok := c.Names([]byte("mimi://b.example/g/1"))
		if ok && (c.Item.ID != "mimi://b.example/g/1" || len(name)+len(topic) > 2*maxHTML) {
			t.Fatalf("%+v", c)
		}
		if _, _, ok := c.Names([]byte("another")); ok && c.Item.ID != "another" {
			t.Fatalf("%+v", c)
		}
	})
}
