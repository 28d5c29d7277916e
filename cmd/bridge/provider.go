package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/matrix-mimi/bridge/internal/config"
	"github.com/matrix-mimi/bridge/internal/netguard"
	"github.com/matrix-mimi/bridge/mimiside/client"
	"github.com/matrix-mimi/bridge/mimiside/peer"
	"github.com/matrix-mimi/bridge/mimiside/server"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// provider is who the bridge is among providers, and how it reaches them.
type provider struct {
	keys   *peer.Keyring
	book   *peer.Book
	client *client.Client
	// directory is what the provider publishes of itself.
	directory *wire.Directory
}

// newProvider reads the certificate and the operator's word on each peer.
func newProvider(cfg *config.Config) (*provider, error) {
	keys, err := peer.LoadKeyring(cfg.MIMI.Domain, string(cfg.MIMI.TLS.CertificateFile), string(cfg.MIMI.TLS.KeyFile))
	if err != nil {
		return nil, fmt.Errorf("certificate (mimi.tls): %w", err)
	}
	rules, err := peerRules(cfg)
	if err != nil {
		return nil, err
	}
	p := &provider{keys: keys, book: peer.NewBook(rules)}
	if p.directory, err = directory(cfg); err != nil {
		return nil, fmt.Errorf("mimi.url: %w", err)
	}
	guard := netguard.New(netguard.Config{Hosts: privateHosts(cfg)})
	p.client, err = client.New(client.Config{
		Keys: keys, Book: p.book, Dial: guard.DialContext, Overrides: addressOverrides(cfg),
		Own: p.directory, UserAgent: "mimi-bridge/" + buildVersion(), RequestTimeout: cfg.MIMI.RequestTimeout.D(), DownloadTimeout: cfg.Assets.RequestTimeout.D(),
	})
	return p, err
}

// reload reads certificate and authorities again; connections in use go on.
func (p *provider) reload(cfg *config.Config) error {
	if err := p.keys.Reload(); err != nil {
		return fmt.Errorf("certificate (mimi.tls): %w", err)
	}
	rules, err := peerRules(cfg)
	if err != nil {
		return err
	}
	p.book.Replace(rules)
	p.client.CloseIdle()
	return nil
}

// peerRules turns mimi.peer_defaults and mimi.peers into the book's rules.
func peerRules(cfg *config.Config) (peer.Rules, error) {
	def, err := peerRule(cfg, cfg.MIMI.PeerDefaults, nil)
	if err != nil {
		return peer.Rules{}, fmt.Errorf("mimi.peer_defaults: %w", err)
	}
	def.Blocked = cfg.MIMI.Federation == config.FederationListed
	rules := peer.Rules{Default: def, Peers: map[string]peer.Rule{}}
	for domain, p := range cfg.MIMI.Peers {
		trust, allowed := cfg.PeerTrust(domain)
		rule, err := peerRule(cfg, trust, p.Pins)
		if err != nil {
			return peer.Rules{}, fmt.Errorf("mimi.peers.%s: %w", domain, err)
		}
		rule.Blocked = !allowed
		rules.Peers[domain] = rule
	}
	return rules, nil
}

func peerRule(cfg *config.Config, t config.Trust, pins []string) (peer.Rule, error) {
	perSecond := cfg.Limits.PeerRequests
	rule := peer.Rule{Limits: peer.Limits{PerSecond: float64(perSecond), Burst: 2 * perSecond, Connections: cfg.Limits.PeerConnections}}
	if t.RequireClientUsage {
		rule.EKU = peer.EKUClientAuth
	}
	switch t.Roots {
	case config.RootsFile:
		pool, err := peer.ReadPool(string(t.CAFile))
		if err != nil {
			return rule, err
		}
		rule.Roots = pool
	case config.RootsPinned:
		for _, text := range pins {
			pin, err := peer.ParsePin(text)
			if err != nil {
				return rule, err
			}
			rule.Pins = append(rule.Pins, pin)
		}
	}
	return rule, nil
}

// addressOverrides lists the peers that are dialled at an address of the
// operator's.
func addressOverrides(cfg *config.Config) map[string]string {
	out := map[string]string{}
	for domain, p := range cfg.MIMI.Peers {
		if p.Address != "" {
			out[domain] = p.Address
		}
	}
	return out
}

// privateHosts lists the peers whose names may lead to private addresses.
func privateHosts(cfg *config.Config) []string {
	var out []string
	for domain, p := range cfg.MIMI.Peers {
		if p.AllowPrivateAddress {
			out = append(out, net.JoinHostPort(domain, strconv.Itoa(443)))
		}
	}
	return out
}

// publicURL is the base address of the provider's endpoints.
func publicURL(cfg *config.Config) string {
	if cfg.MIMI.URL != "" {
		return cfg.MIMI.URL
	}
	return "https://" + cfg.MIMI.Domain
}

// directory is what the provider publishes of itself.
func directory(cfg *config.Config) (*wire.Directory, error) {
	var own *wire.BridgeDirectory
	if cfg.MIMI.Extensions {
		own = &wire.BridgeDirectory{Version: 1, Software: "mimi-bridge " + buildVersion(), Draft: "draft-ietf-mimi-protocol-06"}
		for _, s := range cfg.MLS.CipherSuites {
			own.Suites = append(own.Suites, uint16(s))
		}
		if host := assetHost(cfg); host != cfg.MIMI.Domain {
			own.AssetDomains = []string{host}
		}
	}
	return wire.NewDirectory(publicURL(cfg)+server.DefaultPrefix, own)
}

// authorities returns who certifies the users of a provider: whom the operator named, or else whom the provider publishes.
func (p *provider) authorities(ctx context.Context, cfg *config.Config, domain string) ([][]byte, error) {
	if file := cfg.MIMI.Peers[domain].CredentialCAFile; file != "" {
		return peer.ReadCertificates(string(file))
	}
	dir, err := p.client.FreshDirectory(ctx, domain)
	if err != nil || dir.Bridge == nil {
		return nil, err
	}
	return dir.Bridge.Authorities, nil
}

// publish says in the directory who certifies our users. It is called before the directory is read.
func (p *provider) publish(authorities [][]byte) {
	if p.directory.Bridge != nil {
		p.directory.Bridge.Authorities = authorities
	}
}

// certificateExpiry returns the seconds until the own certificate ends.
func (p *provider) certificateExpiry() float64 { return time.Until(p.keys.NotAfter()).Seconds() }
