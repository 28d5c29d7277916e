package relay

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// ActivityPub is the relay's second face: conversations with ActivityPub actors. Each is a room of its own kind in the same store, with the
// same step, outbox and MLS engine; its MLS group is one of ActivityPub actors (docs/activitypub.md). It implements activitypub.Backend.
//
// Requests are worked off at once, inside whoever brings them: the step's transaction is what makes them durable. Matrix events are inputs of
// the relay's worker like those of other rooms.
type ActivityPub struct {
	*Relay
	Site   ap.Site
	People *ap.People
	// CoverEvery is the mean time between cover messages of a conversation; 0: none are sent.
	CoverEvery time.Duration
	// Blocked tells that a host is not spoken with; nil: none is.
	Blocked func(host string) bool

	mls mls.Config
	// looks bounds what is fetched at once of those whom others put into groups.
	looks  *ap.Lookups
	making singleflight.Group // two requests must not make two keys for one actor

	mu    sync.Mutex
	forks map[store.RoomID]*ap.Fork
	known map[string]apPerson
	// pulled is when a conversation last asked for what it missed.
	pulled map[store.RoomID]time.Time
	// selves are names and pictures of users of ours.
	selves map[string]ownProfile
	// toldSelves are those that were last sent, by actor.
	toldSelves map[string]string
	// stamped is the time that the last activity got.
	stamped int64
}

var _ ap.Backend = (*ActivityPub)(nil)

// apPerson is what is known of an actor of another server.
type apPerson struct {
	Actor, Acct, Name, Inbox, Shared string
	// Icon is the address of a picture, or "".
	Icon string `json:",omitempty"`
	// Dialect is how the actor is spoken with in a channel of ours.
	Dialect ap.Dialect
}

// NewActivityPub makes the face of a relay.
func NewActivityPub(r *Relay, site ap.Site, people *ap.People) *ActivityPub {
	a := &ActivityPub{Relay: r, Site: site, People: people, mls: mls.Config{Limits: r.cfg.Limits}, looks: ap.NewLookups(maxLooks, maxLooksPerDomain),
		forks: map[store.RoomID]*ap.Fork{}, known: map[string]apPerson{}, pulled: map[store.RoomID]time.Time{}, selves: map[string]ownProfile{}, toldSelves: map[string]string{}}
	r.threads, r.channels, a.mls.Validator = a, a, a.validator()
	return a
}

// apSuite is the one suite that clients in use take.
const apSuite = mls.SuiteX25519AES128Ed25519

// Times of KeyPackages, and how many a user has in stock for ActivityPub.
const (
	apLifetime = 80 * 24 * time.Hour
	apStock    = 5
)

// actorID is the id of the actor of a Matrix user.
func (a *ActivityPub) actorID(mxid string) (string, error) {
	acct, err := a.Naming.AcctURI(mxid)
	if err != nil {
		return "", err
	}
	user, _, err := mapping.SplitAcct(acct)
	if err != nil {
		return "", err
	}
	segment, err := wire.PathUnescape(user)
	if err != nil {
		return "", err
	}
	return a.Site.User(ap.EscapeName(segment)), nil
}

// subject is the user whose actor has an escaped name, if the user exists and may take part.
func (a *ActivityPub) subject(ctx context.Context, name string) (mapping.Subject, error) {
	segment, err := ap.UnescapeName(name)
	if err != nil {
		return mapping.Subject{}, ap.ErrNotFound
	}
	s, err := a.Naming.WebFingerSubject("acct:" + strings.ReplaceAll(segment, "%", "%25") + "@" + a.Naming.Domain)
	if err != nil {
		return s, fmt.Errorf("%w: %w", ap.ErrNotFound, err)
	}
	return s, a.exists(ctx, s.MXID)
}

