package activitypub

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/peer"
)

// Errors of the gate beside ErrNoSignature and ErrSignature.
var (
	// ErrBlocked: the operator speaks with no one there. Permanent.
	ErrBlocked = errors.New("the server is blocked")
	// ErrTooMany: the server or the key asks too often. Temporary.
	ErrTooMany = errors.New("too many requests")
	// ErrUnknownKey: the key cannot be had now. Temporary.
	ErrUnknownKey = errors.New("the signer's key cannot be had")
)

// Gate says who signed a request. It is safe for concurrent use.
type Gate struct {
	people  *People
	blocked func(host string) bool
	now     func() time.Time
	// origins and keys count requests whose signature verified, claimed those that name a key which did not verify them yet: nobody uses up the
	// quota of others by naming their keys.
	origins, keys, claimed *peer.Quota
	lookups                *Lookups
}

// GateConfig says what a Gate allows.
type GateConfig struct {
	People *People
	// Blocked tells that a host is not spoken with; nil: none is.
	Blocked func(host string) bool
	Now     func() time.Time // nil: time.Now
	// PerOrigin and PerKey bound signed requests a minute: 600 and 300 when 0.
	PerOrigin, PerKey int
	// Lookups bounds what is fetched at once because strangers ask, keys above all: 32 when 0. LookupsPerDomain bounds it for one registered domain with all
	// hosts below it: 4 when 0.
	Lookups, LookupsPerDomain int
}

// maxGateKeys bounds how many origins and keys are counted.
const maxGateKeys = 1 << 16

// NewGate makes a Gate.
func NewGate(c GateConfig) *Gate {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Blocked == nil {
		c.Blocked = func(string) bool { return false }
	}
	if c.PerOrigin == 0 {
		c.PerOrigin = 600
	}
	if c.PerKey == 0 {
		c.PerKey = 300
	}
	if c.Lookups == 0 {
		c.Lookups = 32
	}
	if c.LookupsPerDomain == 0 {
		c.LookupsPerDomain = 4
	}
	return &Gate{people: c.People, blocked: c.Blocked, now: c.Now, lookups: NewLookups(c.Lookups, c.LookupsPerDomain),
		origins: peer.NewQuota(c.PerOrigin, time.Minute, maxGateKeys, c.Now), claimed: peer.NewQuota(c.PerOrigin, time.Minute, maxGateKeys, c.Now), keys: peer.NewQuota(c.PerKey, time.Minute, maxGateKeys, c.Now)}
}

// Despite is the Gate without its block list: for the handshakes of a group that ours are leaving. What is counted is shared.
func (g *Gate) Despite() *Gate {
	h := *g
	h.people, h.blocked = g.people.Despite(), func(string) bool { return false }
	return &h
}

// Signer checks the signature of a request and returns the actor that made it. All checks that cost nothing come before the key is
// fetched: form, coverage, time, digest, block list, the key as it is remembered, quota. A key that does not verify is fetched once more, as it may
// have changed.
func (g *Gate) Signer(ctx context.Context, in Incoming) (actor string, err error) {
	sig, err := ReadSignature(in, g.now())
	if err != nil {
		return "", err
	}
	u, err := url.Parse(sig.KeyID)
	if err != nil {
		return "", refuse("keyId is no URL")
	}
	if g.blocked(strings.ToLower(u.Hostname())) {
		return "", ErrBlocked
	}
	counted := func(signer string) (string, error) {
		if g.origins.Take(originOf(sig.KeyID)) != nil || g.keys.Take(sig.KeyID) != nil {
			return "", ErrTooMany
		}
		return signer, nil
	}
	if signer, key, ok := g.people.knownKey(sig.KeyID); ok && sig.Verify(key) == nil {
		return counted(signer) // waits for nobody's server
	}
	if g.claimed.Take(originOf(sig.KeyID)) != nil {
		return "", ErrTooMany
	}
	done, err := g.lookups.Begin(ctx, sig.KeyID)
	if err != nil {
		return "", err
	}
	defer done()
	for _, fresh := range []bool{false, true} {
		signer, key, keyErr := g.people.SignerKey(ctx, sig.KeyID, fresh)
		if keyErr != nil {
			if errors.Is(keyErr, ErrActor) || errors.Is(keyErr, ErrUnfit) || errors.Is(keyErr, ErrGone) || errors.Is(keyErr, ErrPEM) {
				err = fmt.Errorf("%w: %w", ErrSignature, keyErr)
				continue
			}
			return "", errors.Join(ErrUnknownKey, keyErr)
		}
		if err = sig.Verify(key); err == nil {
			return counted(signer)
		}
	}
	return "", err
}
