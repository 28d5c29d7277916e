package peer

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/peer/ca"
)

type world struct {
	now   time.Time
	ca    *ca.CA
	other *ca.CA
}

func newWorld(t *testing.T) *world {
	t.Helper()
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	w := &world{now: now}
	var err error
	if w.ca, err = ca.New("trusted", ca.P256, now); err != nil {
		t.Fatal(err)
	}
	if w.other, err = ca.New("other", ca.Ed25519, now); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) cert(t *testing.T, c *ca.CA, o ca.Options, names ...string) []*x509.Certificate {
	t.Helper()
	cert, err := c.Issue(w.now, o, names...)
	if err != nil {
		t.Fatal(err)
	}
	return []*x509.Certificate{cert.Leaf}
}

// S000-092, S003-095: servers authenticate each other; a server's identity is its provider's.
func TestVerify(t *testing.T) {
	w := newWorld(t)
	good := w.cert(t, w.ca, ca.Options{}, "a.example", "x.example")
	pinned := w.cert(t, w.other, ca.Options{SelfSigned: true}, "a.example")
	rule := Rule{Roots: w.ca.Pool()}
	serverOnly := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for name, c := range map[string]struct {
		chain  []*x509.Certificate
		rule   Rule
		client error // as a client of a.example
		server error // as the server of a.example on a.example
	}{
		"good":           {good, rule, nil, nil},
		"none":           {nil, rule, ErrNoCertificate, ErrNoCertificate},
		"blocked":        {good, Rule{Roots: w.ca.Pool(), Blocked: true}, ErrBlocked, ErrBlocked},
		"other domain":   {w.cert(t, w.ca, ca.Options{}, "b.example"), rule, ErrCertificate, ErrCertificate},
		"subdomain":      {w.cert(t, w.ca, ca.Options{}, "x.a.example"), rule, ErrCertificate, ErrCertificate},
		"other CA":       {w.cert(t, w.other, ca.Options{}, "a.example"), rule, ErrCertificate, ErrCertificate},
		"self-made":      {pinned, rule, ErrCertificate, ErrCertificate},
		"wildcard":       {w.cert(t, w.ca, ca.Options{}, "*.example"), rule, ErrCertificate, ErrCertificate},
		"CN only":        {w.cert(t, w.ca, ca.Options{CommonName: "a.example"}), rule, ErrCertificate, ErrCertificate},
		"IP SAN":         {w.cert(t, w.ca, ca.Options{IPs: []net.IP{{127, 0, 0, 1}}}), rule, ErrCertificate, ErrCertificate},
		"expired":        {w.cert(t, w.ca, ca.Options{NotAfter: w.now.Add(-time.Minute)}, "a.example"), rule, ErrCertificate, ErrCertificate},
		"not yet":        {w.cert(t, w.ca, ca.Options{NotBefore: w.now.Add(time.Minute)}, "a.example"), rule, ErrCertificate, ErrCertificate},
		"server only":    {w.cert(t, w.ca, ca.Options{Usages: serverOnly}, "a.example"), rule, nil, nil},
		"server, strict": {w.cert(t, w.ca, ca.Options{Usages: serverOnly}, "a.example"), Rule{Roots: w.ca.Pool(), EKU: EKUClientAuth}, ErrCertificate, nil},
		"client only":    {w.cert(t, w.ca, ca.Options{Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, "a.example"), rule, nil, ErrCertificate},
		"code signing":   {w.cert(t, w.ca, ca.Options{Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}, "a.example"), rule, ErrCertificate, ErrCertificate},
		"any usage":      {w.cert(t, w.ca, ca.Options{Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}, "a.example"), Rule{Roots: w.ca.Pool(), EKU: EKUAny}, nil, ErrCertificate},
		"pinned":         {pinned, Rule{Pins: []Pin{PinOf(pinned[0])}}, nil, nil},
		"not pinned":     {good, Rule{Roots: w.ca.Pool(), Pins: []Pin{PinOf(pinned[0])}}, ErrCertificate, ErrCertificate},
		"public roots":   {good, Rule{}, ErrCertificate, ErrCertificate},
	} {
		if err := VerifyClient(c.chain, c.rule, "a.example", w.now); !errors.Is(err, c.client) {
			t.Errorf("%s as a client: %v, want %v", name, err, c.client)
		}
		if err := VerifyServer(c.chain, c.rule, "A.example", "a.example", w.now); !errors.Is(err, c.server) {
			t.Errorf("%s as a server: %v, want %v", name, err, c.server)
		}
	}
}

// An endpoint on another host than the provider's domain.
func TestVerifyForeignHost(t *testing.T) {
	w := newWorld(t)
	host := w.cert(t, w.ca, ca.Options{}, "mimi.host.example")
	both := w.cert(t, w.ca, ca.Options{}, "*.host.example", "a.example")
	strict, lax := Rule{Roots: w.ca.Pool()}, Rule{Roots: w.ca.Pool(), ForeignHost: true}
	for name, c := range map[string]struct {
		chain []*x509.Certificate
		rule  Rule
		want  error
	}{"host alone": {host, strict, ErrCertificate}, "host alone, allowed": {host, lax, nil}, "both": {both, strict, nil},
		"provider alone": {w.cert(t, w.ca, ca.Options{}, "a.example"), lax, ErrCertificate}} {
		if err := VerifyServer(c.chain, c.rule, "a.example", "mimi.host.example", w.now); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestIdentify(t *testing.T) {
	w := newWorld(t)
	one := w.cert(t, w.ca, ca.Options{}, "a.example")
	two := w.cert(t, w.ca, ca.Options{}, "a.example", "b.example")
	book := NewBook(Rules{Default: Rule{Roots: w.ca.Pool()}, Peers: map[string]Rule{"b.example": {Roots: w.ca.Pool(), Blocked: true}}})
	now := w.now
	i := NewIdentifier("own.example", book, func() time.Time { return now })
	check := func(name string, chain []*x509.Certificate, from []string, domain string, want error) {
		t.Helper()
		r := &http.Request{Header: http.Header{"From": from}, TLS: &tls.ConnectionState{PeerCertificates: chain}}
		got, err := i.Identify(r)
		if got != domain || !errors.Is(err, want) {
			t.Errorf("%s: %q, %v, want %q, %v", name, got, err, domain, want)
		}
	}
	for range 2 { // the second time from memory
		check("good", one, []string{"mimi@a.example"}, "a.example", nil)
		check("case", one, []string{"MIMI@A.Example"}, "a.example", nil)
		check("no header", one, nil, "a.example", nil)
		check("no header, two names", two, nil, "", ErrFromMissing)
		check("two names", two, []string{"mimi@a.example"}, "a.example", nil)
		check("blocked", two, []string{"mimi@b.example"}, "", ErrBlocked)
		check("another domain", one, []string{"mimi@c.example"}, "", ErrFromMismatch)
		check("two headers", one, []string{"mimi@a.example", "mimi@a.example"}, "", ErrFromMismatch)
		check("other local part", one, []string{"root@a.example"}, "", ErrFromMismatch)
		check("ourselves", w.cert(t, w.ca, ca.Options{}, "own.example"), []string{"mimi@own.example"}, "", ErrFromMismatch)
		check("no certificate", nil, []string{"mimi@a.example"}, "", ErrNoCertificate)
	}
	if _, err := i.Identify(&http.Request{Header: http.Header{}}); !errors.Is(err, ErrNoCertificate) {
		t.Errorf("no TLS: %v", err)
	}
	// rules and time take effect on what is remembered
	book.Replace(Rules{Default: Rule{Roots: w.other.Pool()}})
	check("other authority", one, []string{"mimi@a.example"}, "", ErrCertificate)
	book.Replace(Rules{Default: Rule{Roots: w.ca.Pool(), RequireFrom: true}})
	check("header demanded", one, nil, "", ErrFromMissing)
	check("good again", one, []string{"mimi@a.example"}, "a.example", nil)
	now = one[0].NotAfter.Add(time.Second)
	check("expired meanwhile", one, []string{"mimi@a.example"}, "", ErrCertificate)
}

func FuzzFromHeader(f *testing.F) {
	for _, s := range []string{"mimi@a.example", "MIMI@A.EXAMPLE", "<mimi@a.example>", "mimi@a.example, mimi@b.example", "mimi@[127.0.0.1]", "mimi@", "@", "mimi@a.example\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		domain, err := ParseFrom(s)
		if err != nil {
			return
		}
		if again, err := ParseFrom(FormatFrom(domain)); err != nil || again != domain {
			t.Fatalf("%q → %q → %q, %v", s, domain, again, err)
		}
	})
}

func TestKeyring(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write := func(names ...string) {
		t.Helper()
		c, err := w.ca.Issue(w.now, ca.Options{}, names...)
		if err != nil {
			t.Fatal(err)
		}
		if err := ca.Write(c, certFile, keyFile); err != nil {
			t.Fatal(err)
		}
	}
	write("a.example")
	k, err := LoadKeyring("A.example", certFile, keyFile)
	if err != nil || k.Domain() != "a.example" {
		t.Fatal(err)
	}
	first := k.Leaf()
	write("b.example")
	if err := k.Reload(); err == nil || k.Leaf() != first {
		t.Errorf("a certificate for another domain was taken: %v", err)
	}
	if err := os.Remove(keyFile); err != nil {
		t.Fatal(err)
	}
	if err := k.Reload(); err == nil || k.Leaf() != first {
		t.Error("a missing key was not noticed, or took away the certificate in use")
	}
	write("a.example")
	if err := k.Reload(); err != nil || k.Leaf().Equal(first) {
		t.Errorf("the new certificate is not in use: %v", err)
	}
	if _, err := LoadKeyring("a.example", filepath.Join(dir, "none"), keyFile); err == nil {
		t.Error("a missing file was loaded")
	}
	if _, err := NewKeyring("a.example", tls.Certificate{}); err == nil {
		t.Error("an empty certificate was taken")
	}
}

func TestParsePin(t *testing.T) {
	w := newWorld(t)
	pin := PinOf(w.ca.Certificate)
	const digits = "0123456789abcdef"
	var plain, colons string
	for i, b := range pin {
		if i > 0 {
			colons += ":"
		}
		plain += string(digits[b>>4]) + string(digits[b&15])
		colons += string(digits[b>>4]) + string(digits[b&15])
	}
	for _, s := range []string{plain, colons} {
		if got, err := ParsePin(s); err != nil || got != pin {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"", plain[1:], plain + "00", "zz" + plain[2:]} {
		if _, err := ParsePin(s); err == nil {
			t.Errorf("%q passed", s)
		}
	}
}

func TestReadPool(t *testing.T) {
	w := newWorld(t)
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, w.ca.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	pool, err := ReadPool(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := VerifyClient(w.cert(t, w.ca, ca.Options{}, "a.example"), Rule{Roots: pool}, "a.example", w.now); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(file, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadPool(file); err == nil {
		t.Error("a file without a certificate was read")
	}
	if _, err := ReadPool(file + "x"); err == nil {
		t.Error("a missing file was read")
	}
}