// exists tells whether a Matrix user is one of ours who may take part.
func (a *ActivityPub) exists(ctx context.Context, mxid string) error {
	if a.mimiGhost(mxid) {
		return a.visits(ctx, mxid)
	}
	if a.ours(mxid) || !a.Permitted(mxid) {
		return ap.ErrNotFound
	}
	if _, err := a.Store.User(ctx, mxid); !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if a.Homeserver == nil {
		return ap.ErrNotFound
	}
	ok, err := a.Homeserver.UserExists(ctx, mxid)
	if err == nil && !ok {
		err = ap.ErrNotFound
	}
	return err
}

// Find implements activitypub.Backend.
func (a *ActivityPub) Find(ctx context.Context, resource string) (ap.Found, error) {
	var s mapping.Subject
	var err error
	if kind, name := a.Site.Parse(resource); kind == ap.KindUser {
		s, err = a.subject(ctx, name)
	} else if local, ok := strings.CutPrefix(resource, "matrix:u/"); ok {
		if local, err = url.PathUnescape(local); err == nil {
			s, err = a.Naming.Subject("@" + local)
		}
		if err == nil {
			err = a.exists(ctx, s.MXID)
		}
	} else {
		if s, err = a.Naming.WebFingerSubject(resource); err == nil {
			err = a.exists(ctx, s.MXID)
		}
	}
	if errors.Is(err, mapping.ErrIdentifier) {
		err = ap.ErrNotFound
	}
	if errors.Is(err, ap.ErrNotFound) {
		return a.findChannel(ctx, resource)
	}
	if err != nil {
		return ap.Found{}, err
	}
	actor, err := a.actorID(s.MXID)
	if err == nil {
		var was string
		if was, err = a.deletion(ctx, actor); err == nil && was != "" {
			err = ap.ErrNotFound
		}
	}
	return ap.Found{Subject: s.Acct, Actor: actor, Profile: "https://matrix.to/#/" + s.MXID, Aliases: []string{string(s.URI)}}, err
}

// User implements activitypub.Backend.
func (a *ActivityPub) User(ctx context.Context, name string) (ap.Profile, error) {
	if was, err := a.deletion(ctx, a.Site.User(name)); err != nil || was == actorIsGone {
		return ap.Profile{}, cmp.Or(err, ap.ErrDeleted)
	}
	s, err := a.subject(ctx, name)
	if err != nil {
		return ap.Profile{}, err
	}
	pem, err := a.pem(ctx, a.Site.User(name))
	username, _, _ := strings.Cut(strings.TrimPrefix(s.Acct, "acct:"), "@")
	if strings.Contains(username, "%") {
		username = name // no server takes an escape in a user name
	}
	p := ap.Profile{Name: name, Username: username, Acct: s.Acct, MIMI: string(s.URI), MXID: s.MXID, PublicPEM: pem}
	if g, ghostErr := a.Store.Ghost(ctx, s.MXID); ghostErr == nil {
		p.DisplayName = g.Display
	}
	a.showSelf(ctx, s.MXID, &p)
	return p, err
}

// Instance implements activitypub.Backend.
func (a *ActivityPub) Instance(ctx context.Context) (string, error) {
	return a.pem(ctx, a.Site.Instance())
}

// maxCountedUsers bounds how far users are counted for NodeInfo.
const maxCountedUsers = 10_000

// Users implements activitypub.Backend.
func (a *ActivityPub) Users(ctx context.Context) (int, error) {
	list, err := a.Store.Users(ctx, "", maxCountedUsers)
	return len(list), err
}

// Key is the key with which an actor of ours signs requests; it is made when it is first needed. Who needs that of another actor does not wait for it.
func (a *ActivityPub) Key(ctx context.Context, actor string) (ap.SigningKey, error) {
	der, err := a.secret(ctx, "ap-key:"+actor, func() ([]byte, error) {
		key, err := ap.NewKey()
		if err != nil {
			return nil, err
		}
		return ap.MarshalPrivateKey(key)
	})
	if err != nil {
		return ap.SigningKey{}, err
	}
	key, err := ap.ParsePrivateKey(der)
	return ap.SigningKey{ID: ap.KeyID(actor), Private: key}, err
}

