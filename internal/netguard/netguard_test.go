package netguard

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// What must not be dialled.
func TestPrivateAddressesAreRefusedAtTheDial(t *testing.T) {
	g := New(Config{Timeout: time.Second})
	for _, addr := range []string{
		"127.0.0.1:443", "127.8.9.1:443", "[::1]:443", "0.0.0.0:443", "[::]:443", "10.1.2.3:443", "172.16.0.1:443", "192.168.1.1:443",
		"169.254.169.254:443", "100.64.0.1:443", "[::ffff:127.0.0.1]:443", "[::ffff:169.254.169.254]:443", "[fe80::1]:443", "[fc00::1]:443",
		"[64:ff9b::7f00:1]:443", "224.0.0.1:443", "255.255.255.255:443", "localhost:443", "1.1.1.1:22", "1.1.1.1:80", "1.1.1.1:8448",
	} {
		conn, err := g.DialContext(context.Background(), "tcp", addr)
		if conn != nil {
			conn.Close()
		}
		if !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

func TestWhatTheOperatorAllowsIsDialled(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "" {
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	t.Cleanup(s.Close)
	addr := strings.TrimPrefix(s.URL, "http://")
	dial := func(cfg Config) error {
		conn, err := New(cfg).DialContext(context.Background(), "tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err
	}
	if err := dial(Config{}); !errors.Is(err, ErrRefused) {
		t.Fatalf("loopback: %v", err)
	}
	if err := dial(Config{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}}); err != nil {
		t.Fatal(err)
	}
	if err := dial(Config{Hosts: []string{addr}}); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(addr)
	if err := dial(Config{Hosts: []string{"127.0.0.2:" + port, "127.0.0.1:1"}}); !errors.Is(err, ErrRefused) {
		t.Fatalf("another host was allowed: %v", err)
	}
	c := http.Client{Transport: New(Config{Hosts: []string{addr}}).Transport(nil)}
	defer c.CloseIdleConnections()
	res, err := c.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Error("a compressed answer is asked for")
	}
}

// A proxy of the environment is not asked for addresses that others chose, even where its own address may be dialled: it would open what the guard does not
// (docs/activitypub.md, "SSRF, private addresses").
func TestTheProxyOfTheEnvironmentIsNotUsed(t *testing.T) {
	asked := atomic.Int64{}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusBadGateway)
	}))
	t.Cleanup(proxy.Close)
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"} {
		t.Setenv(name, proxy.URL)
	}
	t.Setenv("NO_PROXY", "")
	t.Setenv("no_proxy", "")
	g := New(Config{Timeout: time.Second, Hosts: []string{strings.TrimPrefix(proxy.URL, "http://")}})
	if g.Transport(nil).Proxy != nil { // net/http reads the environment once: a test before this one may have let it
		t.Error("there is a proxy")
	}
	for _, address := range []string{"https://192.0.2.1/", "http://192.0.2.1:443/", "http://169.254.169.254:443/latest"} {
		r, err := http.NewRequest(http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := g.Transport(nil).RoundTrip(r)
		if err == nil {
			res.Body.Close()
		}
		if !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", address, err)
		}
	}
	if asked.Load() != 0 {
		t.Errorf("the proxy was asked %d times", asked.Load())
	}
}
