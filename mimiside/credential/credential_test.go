package credential

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/mls"
)

var now = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

const life = 84 * 24 * time.Hour

func authority(t testing.TB, domain string) *Authority {
	t.Helper()
	a, err := NewAuthority(rand.Reader, now, domain)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func signatureKey(t testing.TB, suite mls.Suite) *mls.SignatureKey {
	t.Helper()
	k, err := mls.GenerateSignatureKey(rand.Reader, suite)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func alice(key *mls.SignatureKey) Subject {
	return Subject{User: "mimi://a.example/u/alice", Client: "mimi://a.example/d/alice/bridge", Acct: "acct:alice@a.example", Key: key}
}

func TestIssueAndVerify(t *testing.T) {
	a := authority(t, "a.example")
	for _, suite := range mls.Suites() {
		for _, s := range []Subject{alice(nil), {User: "mimi://a.example/u/@bob:other.example", Client: "mimi://a.example/d/@bob:other.example/bridge",
			Acct: "acct:%40bob%3Aother.example@a.example"}, {User: "mimi://a.example/u/a%2Fb", Client: "mimi://a.example/d/a%2Fb/bridge"}} {
			s.Key = signatureKey(t, suite)
			cred, until, err := a.Issue(now, s, life)
			if err != nil {
				t.Fatal(err)
			}
			q := Query{Credential: &cred, SignatureKey: s.Key.Public(), Authorities: []*x509.Certificate{a.Certificate}, Now: now}
			id, err := Verify(q)
			if err != nil || string(id.User) != s.User || string(id.Client) != s.Client {
				t.Errorf("suite %d: %v, %v", suite, id, err)
			}
			// With the authority at its end the chain is as good.
			cred.Certificates = append(cred.Certificates, a.Certificate.Raw)
			if _, err := Verify(q); err != nil {
				t.Errorf("suite %d, with the authority: %v", suite, err)
			}
			if want := now.Add(life); until.Before(now) || until.After(now.Add(day)) || parseLeaf(t, cred).NotAfter.Before(want) {
				t.Errorf("until %v", until)
			}
		}
	}
}

func parseLeaf(t testing.TB, c mls.Credential) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(c.Certificates[0])
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// The same client gets the same certificate all day, from every process; the next day another.
func TestIssueIsDeterministic(t *testing.T) {
	a, s := authority(t, "a.example"), alice(signatureKey(t, 1))
	again, err := UnmarshalAuthority(a.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	one, until, err := a.Issue(now, s, life)
	if err != nil {
		t.Fatal(err)
	}
	two, _, err := again.Issue(until.Add(-time.Second), s, life)
	if err != nil || !one.Equal(&two) {
		t.Errorf("another certificate on the same day: %v", err)
	}
	three, _, err := again.Issue(until, s, life)
	if err != nil || one.Equal(&three) {
		t.Errorf("the same certificate on the next day: %v", err)
	}
	cert := parseLeaf(t, one)
	critical := slices.ContainsFunc(cert.Extensions, func(e pkix.Extension) bool { return e.Id.Equal([]int{2, 5, 29, 17}) && e.Critical })
	if !critical || cert.IsCA || cert.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Error("the certificate has not the form of docs/credentials.md")
	}
}

func TestIssueRefuses(t *testing.T) {
	a := authority(t, "a.example")
	for name, s := range map[string]Subject{
		"no client":      {User: "mimi://a.example/u/alice"},
		"no URI":         {User: "mimi://a.example/u/alice", Client: "::"},
		"another user's": {User: "mimi://a.example/u/alice", Client: "mimi://a.example/u/bob"},
	} {
		s.Key = signatureKey(t, 1)
		if _, _, err := a.Issue(now, s, life); err == nil {
			t.Errorf("%s: issued", name)
		}
	}
	for _, b := range [][]byte{nil, {1}, {2, 0, 0}, append(a.Marshal(), 0)} {
		if _, err := UnmarshalAuthority(b); err == nil {
			t.Errorf("%x was read as an authority", b)
		}
	}
}

// forgery is how a certificate is made that is not as Issue makes them.
type forgery struct {
	uris   []string
	change func(*x509.Certificate)
	key    any // public
}

// TestForged is the table of what is wrong with a certificate and the error that it gives.
func TestForged(t *testing.T) {
	a, other, key := authority(t, "a.example"), authority(t, "a.example"), signatureKey(t, 1)
	good := []string{"mimi://a.example/d/alice/bridge", "mimi://a.example/u/alice", "acct:alice@a.example"}
	forge := func(by *Authority, f forgery) []byte {
		template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(life),
			KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true}
		for _, s := range f.uris {
			u, err := url.Parse(s)
			if err != nil {
				t.Fatal(err)
			}
			template.URIs = append(template.URIs, u)
		}
		if f.change != nil {
			f.change(template)
		}
		if f.key == nil {
			f.key = key.CryptoPublic()
		}
		cert, err := sign(template, by.Certificate, f.key, by.key)
		if err != nil {
			t.Fatal(err)
		}
		return cert.Raw
	}
	with := func(uris ...string) [][]byte { return [][]byte{forge(a, forgery{uris: uris})} }
	changed := func(change func(*x509.Certificate)) [][]byte {
		return [][]byte{forge(a, forgery{uris: good, change: change})}
	}
	plain := with(good...)
	broken := bytes.Clone(plain[0])
	broken[len(broken)-1] ^= 1
	long := bytes.Repeat([]byte{1}, MaxCertificate+1)
	// An authority below ours must not be: ours says that the path ends with it.
	middle := authority(t, "a.example")
	middleCert, err := sign(&x509.Certificate{SerialNumber: big.NewInt(2), Subject: middle.Certificate.Subject, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(life),
		KeyUsage: x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true}, a.Certificate, middle.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	middle.Certificate = middleCert
	self := &Authority{key: key0(key), Certificate: &x509.Certificate{SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "self"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(life)}}
	wrongCurve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tooMany := slices.Clone(good)
	for range MaxURIs {
		tooMany = append(tooMany, "acct:alice@a.example")
	}
	for name, c := range map[string]struct {
		chain   [][]byte
		want    error
		at      time.Time
		expired bool
		key     []byte
	}{
		"good":                       {chain: plain},
		"without acct":               {chain: with(good[:2]...)},
		"client only":                {chain: with(good[0])},
		"empty chain":                {want: ErrForm},
		"too many certificates":      {chain: slices.Repeat(plain, MaxChain+1), want: ErrForm},
		"too large":                  {chain: [][]byte{plain[0], long}, want: ErrForm},
		"no certificate":             {chain: [][]byte{{0x30, 0}}, want: ErrForm},
		"broken signature":           {chain: [][]byte{broken}, want: ErrUntrusted},
		"of another authority":       {chain: [][]byte{forge(other, forgery{uris: good})}, want: ErrUntrusted},
		"brings its own authority":   {chain: [][]byte{forge(other, forgery{uris: good}), other.Certificate.Raw}, want: ErrUntrusted},
		"signed by itself":           {chain: [][]byte{forge(self, forgery{uris: good})}, want: ErrUntrusted},
		"below our authority":        {chain: [][]byte{forge(middle, forgery{uris: good}), middleCert.Raw}, want: ErrUntrusted},
		"signed by a member":         {chain: [][]byte{forge(&Authority{parse1(t, plain[0]), key0(key)}, forgery{uris: good}), plain[0]}, want: ErrUntrusted},
		"with a stranger in between": {chain: [][]byte{plain[0], other.Certificate.Raw}, want: ErrUntrusted},
		"out of order":               {chain: [][]byte{plain[0], other.Certificate.Raw, a.Certificate.Raw}, want: ErrUntrusted},
		"another key":                {chain: plain, key: signatureKey(t, 1).Public(), want: ErrKey},
		"another kind of key":        {chain: [][]byte{forge(a, forgery{uris: good, key: &wrongCurve.PublicKey})}, want: ErrKey},
		"an authority as a member":   {chain: changed(func(c *x509.Certificate) { c.IsCA = true }), want: ErrUse},
		"not for signatures":         {chain: changed(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }), want: ErrUse},
		"of a host":                  {chain: changed(func(c *x509.Certificate) { c.DNSNames = []string{"a.example"} }), want: ErrUse},
		"not yet":                    {chain: plain, at: now.Add(-2 * time.Hour), want: ErrNotYet},
		"expired":                    {chain: plain, at: now.Add(life + time.Second), want: ErrExpired},
		"expired since":              {chain: plain, at: now.Add(life + time.Second), expired: true},
		"not yet, in a tree":         {chain: plain, at: now.Add(-2 * time.Hour), expired: true, want: ErrNotYet},
		"too long": {chain: changed(func(c *x509.Certificate) { c.NotAfter = c.NotBefore.Add(MaxValidity + time.Second) }),
			want: ErrLife},
		"unknown critical extension": {chain: changed(func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
		}), want: ErrUntrusted},
		"no names":                {chain: with(), want: ErrNames},
		"user only":               {chain: with(good[1]), want: ErrNames},
		"another's client":        {chain: with("mimi://a.example/d/bob/phone", good[1]), want: ErrNames},
		"two users":               {chain: with(good[0], good[1], "mimi://a.example/u/bob"), want: ErrNames},
		"two clients":             {chain: with(good[0], "mimi://a.example/d/alice/phone"), want: ErrNames},
		"user of another domain":  {chain: with(good[0], "mimi://b.example/u/alice"), want: ErrNames},
		"acct of another domain":  {chain: with(good[0], "acct:alice@b.example"), want: ErrNames},
		"acct without a domain":   {chain: with(good[0], "acct:alice"), want: ErrNames},
		"a room":                  {chain: with(good[0], "mimi://a.example/r/room"), want: ErrNames},
		"a URI of another scheme": {chain: with(good[0], "https://a.example/"), want: ErrNames},
		"too many names":          {chain: with(tooMany...), want: ErrNames},
	} {
		t.Run(name, func(t *testing.T) {
			cred := mls.X509Credential(c.chain...)
			q := Query{Credential: &cred, SignatureKey: key.Public(), Authorities: []*x509.Certificate{a.Certificate}, Now: now, Expired: c.expired}
			if !c.at.IsZero() {
				q.Now = c.at
			}
			if c.key != nil {
				q.SignatureKey = c.key
			}
			if _, err := Verify(q); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
	t.Run("basic", func(t *testing.T) {
		cred := mls.BasicCredential([]byte(good[0]))
		if _, err := Verify(Query{Credential: &cred, SignatureKey: key.Public(), Now: now}); !errors.Is(err, ErrForm) {
			t.Error(err)
		}
	})
	t.Run("no authority", func(t *testing.T) {
		cred := mls.X509Credential(plain...)
		if _, err := Verify(Query{Credential: &cred, SignatureKey: key.Public(), Now: now}); !errors.Is(err, ErrUntrusted) {
			t.Error(err)
		}
	})
}

func parse1(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func key0(k *mls.SignatureKey) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(k.Private()) }

func TestParseAuthorities(t *testing.T) {
	a := authority(t, "a.example")
	cred, _, err := a.Issue(now, alice(signatureKey(t, 1)), life)
	if err != nil {
		t.Fatal(err)
	}
	list := [][]byte{nil, {1}, bytes.Repeat([]byte{1}, MaxCertificate+1), cred.Certificates[0]}
	for range MaxAuthorities + 1 {
		list = append(list, a.Certificate.Raw)
	}
	if got := ParseAuthorities(list); len(got) != MaxAuthorities || !got[0].Equal(a.Certificate) {
		t.Errorf("%d authorities", len(got))
	}
}

func FuzzVerify(f *testing.F) {
	a, key := authority(f, "a.example"), signatureKey(f, 1)
	cred, _, err := a.Issue(now, alice(key), life)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(cred.Marshal())
	cred.Certificates = append(cred.Certificates, a.Certificate.Raw)
	f.Add(cred.Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := mls.UnmarshalCredential(b)
		if err != nil {
			return
		}
		q := Query{Credential: &c, SignatureKey: key.Public(), Authorities: []*x509.Certificate{a.Certificate}, Now: now}
		id, err := Verify(q)
		if err == nil && string(id.User) != "mimi://a.example/u/alice" {
			t.Fatalf("%v was certified", id)
		}
		ParseAuthorities(c.Certificates)
	})
}
