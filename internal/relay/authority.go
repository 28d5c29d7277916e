package relay

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/credential"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/puppets"
)

// secretAuthority names the n-th authority of ours, from 1.
func secretAuthority(n int) string { return fmt.Sprintf("credential.authority.%d", n) }

// maxAuthorities bounds how many authorities of ours are looked for.
const maxAuthorities = 64

// StoredAuthorities returns the authorities that the bridge made for its users' certificates, oldest first.
func StoredAuthorities(ctx context.Context, db *store.DB) ([]*credential.Authority, error) {
	var out []*credential.Authority
	for n := 1; n <= maxAuthorities; n++ {
		raw, err := db.Secret(ctx, secretAuthority(n))
		if errors.Is(err, store.ErrNotFound) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("load the provider's authorities: %w", err)
		}
		a, err := credential.UnmarshalAuthority(raw)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

// loadAuthorities reads the authorities that sign our users' certificates. With X.509 credentials the first is made when there is
// none, and the next one when the last ends before long. Those that were made once stay known also without: their
// certificates are out.
func (r *Relay) loadAuthorities(ctx context.Context) (err error) {
	if r.authorities, err = StoredAuthorities(ctx, r.Store); err != nil || !r.needsAuthority() {
		return err
	}
	raw, err := r.secret(ctx, secretAuthority(len(r.authorities)+1), func() ([]byte, error) {
		a, err := credential.NewAuthority(r.Rand, r.Clock(), r.Naming.Domain)
		if err != nil {
			return nil, err
		}
		return a.Marshal(), nil
	})
	if err != nil {
		return fmt.Errorf("make an authority of the provider: %w", err)
	}
	a, err := credential.UnmarshalAuthority(raw)
	if err == nil {
		r.authorities = append(r.authorities, a)
	}
	return err
}

// needsAuthority tells whether an authority is to be made.
func (r *Relay) needsAuthority() bool {
	if !r.cfg.X509 {
		return false
	}
	n := len(r.authorities)
	return n == 0 || r.authorities[n-1].Certificate.NotAfter.Before(r.Clock().Add(credential.AuthorityRest))
}

// Authorities returns the certificates of those who sign for our users, newest first, as they are published.
func (r *Relay) Authorities() [][]byte {
	var out [][]byte
	for n := len(r.authorities) - 1; n >= 0 && len(out) < credential.MaxAuthorities; n-- {
		if cert := r.authorities[n].Certificate; cert.NotAfter.After(r.Clock()) {
			out = append(out, cert.Raw)
		}
	}
	return out
}

// certify gives a client of ours its credential, and says how long that one is used for new leaves and KeyPackages.
func (r *Relay) certify(c *puppets.Client, mxid string) (until time.Time, err error) {
	if !r.cfg.X509 {
		c.Credential = puppets.BasicCredential(c.ClientURI)
		return time.Time{}, nil
	}
	acct, err := r.Naming.AcctURI(mxid)
	if err != nil {
		return until, err
	}
	by := r.authorities[len(r.authorities)-1]
	c.Credential, until, err = by.Issue(r.Clock(), credential.Subject{User: c.UserURI, Client: c.ClientURI, Acct: acct, Key: c.Key}, puppets.Lifetime)
	return until, err
}

// shown gives a client the credential that it shows in this room: a basic one where somebody cannot read certificates, since a leaf
// that one member cannot judge is none for all (RFC 9420 §7.3).
func (s *step) shown(c *puppets.Client) {
	if c.Credential.Type != mls.CredentialX509 {
		return
	}
	for _, m := range s.room.group.Members() {
		if !m.Leaf.Capabilities.SupportsCredential(mls.CredentialX509) {
			c.Credential = puppets.BasicCredential(c.ClientURI)
			return
		}
	}
}

// issuers is what is known of the authorities of other providers.
type issuers struct {
	certs []*x509.Certificate
	asked time.Time
}

// judge is the authentication service of one room: it is asked inside a step, where nothing can be fetched, so it notes whose
// authorities it lacks. The step is then taken back, they are fetched, and it is taken again.
type judge struct {
	r      *Relay
	lacks  map[string]bool
	forced bool // judge by what is known
}

// trusted returns the authorities of a provider. fresh asks for those that were fetched a moment ago.
func (j *judge) trusted(domain string, fresh bool) []*x509.Certificate {
	r := j.r
	if domain == r.Naming.Domain {
		return credential.ParseAuthorities(r.Authorities())
	}
	got, known := r.issuersOf(domain)
	if !known || fresh && r.Clock().Sub(got.asked) >= issuersFresh {
		if j.lacks == nil {
			j.lacks = map[string]bool{}
		}
		j.lacks[domain] = true
	}
	return got.certs
}

// verify judges the certificates of a member.
func (j *judge) verify(c mls.CredentialCheck, domain string) error {
	q := credential.Query{Credential: c.Credential, SignatureKey: c.SignatureKey, Authorities: j.trusted(domain, false), Now: c.Now, Expired: c.InTree}
	_, err := credential.Verify(q)
	if errors.Is(err, credential.ErrUntrusted) {
		j.trusted(domain, true) // it may have a new one
	}
	return err
}

const (
	// issuersFresh is how old what is known of a provider's authorities may be when a certificate does not fit it.
	issuersFresh = time.Minute
	// issuersWait is how long an input waits for a provider that does not say who its authorities are.
	issuersWait = time.Hour
	// maxIssuers bounds the providers whose authorities are remembered.
	maxIssuers = 4096
)

func (r *Relay) issuersOf(domain string) (issuers, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	got, ok := r.issuers[domain]
	return got, ok
}

// fetchIssuers gets the authorities of a provider: those that it publishes now, or, when it cannot be asked, those that it published
// last. An error says that nothing is known.
func (r *Relay) fetchIssuers(ctx context.Context, domain string) error {
	if r.PeerAuthorities == nil {
		r.learn(domain, nil)
		return nil
	}
	certs, err := r.PeerAuthorities(ctx, domain)
	if err != nil {
		if r.keepIssuers(domain) {
			return nil
		}
		stored, serr := r.Store.PeerAuthorities(ctx, domain)
		if serr != nil {
			return fmt.Errorf("ask %s for its authorities: %w: %w", domain, ErrTemporary, err)
		}
		r.learn(domain, stored)
		return nil
	}
	r.learn(domain, certs)
	return r.Store.Tx(ctx, func(tx *store.Tx) error { return tx.SetPeerAuthorities(ctx, domain, certs) })
}

// keepIssuers notes that a provider was asked in vain, so that the same step does not ask it again. False when nothing is known.
func (r *Relay) keepIssuers(domain string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	got, known := r.issuers[domain]
	if known {
		got.asked = r.Clock()
		r.issuers[domain] = got
	}
	return known
}

func (r *Relay) learn(domain string, certs [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.issuers == nil || len(r.issuers) >= maxIssuers {
		r.issuers = map[string]issuers{}
	}
	r.issuers[domain] = issuers{credential.ParseAuthorities(certs), r.Clock()}
}

// lacksIssuers is the error of a step that could not judge somebody's certificates.
type lacksIssuers struct{ domains []string }

func (e *lacksIssuers) Error() string {
	return fmt.Sprintf("the authorities of %v are not known", e.domains)
}

// lacking returns an error when a room's judge lacked something since it was asked last.
func (v *roomView) lacking() error {
	j := v.judge
	if j == nil || len(j.lacks) == 0 {
		return nil
	}
	lacks := sortedKeys(j.lacks)
	j.lacks = nil
	if j.forced {
		return nil
	}
	return &lacksIssuers{lacks}
}

// maxFetches is how often the authorities of others are fetched for one step.
const maxFetches = 8

// fetchLacking fetches what a step lacked. Where that cannot be had an input waits, but not for ever: then it is judged by what is
// known, which refuses the certificate.
func (r *Relay) fetchLacking(ctx context.Context, lacks *lacksIssuers, in *store.Input) (force bool, err error) {
	for _, domain := range lacks.domains {
		if ferr := r.fetchIssuers(ctx, domain); ferr != nil {
			err = ferr
		}
	}
	switch {
	case err == nil || in == nil:
		return false, err
	case r.Clock().Sub(store.Time(in.CreatedMS)) >= issuersWait:
		return true, nil
	}
	return false, fmt.Errorf("%w: %w", errLater, err)
}

// checkCredential judges who a request is from, outside of any room.
func (r *Relay) checkCredential(ctx context.Context, cred *mls.Credential, key []byte) error {
	j := &judge{r: r}
	check := mls.CredentialCheck{Credential: cred, SignatureKey: key, Use: mls.CredentialOfMember, Now: r.Clock()}
	err := j.validate(check)
	if len(j.lacks) == 0 {
		return err
	}
	if _, err := r.fetchLacking(ctx, &lacksIssuers{sortedKeys(j.lacks)}, nil); err != nil {
		return err
	}
	return j.validate(check)
}