// secret returns a stored secret and makes it when there is none. Of those who need the same one at once the first makes it; what another process made meanwhile counts.
func (a *ActivityPub) secret(ctx context.Context, name string, make func() ([]byte, error)) ([]byte, error) {
	stored, err := a.Store.Secret(ctx, name)
	if !errors.Is(err, store.ErrNotFound) {
		return stored, err
	}
	made, err, _ := a.making.Do(name, func() (any, error) {
		ctx := context.WithoutCancel(ctx) // others wait for it, too
		if stored, err := a.Store.Secret(ctx, name); !errors.Is(err, store.ErrNotFound) {
			return stored, err
		}
		secret, err := make()
		if err != nil {
			return nil, err
		}
		return secret, a.Store.Tx(ctx, func(tx *store.Tx) error {
			if there, err := tx.Secret(ctx, name); err == nil {
				secret = there
				return nil
			}
			return tx.SetSecret(ctx, name, secret, a.Clock().UnixMilli())
		})
	})
	if err != nil {
		return nil, err
	}
	return made.([]byte), nil
}

func (a *ActivityPub) pem(ctx context.Context, actor string) (string, error) {
	key, err := a.Key(ctx, actor)
	if err != nil {
		return "", err
	}
	return ap.PublicPEM(&key.Private.PublicKey)
}

// clientKeyName names the secret that is the MLS signature key of an actor of ours.
func clientKeyName(actor string) string { return "ap-mls:" + actor }

// clientKey is the MLS signature key of an actor of ours, the same in all groups of ActivityPub and in none of MIMI.
func (a *ActivityPub) clientKey(ctx context.Context, actor string) (*mls.SignatureKey, error) {
	b, err := a.secret(ctx, clientKeyName(actor), func() ([]byte, error) {
		key, err := mls.GenerateSignatureKey(a.Rand, apSuite)
		if err != nil {
			return nil, err
		}
		return key.Marshal(), nil
	})
	if err != nil {
		return nil, err
	}
	return mls.UnmarshalSignatureKey(b)
}

// newPackages makes KeyPackages of an actor of ours for the stock, and the last resort.
func (a *ActivityPub) newPackages(ctx context.Context, actor string) ([]store.KeyPackage, error) {
	key, err := a.clientKey(ctx, actor)
	if err != nil {
		return nil, err
	}
	now, guest := a.Clock(), a.guest(actor)
	var out []store.KeyPackage
	for n := range apStock + 1 {
		kp, private, err := mls.NewKeyPackage(a.Rand, mls.KeyPackageParams{Suite: apSuite, Credential: mls.BasicCredential([]byte(actor)), SignatureKey: key,
			Capabilities: ap.Capabilities(), LastResort: n == apStock,
			Lifetime: mls.Lifetime{NotBefore: uint64(now.Add(-time.Hour).Unix()), NotAfter: uint64(now.Add(apLifetime).Unix())}})
		if err != nil {
			return nil, err
		}
		out = append(out, store.KeyPackage{Ref: kp.Ref(), UserURI: actor, ClientURI: actor, Suite: int64(apSuite), LastResort: n == apStock,
			Public: kp.Marshal(), Private: private.Marshal(), NotAfterMS: now.Add(apLifetime).UnixMilli(), CreatedMS: now.UnixMilli()})
		if guest {
			out[n].Private = nil
		}
	}
	return out, nil
}

// apClaimMargin is how long a KeyPackage must still be valid when it is handed out, in milliseconds.
const apClaimMargin = 24 * 3600 * 1000

