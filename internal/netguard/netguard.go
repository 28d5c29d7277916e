// Package netguard dials addresses that strangers chose: providers from a directory, asset URLs, actor
// ids, key ids. The address is judged after the name was resolved and
// right before the connection is made, so neither a redirect nor a name that changes its address
// reaches the operator's own network.
//
// It judges addresses only. Who is at the other end is for TLS and its callers to find out.
package netguard

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
)

// ErrRefused says that an address may not be dialled. Permanent.
var ErrRefused = errors.New("this address may not be dialled")

// Config says what may be dialled besides public addresses on port 443.
type Config struct {
	// Ports that strangers may name. nil means 443.
	Ports []uint16
	// Networks are prefixes that are dialled although they are not public, on any port: loopback in
	// tests, an operator's own network.
	Networks []netip.Prefix
	// Hosts are the host:port pairs of peers whose address the operator wrote into the configuration:
	// they are dialled wherever their name leads.
	Hosts []string
	// Timeout bounds the making of a connection. 0 means 10 s.
	Timeout time.Duration
}

// Guard dials. It is safe for concurrent use.
type Guard struct {
	strict, trusted net.Dialer
	hosts           map[string]bool
}

// New makes a guard.
func New(cfg Config) *Guard {
	if cfg.Ports == nil {
		cfg.Ports = []uint16{443}
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 10 * time.Second
	}
	networks := make([]netip.Prefix, 0, len(cfg.Networks))
	for _, p := range cfg.Networks {
		networks = append(networks, p.Masked())
	}
	public := ssrf.New(ssrf.WithPorts(cfg.Ports...))
	g := &Guard{hosts: map[string]bool{}}
	base := net.Dialer{Timeout: cfg.Timeout, KeepAlive: 30 * time.Second}
	g.strict, g.trusted = base, base
	g.strict.Control = func(network, address string, c syscall.RawConn) error {
		if ap, err := netip.ParseAddrPort(address); err == nil {
			ip := ap.Addr().Unmap().WithZone("")
			for _, p := range networks {
				if p.Contains(ip) {
					return nil
				}
			}
		}
		if err := public.Safe(network, address, c); err != nil {
			return fmt.Errorf("%w: %v", ErrRefused, err)
		}
		return nil
	}
	for _, h := range cfg.Hosts {
		g.hosts[strings.ToLower(h)] = true
	}
	return g
}

// DialContext is net.Dialer.DialContext, with the address judged. The error wraps ErrRefused when the
// address may not be dialled.
func (g *Guard) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if g.hosts[strings.ToLower(address)] {
		return g.trusted.DialContext(ctx, network, address)
	}
	return g.strict.DialContext(ctx, network, address)
}

// Limits of what a peer may make us hold and wait for.
const (
	maxHeaderBytes = 64 << 10
	headerTimeout  = 30 * time.Second
	handshakeTime  = 10 * time.Second
	idleConnTime   = 90 * time.Second
	connsPerHost   = 20
)

// Transport makes an HTTP transport over the guard: no proxy from the environment, no compression (a
// small body cannot become a large one), bounded headers and connections. cfg may be nil.
func (g *Guard) Transport(cfg *tls.Config) *http.Transport {
	return &http.Transport{
		DialContext:            g.DialContext,
		TLSClientConfig:        cfg,
		TLSHandshakeTimeout:    handshakeTime,
		ResponseHeaderTimeout:  headerTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
		MaxConnsPerHost:        connsPerHost,
		MaxIdleConnsPerHost:    connsPerHost,
		IdleConnTimeout:        idleConnTime,
		DisableCompression:     true,
		ForceAttemptHTTP2:      true,
	}
}
