package room

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"math/big"
	"net/url"
	"testing"

	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

func TestIdentityOfBasicCredential(t *testing.T) {
	for in, want := range map[string]Identity{
		"mimi://a.example/d/alice/bridge": {"mimi://a.example/u/alice", "mimi://a.example/d/alice/bridge"},
		"mimi://a.example/u/alice":        {"mimi://a.example/u/alice", ""},
		"mimi://a.example/p/crazykoala":   {"mimi://a.example/p/crazykoala", ""},
	} {
		cred := mls.BasicCredential([]byte(in))
		if got, err := IdentityOf(&cred); err != nil || got != want {
			t.Errorf("%s: %+v %v, want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "alice", "mimi://a.example", "mimi://a.example/r/room", "mimi://a.example/d/lonely", "https://a.example/u/alice"} {
		cred := mls.BasicCredential([]byte(in))
		if got, err := IdentityOf(&cred); !errors.Is(err, ErrIdentity) {
			t.Errorf("%q: %+v %v, want a refusal", in, got, err)
		}
	}
	other := mls.Credential{Type: 77, Raw: []byte("x")}
	if _, err := IdentityOf(&other); !errors.Is(err, ErrIdentity) {
		t.Errorf("credential of an unknown type: %v", err)
	}
}

// certified is a credential of a certificate with these names, signed by its own key.
func certified(t *testing.T, dnsNames []string, uris ...string) *mls.Credential {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: dnsNames}
	for _, s := range uris {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = append(template.URIs, u)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return &mls.Credential{Type: mls.CredentialX509, Certificates: [][]byte{der}}
}

// A certificate names one client and one user, both of one provider (docs/credentials.md).
func TestIdentityOfCertificate(t *testing.T) {
	const client, user = "mimi://a.example/d/alice/x", "mimi://a.example/u/alice"
	for _, uris := range [][]string{{client}, {client, user}, {user, client, "https://a.example/"}} {
		id, err := IdentityOf(certified(t, nil, uris...))
		if err != nil || id != (Identity{user, client}) {
			t.Errorf("%q: %+v, %v", uris, id, err)
		}
	}
	for name, uris := range map[string][]string{
		"nobody": {}, "no MIMI name": {"https://a.example/u/alice"}, "two users": {user, "mimi://a.example/u/bob"},
		"two clients": {client, "mimi://a.example/d/alice/y"}, "two providers": {client, "mimi://b.example/u/alice"},
	} {
		if id, err := IdentityOf(certified(t, nil, uris...)); !errors.Is(err, ErrIdentity) {
			t.Errorf("%s: %+v, %v", name, id, err)
		}
	}
	if d, err := ProviderOf(certified(t, []string{"Hub.example"})); err != nil || d != "hub.example" {
		t.Errorf("the provider of a certificate is %q, %v", d, err)
	}
	several := certified(t, []string{"chat.hub.example", "Hub.example", "*.example"})
	basic, certificate := mls.BasicCredential([]byte("mimi://Hub.example")), certified(t, nil, user)
	for _, c := range []struct {
		cred   *mls.Credential
		domain string
		want   bool
	}{{several, "hub.example", true}, {several, "chat.hub.example", true}, {several, "b.example", false}, {several, "", false}, {certificate, "a.example", false},
		{&basic, "hub.example", true}, {&basic, "a.example", false}, {&mls.Credential{Type: mls.CredentialX509}, "hub.example", false}} {
		if got := IsProvider(c.cred, c.domain); got != c.want {
			t.Errorf("%v is of %q: %v", c.cred, c.domain, got)
		}
	}
	if d, err := ProviderOf(certified(t, nil, user)); !errors.Is(err, ErrIdentity) {
		t.Errorf("the provider of a client's certificate is %q, %v", d, err)
	}
}

func TestProviderOf(t *testing.T) {
	cred := mls.BasicCredential([]byte("mimi://Hub.Example"))
	if d, err := ProviderOf(&cred); err != nil || d != "hub.example" {
		t.Errorf("%q %v", d, err)
	}
	user := mls.BasicCredential([]byte("mimi://hub.example/u/alice"))
	if d, err := ProviderOf(&user); err == nil {
		t.Errorf("a user counts as provider %q", d)
	}
}

func TestLeaves(t *testing.T) {
	member := func(i mls.LeafIndex, who string) mls.Member {
		return mls.Member{Index: i, Leaf: &mls.LeafNode{Credential: mls.BasicCredential([]byte(who))}}
	}
	l := LeavesOf([]mls.Member{member(0, "mimi://a.example/d/alice/x"), member(2, "mimi://A.example/d/alice/y"), member(3, "nobody"), member(4, "mimi://b.example/u/bob")})
	if got := l.Of("mimi://a.example/u/alice"); len(got) != 2 || got[0] != 0 || got[1] != 2 {
		t.Errorf("alice has %v", got)
	}
	if _, ok := l.Who(3); ok {
		t.Error("a leaf of nobody belongs to somebody")
	}
	if id, _ := l.Who(4); id.User != "mimi://b.example/u/bob" {
		t.Errorf("leaf 4 is of %q", id.User)
	}
	if l.Active("mimi://c.example/u/eve") {
		t.Error("eve has no leaf")
	}
}

func TestMessageAAD(t *testing.T) {
	none := mls.AppDataDictionary{}
	if MessageAAD(none, nil, nil) != nil || HandshakeAAD(none) != nil {
		t.Error("a group without SafeAAD gets authenticated data")
	}
	safe := none.Set(mls.ComponentSafeAAD, mls.ComponentsList{mls.ComponentFrankAAD}.Marshal())
	if got := HandshakeAAD(safe); string(got) != "\x00" {
		t.Errorf("handshake: %x", got)
	}
	if got := MessageAAD(safe, []byte("salt"), []byte("data")); string(got) != "\x00" {
		t.Errorf("message without an agent: %x", got)
	}
	agent := safe.Set(mls.ComponentFrankingAgent, []byte("x"))
	tag, ok := wire.FrankingTagOf(MessageAAD(agent, []byte("salt"), []byte("data")))
	if !ok || tag != wire.NewFrankingTag([]byte("salt"), []byte("data")) {
		t.Error("the franking tag is missing or wrong")
	}
}
