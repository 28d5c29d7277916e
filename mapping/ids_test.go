package mapping

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

var testNaming = Naming{Domain: "mimi.bridge.example", Server: "hs.example"}

// S000-005: users are identified by acct URIs; design: one canonical form, reversible without a table.
func TestUserForms(t *testing.T) {
	for _, c := range []struct{ mxid, seg, acct string }{
		{"@alice:hs.example", "alice", "alice"},
		{"@a/b:hs.example", "a%2Fb", "a%2Fb"},
		{"@Alice_B.c=d+e:hs.example", "Alice_B.c=d+e", "Alice_B.c=d+e"},
		{"@bob:hs2.example", "@bob:hs2.example", "%40bob%3Ahs2.example"},
		{"@a/b:hs.example:8448", "@a%2Fb:hs.example:8448", "%40a%2Fb%3Ahs.example%3A8448"},
		{"@bob:[::1]", "@bob:%5B::1%5D", "%40bob%3A%5B%3A%3A1%5D"},
		{"@bob:[::1]:8448", "@bob:%5B::1%5D:8448", "%40bob%3A%5B%3A%3A1%5D%3A8448"},
		{"@jürgen:hs.example", "j%C3%BCrgen", "j%C3%BCrgen"},
		{"@50%:hs.example", "50%25", "50%25"},
		{"@@odd:hs.example", "@@odd:hs.example", "%40%40odd%3Ahs.example"},
	} {
		uri, err := testNaming.UserURI(c.mxid)
		if want := wire.IdentifierURI("mimi://mimi.bridge.example/u/" + c.seg); err != nil || uri != want {
			t.Errorf("%s: URI %q, %v, want %q", c.mxid, uri, err, want)
		}
		if back, err := testNaming.ParseUserURI(uri); err != nil || back != c.mxid {
			t.Errorf("%s: back from URI: %q, %v", c.mxid, back, err)
		}
		acct, err := testNaming.AcctURI(c.mxid)
		if want := "acct:" + c.acct + "@mimi.bridge.example"; err != nil || acct != want {
			t.Errorf("%s: acct %q, %v, want %q", c.mxid, acct, err, want)
		}
		if back, err := testNaming.ParseAcctURI(acct); err != nil || back != c.mxid {
			t.Errorf("%s: back from acct: %q, %v", c.mxid, back, err)
		}
		client, err := testNaming.ClientURI(c.mxid, "bridge")
		if want := wire.IdentifierURI("mimi://mimi.bridge.example/d/" + c.seg + "/bridge"); err != nil || client != want {
			t.Errorf("%s: client %q, %v, want %q", c.mxid, client, err, want)
		}
		if back, dev, err := testNaming.ParseClientURI(client); err != nil || back != c.mxid || dev != "bridge" {
			t.Errorf("%s: back from client: %q %q, %v", c.mxid, back, dev, err)
		}
		u, err := client.Parse()
		if err != nil {
			t.Fatal(err)
		}
		if user, ok := u.User(); !ok || user != uri {
			t.Errorf("%s: user of the client is %q", c.mxid, user)
		}
	}
}

func TestUserFormsRefused(t *testing.T) {
	for _, mxid := range []string{"", "alice", "@alice", "@:hs.example", "@alice:", "@a b:hs.example", "@a\x00:hs.example",
		"@a\xff:hs.example", "@a:hs.example/x", "@a:[::1", "@a:[::1]x", "@a:hs:", "@a:hs:123456",
		"@" + strings.Repeat("a", 300) + ":hs.example"} {
		if uri, err := testNaming.UserURI(mxid); !errors.Is(err, ErrIdentifier) {
			t.Errorf("%q became %q, %v", mxid, uri, err)
		}
	}
	for _, uri := range []wire.IdentifierURI{
		"mimi://other.example/u/alice", "mimi://mimi.bridge.example/d/alice", "mimi://mimi.bridge.example/u/%61lice",
		"mimi://mimi.bridge.example/u/a/b", "mimi://mimi.bridge.example/u/a%2fb", "mimi://mimi.bridge.example/u/@alice",
		"mimi://mimi.bridge.example/u/@alice:hs.example", "mimi://mimi.bridge.example/u/a:b", "mimi://mimi.bridge.example",
	} {
		if mxid, err := testNaming.ParseUserURI(uri); !errors.Is(err, ErrIdentifier) {
			t.Errorf("%q became %q, %v", uri, mxid, err)
		}
	}
}

// The case of the domain does not matter, the case of all else does.
func TestUserURICase(t *testing.T) {
	a, err := testNaming.ParseUserURI("mimi://MIMI.Bridge.example/u/alice")
	if err != nil || a != "@alice:hs.example" {
		t.Errorf("%q, %v", a, err)
	}
	b, err := testNaming.ParseUserURI("mimi://mimi.bridge.example/u/Alice")
	if err != nil || b != "@Alice:hs.example" {
		t.Errorf("%q, %v", b, err)
	}
}

