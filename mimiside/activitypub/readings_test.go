package activitypub

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// everyKind are MLS bytes of each of the five kinds, by type.
func everyKind(t testing.TB) map[string][]byte {
	t.Helper()
	key, err := mls.GenerateSignatureKey(rand.Reader, mls.SuiteX25519AES128Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	kp := newMember(t, "https://a.example/u/bob").key.KeyPackage
	th, e, err := StartThread(rand.Reader, testNow, testMLS, "mimi://b.example/g/1", "https://b.example/ap/u/alice", key, []*mls.KeyPackage{kp}, false)
	if err != nil {
		t.Fatal(err)
	}
	said := must(th.Say(rand.Reader, "https://b.example/ap/u/alice", []byte("hello")))
	leaf, _ := th.Leaf("https://b.example/ap/u/alice")
	info, err := th.Group.GroupInfo(leaf, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{"KeyPackage": kp.Marshal(), "Welcome": e.Welcome, "PublicMessage": e.Commit, "PrivateMessage": said.Message, "GroupInfo": info}
}

// carrying is an object with MLS bytes in base64, as another server may send it.
func carrying(octets []byte, change Object) Object {
	o := Object{"id": "https://a.example/o/1", "type": []any{"Object", "PrivateMessage"}, "attributedTo": "https://a.example/u/bob", "mediaType": "message/mls", "encoding": "base64",
		"content": base64.StdEncoding.EncodeToString(octets)}
	for k, v := range change {
		if o[k] = v; v == nil {
			delete(o, k)
		}
	}
	return o
}

// TestReadings has a case for each of the envelope rules of docs/activitypub.md, by the name that docs/activitypub.md gives it: what is sent, and what is read. S001-025,
// S001-026, S000-063, S000-065, S000-068, S000-073, S000-075.
func TestReadings(t *testing.T) {
	site, alice := Site{Base: "https://b.example"}, "https://b.example/ap/u/alice"
	bob := []string{"https://a.example/u/bob", "https://c.example/u/carol"}
	envelope := Envelope{ID: "1", Actor: alice, To: bob, Conversation: site.Conversation("x"), Published: testNow}
	kinds := everyKind(t)
	private := kinds["PrivateMessage"]
	// read parses an activity around an object and the object itself.
	read := func(t *testing.T, object Object, change func(Object)) (*Activity, *MLSObject) {
		t.Helper()
		r, err := ReadActivity(create(t, object, change))
		if err != nil {
			t.Fatal(err)
		}
		a, err := r.Check("https://a.example/u/bob", false)
		if err != nil {
			t.Fatal(err)
		}
		x, err := MLSCarrier(a.Object)
		if err != nil {
			t.Fatal(err)
		}
		return a, x
	}
	// same reads each form of an object and wants the bytes of a PrivateMessage.
	same := func(forms map[string]Object) func(*testing.T) {
		return func(t *testing.T) {
			for name, form := range forms {
				if _, x := read(t, carrying(private, form), nil); x.Message == nil || x.Message.Private == nil || x.Hash != HashOf(private) {
					t.Errorf("%s: %+v", name, x)
				}
			}
		}
	}
	b64 := base64.StdEncoding.EncodeToString(private)
	for rule, holds := range map[string]func(*testing.T){
		"sent: @context is ActivityStreams and the terms inline": func(t *testing.T) {
			want := []any{"https://www.w3.org/ns/activitystreams", Object{
				"mls": "https://purl.archive.org/socialweb/mls#", "mimi": "urn:ietf:ns:mimi#",
				"PublicMessage": "mls:PublicMessage", "PrivateMessage": "mls:PrivateMessage", "Welcome": "mls:Welcome",
				"GroupInfo": "mls:GroupInfo", "KeyPackage": "mls:KeyPackage", "encoding": "mls:encoding", "ciphersuite": "mls:ciphersuite",
				"keyPackages": Object{"@id": "mls:keyPackages", "@type": "@id"}, "messages": Object{"@id": "mls:messages", "@type": "@id"},
				"conversation": Object{"@id": "mls:conversation", "@type": "@id"}, "commit": "mimi:commit", "welcome": "mimi:welcome"}}
			if got := site.MLSCreate(envelope, private)["@context"]; !reflect.DeepEqual(got, want) {
				t.Errorf("%v", got)
			}
		},
		"sent: the type is [Object, X]": func(t *testing.T) {
			for kind, octets := range kinds {
				if got := site.MLSCreate(envelope, octets)["object"].(Object)["type"]; !reflect.DeepEqual(got, []any{"Object", kind}) {
					t.Errorf("%s: %v", kind, got)
				}
			}
		},
		"sent: Public in full": func(t *testing.T) {
			o := site.KeyPackageCreate(Envelope{ID: "1", Actor: alice}, site.KeyPackageObject(alice, alice+"/keyPackages/1", kinds["KeyPackage"], 1))
			if to := o["to"].([]any); len(to) != 1 || to[0] != "https://www.w3.org/ns/activitystreams#Public" {
				t.Errorf("%v", to)
			}
		},
		"sent: id of ours, actor, to as an array, an embedded object with id, attributedTo and the same to": func(t *testing.T) {
			for kind, octets := range kinds {
				o := site.MLSCreate(envelope, octets)
				object := o["object"].(Object)
				if !strings.HasPrefix(o.Str("id"), site.Base+"/") || !strings.HasPrefix(object.Str("id"), site.Base+"/") || o["id"] == object["id"] || o["actor"] != alice || object["attributedTo"] != alice ||
					!reflect.DeepEqual(o["to"], []any{bob[0], bob[1]}) || !reflect.DeepEqual(object["to"], o["to"]) {
					t.Errorf("%s: %s", kind, o.Marshal())
				}
			}
		},
		"sent: addresses of unreserved characters": func(t *testing.T) {
			person := site.Person(Profile{Name: EscapeName("@Bob+x:hs.example"), Username: "x"})
			for _, address := range []string{person.Str("id"), person.Str("inbox"), person["publicKey"].(Object).Str("id"), site.Room("x"), site.ObjectID("kp-1_2"), site.SharedInbox()} {
				u, err := url.Parse(address)
				if err != nil || u.EscapedPath() != u.Path || strings.Trim(strings.ToLower(u.Path), "abcdefghijklmnopqrstuvwxyz0123456789-._~/") != "" {
					t.Errorf("%s %v", address, err)
				}
			}
		},
		"read: type as string or array, bare, with prefix or as IRI": same(map[string]Object{
			"array": {}, "string": {"type": "PrivateMessage"}, "prefix": {"type": "mls:PrivateMessage"}, "IRI": {"type": "https://purl.archive.org/socialweb/mls#PrivateMessage"},
			"prefix in an array": {"type": []any{"as:Object", "mls:PrivateMessage"}}, "other order": {"type": []any{"PrivateMessage", "Object"}},
		}),
		"read: encoding or mls:encoding, missing is base64": func(t *testing.T) {
			same(map[string]Object{"plain": {}, "missing": {"encoding": nil}, "prefix": {"encoding": nil, "mls:encoding": "base64"}, "upper case": {"encoding": "BASE64"}})(t)
			if _, err := ParseMLSObject(carrying(private, Object{"encoding": "quoted-printable"})); !errors.Is(err, ErrMLSObject) {
				t.Errorf("another encoding: %v", err)
			}
		},
		"read: base64 with and without padding, of both alphabets": func(t *testing.T) {
			octets := []byte{0xfb, 0xef, 0xbe, 0xff} // both alphabets differ, and there is padding
			for _, e := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
				if got, err := DecodeBase64(e.EncodeToString(octets)); err != nil || !slices.Equal(got, octets) {
					t.Errorf("%s: %x %v", e.EncodeToString(octets), got, err)
				}
			}
			same(map[string]Object{"URL": {"content": base64.URLEncoding.EncodeToString(private)}, "raw": {"content": base64.RawStdEncoding.EncodeToString(private)}})(t)
		},
		"read: a Note of media type message/mls": func(t *testing.T) {
			same(map[string]Object{"plain": {"type": "Note"}, "with a parameter": {"type": "Note", "mediaType": "Message/MLS; x=y"}})(t)
			if !IsMLSObject(Object{"type": "Note", "mediaType": "message/mls"}) {
				t.Error("not seen as MLS")
			}
		},
		"read: a Note whose content is a whole MLS message": func(t *testing.T) {
			same(map[string]Object{"plain": {"type": "Note", "mediaType": nil, "encoding": nil}})(t)
			for _, clear := range []string{"in the clear", "<p>hello</p>", "", b64 + "AAAA"} { // words may be base64 as well
				if x, err := MLSCarrier(Object{"type": "Note", "content": clear}); x != nil || !errors.Is(err, ErrMLSObject) {
					t.Errorf("%.20q: %v %v", clear, x, err)
				}
			}
		},
		"read: commit and welcome under each name, on Add, Remove and Create": func(t *testing.T) {
			welcome := base64.StdEncoding.EncodeToString(kinds["Welcome"])
			commit := base64.StdEncoding.EncodeToString(kinds["PublicMessage"])
			for _, kind := range []string{"Add", "Remove", "Create"} {
				for _, prefix := range []string{"", "mimi:", "urn:ietf:ns:mimi#"} {
					r := must(ReadActivity(create(t, carrying(private, nil), func(o Object) { o["type"], o[prefix+"commit"], o[prefix+"welcome"] = kind, commit, welcome })))
					a, err := r.Check("https://a.example/u/bob", false)
					if err != nil || !slices.Equal(a.Commit, kinds["PublicMessage"]) || !slices.Equal(a.Welcome, kinds["Welcome"]) {
						t.Errorf("%s %scommit: %+v %v", kind, prefix, a, err)
					}
				}
			}
		},
		"read: an object by its address, of the actor's own server only": func(t *testing.T) {
			w, other := newWeb(t), newWeb(t)
			bob := w.actor("bob", testKey(0))
			at := func(w *web) string {
				w.put("/o/1", carrying(private, Object{"id": w.URL + "/o/1", "attributedTo": bob}))
				return w.URL + "/o/1"
			}
			for object, code := range map[string]int{at(w): http.StatusAccepted, at(other): http.StatusBadRequest, w.URL + "/o/2": http.StatusBadRequest} {
				b := &shelf{}
				body := string(Object{"id": bob + "/1", "type": "Create", "actor": bob, "object": object}.Marshal())
				if rec := deliver(t, b, bob, body); rec.Code != code {
					t.Errorf("%s: %d", object, rec.Code)
				}
				if code == http.StatusAccepted && (len(b.got) != 1 || b.got[0].MLS == nil || b.got[0].MLS.Hash != HashOf(private)) {
					t.Errorf("%s: %+v", object, b.got)
				}
			}
			if len(other.requests) != 0 {
				t.Errorf("another server was asked: %q", other.requests)
			}
		},
		"read: Public in each spelling": func(t *testing.T) {
			for _, public := range []string{"https://www.w3.org/ns/activitystreams#Public", "as:Public", "Public"} {
				for _, field := range []string{"to", "cc"} {
					a, _ := read(t, carrying(private, nil), func(o Object) { o[field] = []any{public, "https://b.example/ap/u/dave"} })
					if !a.Public || !slices.Contains(a.To, "https://b.example/ap/u/dave") || slices.Contains(a.To, public) {
						t.Errorf("%s %s: %+v", field, public, a)
					}
				}
			}
		},
		"read: keyPackages as address, object, collection, ordered, in pages, array, mls:keyPackages": TestPackagesInEveryForm,
		"read: conversation and context are a hint": func(t *testing.T) {
			for _, property := range []string{"conversation", "mls:conversation", "context"} {
				_, x := read(t, carrying(private, Object{property: "https://a.example/c/9"}), nil)
				group := x.Message.Private.GroupID
				if x.Conversation != "https://a.example/c/9" || string(group) != "mimi://b.example/g/1" {
					t.Errorf("%s: %+v %q", property, x, group)
				}
			}
		},
		"read: a message is known by the SHA-256 of its bytes": func(t *testing.T) {
			_, one := read(t, carrying(private, nil), nil)
			_, two := read(t, carrying(private, Object{"id": "https://a.example/o/2", "type": "Note", "content": base64.RawURLEncoding.EncodeToString(private)}),
				func(o Object) { o["id"] = "https://a.example/a/2" })
			_, other := read(t, carrying(kinds["PublicMessage"], nil), nil)
			if one.Hash != two.Hash || one.Hash == other.Hash {
				t.Error("it is known by something else")
			}
		},
		"read: a KeyPackage with and without a frame": func(t *testing.T) { // §2.3
			kp, err := mls.UnmarshalKeyPackage(kinds["KeyPackage"])
			if err != nil {
				t.Fatal(err)
			}
			for name, octets := range map[string][]byte{"bare": kp.Marshal(), "framed": kp.Message()} {
				if _, x := read(t, carrying(octets, Object{"type": "KeyPackage"}), nil); x.KeyPackage == nil || !slices.Equal(x.KeyPackage.Marshal(), kp.Marshal()) {
					t.Errorf("%s: %+v", name, x)
				}
			}
		},
		"read: the bytes say what it is, not the type": func(t *testing.T) {
			for label := range kinds {
				for kind, octets := range kinds {
					_, x := read(t, carrying(octets, Object{"type": label}), nil)
					if got := kindOf(x.Bytes); got != kind || x.Label != label || (x.KeyPackage != nil) != (kind == "KeyPackage") {
						t.Errorf("%s called %s is a %s", kind, label, got)
					}
				}
			}
		},
		"read: content that does not parse to its end is dropped with a reason": func(t *testing.T) {
			w := newWeb(t)
			bob := w.actor("bob", testKey(0))
			for name, octets := range map[string][]byte{"cut": private[:len(private)-1], "longer": append(slices.Clone(private), 0), "noise": []byte("noise")} {
				b := &shelf{}
				body := string(Object{"id": bob + "/1", "type": "Create", "actor": bob, "object": carrying(octets, Object{"id": bob + "/2", "attributedTo": bob})}.Marshal())
				rec := deliver(t, b, bob, body)
				if rec.Code != http.StatusBadRequest || len(b.got) != 0 || len(b.refused) != 1 || !errors.Is(b.refused[0].Err, ErrMLSObject) {
					t.Errorf("%s: %d %+v", name, rec.Code, b.refused)
				}
			}
		},
		"sent: the group id is printable": func(t *testing.T) {
			m, _, err := ParseMLS(private)
			if err != nil || strings.ContainsFunc(string(m.Private.GroupID), func(r rune) bool { return r <= ' ' || r > '~' }) {
				t.Errorf("%q %v", m.Private.GroupID, err)
			}
		},
	} {
		t.Run(rule, holds)
	}
}

// deliver posts an activity, signed by an actor with the first key, to a server around a shelf.
func deliver(t testing.TB, b *shelf, signer, body string) *httptest.ResponseRecorder {
	t.Helper()
	gate := b.gate
	if gate == nil {
		gate = testGate(t)
	}
	s, err := NewServer(ServerConfig{Site: Site{Base: "https://b.example"}, Backend: b, Gate: gate, Now: func() time.Time { return testNow },
		Observe: func(e Event) { b.refused = append(b.refused, e) }})
	if err != nil {
		t.Fatal(err)
	}
	r := post(body)
	if err := (SigningKey{ID: KeyID(signer), Private: testKey(0)}).Sign(r, []byte(body), Cavage, testNow); err != nil {
		t.Fatal(err)
	}
	rec := httptest.NewRecorder()
	s.ServeHTTP(rec, r)
	return rec
}
