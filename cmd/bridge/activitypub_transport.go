package main

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/matrix-mimi/bridge/internal/config"
	"github.com/matrix-mimi/bridge/internal/netguard"
	"github.com/matrix-mimi/bridge/mimiside/peer"
)

// fediTransport reaches ActivityPub servers: public addresses with certificates of the usual authorities. Those that mimi.peers
// names are reached and known as it says of them.
type fediTransport struct {
	public http.RoundTripper
	named  map[string]http.RoundTripper // by host in lower case
}

func newFediTransport(cfg *config.Config, book *peer.Book) fediTransport {
	guard := netguard.New(netguard.Config{Ports: []uint16{443, 8448}, Hosts: privateHosts(cfg)})
	t := fediTransport{public: guard.Transport(nil), named: map[string]http.RoundTripper{}}
	overrides := addressOverrides(cfg)
	for domain := range cfg.MIMI.Peers {
		tr := guard.Transport(&tls.Config{
			MinVersion: tls.VersionTLS12,
			// Verification is VerifyConnection's: it knows the operator's word on the peer.
			InsecureSkipVerify: true,
			VerifyConnection: func(s tls.ConnectionState) error {
				return peer.VerifyServer(s.PeerCertificates, book.Of(domain), domain, s.ServerName, time.Now())
			},
		})
		if to := overrides[domain]; to != "" {
			tr.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, network, to)
			}
		}
		t.named[domain] = tr
	}
	return t
}

// RoundTrip implements http.RoundTripper.
func (t fediTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if named, ok := t.named[strings.ToLower(r.URL.Hostname())]; ok {
		return named.RoundTrip(r)
	}
	return t.public.RoundTrip(r)
}