func drawMXID(t *rapid.T) string {
	local := rapid.OneOf(
		rapid.StringMatching(`[a-z0-9._=/+-]{1,20}`),
		rapid.StringMatching(`[!-9;-~]{1,20}`),
		rapid.StringMatching(`@[!-9;-~]{0,20}`),
		rapid.Map(rapid.StringN(1, 12, 40), func(s string) string {
			return strings.Map(func(r rune) rune {
				if r <= ' ' || r == 0x7f || r == ':' {
					return 'x'
				}
				return r
			}, s)
		}),
	).Draw(t, "localpart")
	server := rapid.SampledFrom([]string{"hs.example", "hs.example:8448", "HS.example", "127.0.0.1:80", "[2001:db8::1]:8448", "x"}).Draw(t, "server")
	return "@" + local + ":" + server
}

func TestUserURIBijective(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mxid := drawMXID(t)
		uri, err := testNaming.UserURI(mxid)
		if err != nil {
			t.Fatalf("%q: %v", mxid, err)
		}
		if back, err := testNaming.ParseUserURI(uri); err != nil || back != mxid {
			t.Fatalf("%q → %q → %q, %v", mxid, uri, back, err)
		}
		acct, err := testNaming.AcctURI(mxid)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := testNaming.ParseAcctURI(acct); err != nil || back != mxid {
			t.Fatalf("%q → %q → %q, %v", mxid, acct, back, err)
		}
		client, err := testNaming.ClientURI(mxid, "dev_1")
		if err != nil {
			t.Fatal(err)
		}
		if back, dev, err := testNaming.ParseClientURI(client); err != nil || back != mxid || dev != "dev_1" {
			t.Fatalf("%q → %q → %q, %v", mxid, client, back, err)
		}
		other := drawMXID(t)
		if o, err := testNaming.UserURI(other); err != nil || (o == uri) != (other == mxid) {
			t.Fatalf("%q and %q share %q, %v", mxid, other, uri, err)
		}
	})
}

func TestRoomURIs(t *testing.T) {
	token, err := NewToken(bytes.NewReader(make([]byte, 16)))
	if err != nil || token != "AAAAAAAAAAAAAAAAAAAAAA" {
		t.Fatalf("%q, %v", token, err)
	}
	if r, err := testNaming.RoomURI(token); err != nil || r != "mimi://mimi.bridge.example/r/AAAAAAAAAAAAAAAAAAAAAA" {
		t.Errorf("%q, %v", r, err)
	}
	if g, err := testNaming.GroupURI(token); err != nil || g != "mimi://mimi.bridge.example/g/AAAAAAAAAAAAAAAAAAAAAA" {
		t.Errorf("%q, %v", g, err)
	}
	if _, err := testNaming.RoomURI("a/b"); err == nil {
		t.Error("a token with a slash passed")
	}
	if _, err := NewToken(bytes.NewReader(nil)); err == nil {
		t.Error("no randomness and no error")
	}
}

func TestNamingCheck(t *testing.T) {
	if err := testNaming.Check(); err != nil {
		t.Error(err)
	}
	for _, n := range []Naming{{"", "hs"}, {"B.example", "hs"}, {"b.example:1", "hs"}, {"b.example", ""}, {"b.example", "h/s"}} {
		if n.Check() == nil {
			t.Errorf("%+v passed", n)
		}
	}
}

// S000-042: @username@domain and username@domain are accepted.
func TestHandle(t *testing.T) {
	for in, want := range map[string]string{
		"@alice@AP.example": "acct:alice@ap.example", "alice@ap.example": "acct:alice@ap.example",
		"acct:alice@ap.example": "acct:alice@ap.example", "alice": "", "@@": "", "a b@x.example": "", "@a@1.2.3.4": "",
	} {
		got, err := Handle(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

// S000-043: what a WebFinger query may ask for.
func TestWebFingerSubject(t *testing.T) {
	bob := Subject{MXID: "@bob:hs2.example", Acct: "acct:%40bob%3Ahs2.example@mimi.bridge.example",
		URI: "mimi://mimi.bridge.example/u/@bob:hs2.example"}
	for _, resource := range []string{
		bob.Acct, string(bob.URI), "acct:@bob:hs2.example@mimi.bridge.example", "acct:%40bob%3ahs2%2Eexample@MIMI.bridge.example",
		"mimi://mimi.bridge.example/u/%40bob%3Ahs2.example",
	} {
		if got, err := testNaming.WebFingerSubject(resource); err != nil || got != bob {
			t.Errorf("%q: %+v, %v", resource, got, err)
		}
	}
	if got, err := testNaming.WebFingerSubject("acct:alice@mimi.bridge.example"); err != nil || got.MXID != "@alice:hs.example" {
		t.Errorf("%+v, %v", got, err)
	}
	for _, resource := range []string{"", "acct:", "acct:@mimi.bridge.example", "acct:alice@other.example", "https://mimi.bridge.example/u/alice",
		"mimi://mimi.bridge.example/r/room", "acct:a%zz@mimi.bridge.example", "acct:a b@mimi.bridge.example"} {
		if got, err := testNaming.WebFingerSubject(resource); !errors.Is(err, ErrIdentifier) {
			t.Errorf("%q: %+v, %v", resource, got, err)
		}
	}
}