// Claim implements activitypub.Backend: one KeyPackage a requester, S000-053.
func (a *ActivityPub) Claim(ctx context.Context, name, requester string) (ap.Offer, error) {
	actor, now := a.Site.User(name), a.Clock().UnixMilli()
	if was, err := a.deletion(ctx, actor); err != nil || was != "" {
		return ap.Offer{}, cmp.Or(err, ap.ErrNotFound)
	}
	kp, err := a.Store.ClaimedKeyPackage(ctx, actor, requester, now+apClaimMargin)
	if err == nil {
		return offer(kp), nil
	}
	if !errors.Is(err, store.ErrNotFound) {
		return ap.Offer{}, err
	}
	made := []store.KeyPackage(nil)
	for range 2 {
		err = a.Store.Tx(ctx, func(tx *store.Tx) error {
			if len(made) > 0 {
				if err := tx.AddKeyPackages(ctx, made...); err != nil {
					return err
				}
			}
			kp, err = tx.ClaimKeyPackage(ctx, actor, []int64{int64(apSuite)}, requester, "", now, now+apClaimMargin)
			if err != nil || kp.LastResort {
				return err
			}
			return tx.PutActivities(ctx, a.inOutbox(a.offering(actor, &kp, []string{requester})))
		})
		if err == nil && !kp.LastResort || made != nil || err != nil && !errors.Is(err, store.ErrNotFound) {
			break
		}
		if made, err = a.newPackages(ctx, actor); err != nil { // there is none, or the last resort only
			return ap.Offer{}, err
		}
		if kp.LastResort {
			made = made[:apStock]
		}
	}
	if n := len(made); err == nil && n > 0 && made[n-1].LastResort {
		err = a.tellPeers(ctx, actor, a.offering(actor, &made[n-1], nil), nil)
	}
	return offer(kp), err
}

func offer(kp store.KeyPackage) ap.Offer {
	return ap.Offer{Token: hex.EncodeToString(kp.Ref), Public: kp.Public, Suite: uint16(kp.Suite)}
}

// Offered implements activitypub.Backend.
func (a *ActivityPub) Offered(ctx context.Context, name, token, requester string) (ap.Offer, error) {
	ref, err := hex.DecodeString(token)
	if err != nil {
		return ap.Offer{}, ap.ErrNotFound
	}
	kp, err := a.Store.KeyPackage(ctx, ref)
	if errors.Is(err, store.ErrNotFound) || err == nil && (kp.UserURI != a.Site.User(name) || kp.ClaimedBy != requester && !kp.LastResort || kp.State == store.KeyPackageUsed || kp.State == store.KeyPackageRevoked) {
		return ap.Offer{}, ap.ErrNotFound
	}
	return offer(kp), err
}

// person returns what is known of an actor of another server, asking its server when need be. It must not be called in a step.
func (a *ActivityPub) person(ctx context.Context, actor string) (apPerson, error) {
	if p, ok := a.personKnown(actor); ok {
		return p, nil
	}
	r, err := a.People.Actor(ctx, actor, false)
	if err != nil {
		return a.recallPerson(ctx, actor, err)
	}
	acct, _ := a.People.AcctOf(ctx, r)
	if acct == "" {
		acct = fallbackAcct(actor)
	}
	p := apPerson{Actor: actor, Acct: acct, Name: r.Name, Inbox: r.Inbox, Shared: r.SharedInbox, Icon: r.Icon, Dialect: ap.ChannelDialectOf(r, false)}
	if p.Name == "" {
		p.Name = r.PreferredUsername
	}
	a.noteKnown(p)
	return p, a.rememberPerson(ctx, p)
}

func (a *ActivityPub) personKnown(actor string) (apPerson, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p, ok := a.known[actor]
	return p, ok
}

// forget drops what is remembered of an actor of another server.
func (a *ActivityPub) forget(actor string) {
	a.People.Forget(actor)
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.known, actor)
}

func hostOnly(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Hostname())
}

// KeyOf is the key that signs the request for an outgoing activity: that of its actor.
func (a *ActivityPub) KeyOf(ctx context.Context, body []byte) (ap.SigningKey, error) {
	o, err := ap.ParseObject(body)
	if err != nil {
		return ap.SigningKey{}, err
	}
	actor := o.Str("actor")
	if !a.Site.Own(actor) {
		return ap.SigningKey{}, fmt.Errorf("%w: %.100q is no actor of ours", ap.ErrName, actor)
	}
	return a.Key(ctx, actor)
}
