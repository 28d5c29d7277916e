package activitypub

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// ErrActor: an actor document that cannot be used. It is permanent for that document.
var ErrActor = errors.New("actor cannot be used")

// maxKeys and maxKeyPackages bound what is read of one actor.
const (
	maxKeys             = 10
	maxKeyPackages      = 50
	maxPackageDocuments = 20 // that are fetched for them
)

// RemoteActor is an actor of another server as fetched from its own id.
type RemoteActor struct {
	ID, Type          string
	PreferredUsername string
	Name, Summary     string
	Icon              string
	Inbox, Outbox     string
	SharedInbox       string
	Followers         string
	// KeyPackages is the value of keyPackages: a URL, a collection, or an array. Nil: the actor has no MLS.
	KeyPackages any
	Messages    string
	// Implements are the ids of generator.implements (FEP-844e).
	Implements []string
	keys       []remoteKey
}

type remoteKey struct {
	id, owner, pem string
}

// ReadActor reads an actor document that came from its own id.
func ReadActor(d *Document) (*RemoteActor, error) {
	o := d.Object
	a := &RemoteActor{ID: o.Str("id", "@id"), Type: o.typeAmong(append([]string{"Person"}, channelTypes...)...),
		PreferredUsername: o.Str("preferredUsername"), Name: o.Str("name"), Summary: o.Str("summary"), Icon: iconOf(o["icon"]),
		Inbox: ref(o["inbox"]), Outbox: ref(o["outbox"]), Followers: ref(o["followers"]), Messages: ref(o.get("messages", "mls:messages")),
		KeyPackages: o.get("keyPackages", "mls:keyPackages")}
	if a.Type == "" || a.ID != d.URL {
		return nil, fmt.Errorf("%w: %s is none", ErrActor, d.URL)
	}
	if endpoints, ok := o["endpoints"].(Object); ok {
		a.SharedInbox = ref(endpoints["sharedInbox"])
	}
	if !sameOrigin(a.Inbox, a.ID) {
		return nil, fmt.Errorf("%w: inbox of %s is elsewhere", ErrActor, a.ID)
	}
	if !sameOrigin(a.SharedInbox, a.ID) {
		a.SharedInbox = ""
	}
	if g, ok := o["generator"].(Object); ok {
		a.Implements = refs(g["implements"], 50)
	}
	a.keys = keysOf(o)
	return a, nil
}

func iconOf(v any) string {
	if list, ok := v.([]any); ok && len(list) > 0 {
		v = list[0]
	}
	if o, ok := v.(Object); ok {
		if u := ref(o["url"]); validURL(u) {
			return u
		}
		return ""
	}
	if s, ok := v.(string); ok && validURL(s) {
		return s
	}
	return ""
}

func keysOf(o Object) []remoteKey {
	list, ok := o["publicKey"].([]any)
	if !ok {
		list = []any{o["publicKey"]}
	}
	var out []remoteKey
	for _, v := range list {
		if k, ok := v.(Object); ok && len(out) < maxKeys {
			out = append(out, remoteKey{k.Str("id", "@id"), ref(k["owner"]), k.Str("publicKeyPem")})
		}
	}
	return out
}

// Key returns the key with an id, nil when the actor does not list it. The id may be that of the actor alone when it has one key only.
func (a *RemoteActor) Key(id string) (crypto.PublicKey, error) {
	for _, k := range a.keys {
		if (k.id == id || id == a.ID && len(a.keys) == 1) && k.owner == a.ID {
			return ParsePublicPEM(k.pem)
		}
	}
	return nil, fmt.Errorf("%w: %s does not list the key", ErrActor, a.ID)
}

// IsChannel tells whether the actor is of a type that a channel has.
func (a *RemoteActor) IsChannel() bool { return slices.Contains(channelTypes, a.Type) }

// People finds actors and their keys, and remembers them for a while.
type People struct {
	fetch  *Fetcher
	actors *cache[*RemoteActor]
	gone   *cache[error]
	now    func() time.Time
}

// How long actors and failures to get them are remembered, and how soon a key that does not verify is looked up again.
const (
	actorAge     = time.Hour
	failureAge   = 10 * time.Minute
	maxActors    = 5000
	maxFailures  = 5000
	actorsRoom   = 16 << 20 // octets of their documents; what is read of one may take a dozen times as much
	failuresRoom = 4 << 20  // octets of their addresses
)

// NewPeople makes a People over a Fetcher.
func NewPeople(f *Fetcher) *People {
	return &People{fetch: f, actors: newCache[*RemoteActor](maxActors, actorsRoom), gone: newCache[error](maxFailures, failuresRoom), now: f.cfg.Now}
}

// Actor returns an actor by its id, from memory unless fresh is set.
func (p *People) Actor(ctx context.Context, id string, fresh bool) (*RemoteActor, error) {
	now := p.now()
	if !fresh {
		if a, ok := p.actors.get(id, now); ok {
			return a, nil
		}
	}
	if err, ok := p.gone.get(id, now); ok {
		return nil, err
	}
	d, err := p.fetch.Document(ctx, id)
	if err == nil && d.Str("id", "@id") != id {
		err = unfit(id, "its id is another address")
	}
	var a *RemoteActor
	if err == nil {
		a, err = ReadActor(d)
	}
	if err != nil {
		if (errors.Is(err, ErrGone) || errors.Is(err, ErrUnfit) || errors.Is(err, ErrActor)) && !errors.Is(err, ErrBlocked) {
			p.gone.put(id, err, len(id), now.Add(failureAge))
		}
		return nil, err
	}
	p.fetch.cfg.Memory.advertised(a, now)
	p.actors.put(id, a, d.Size, now.Add(actorAge))
	return a, nil
}

// As is a People that fetches as somebody else: what a collection shows depends on who asks. What is remembered is shared.
func (p *People) As(key SigningKey) *People {
	q := *p
	q.fetch = p.fetch.As(key)
	return &q
}

// Despite is a People without the block list of its Fetcher. What is remembered is shared.
func (p *People) Despite() *People {
	q := *p
	q.fetch = p.fetch.Despite()
	return &q
}

// Forget drops what is remembered of an actor, after an Update or Delete of it.
func (p *People) Forget(id string) { p.actors.drop(id) }

// SignerKey returns the actor that a keyId belongs to, and the key: the document at the keyId is an actor or a key, the key names an
// owner of the same origin, and the owner's document, got from its own id, lists that key.
func (p *People) SignerKey(ctx context.Context, keyID string, fresh bool) (actor string, key crypto.PublicKey, err error) {
	base, _, _ := strings.Cut(keyID, "#")
	a, err := p.Actor(ctx, base, fresh)
	if errors.Is(err, ErrActor) || errors.Is(err, ErrUnfit) { // a key apart, as GoToSocial's …/main-key
		owner, ownerErr := p.keyOwner(ctx, keyID)
		if ownerErr != nil {
			return "", nil, err
		}
		a, err = p.Actor(ctx, owner, fresh)
	}
	if err != nil {
		return "", nil, err
	}
	if key, err = a.Key(keyID); err != nil {
		return "", nil, err
	}
	return a.ID, key, nil
}

// knownKey is SignerKey from memory alone: for keys in the document of their actor.
func (p *People) knownKey(keyID string) (actor string, key crypto.PublicKey, ok bool) {
	base, _, _ := strings.Cut(keyID, "#")
	a, ok := p.actors.get(base, p.now())
	if !ok {
		return "", nil, false
	}
	key, err := a.Key(keyID)
	return a.ID, key, err == nil
}

// keyOwner reads the owner from a document about a key: the key itself, or a stub of the actor with the key in it.
func (p *People) keyOwner(ctx context.Context, keyID string) (string, error) {
	base, _, _ := strings.Cut(keyID, "#")
	body, final, err := p.fetch.get(ctx, base, TypeActivity+", "+typeLD, maxActorBody, isActivityType)
	if err != nil {
		return "", err
	}
	o, err := ParseObject(body)
	if err != nil {
		return "", err
	}
	owner := ref(o["owner"])
	for _, k := range keysOf(o) {
		if k.id == keyID {
			owner = k.owner
		}
	}
	if !sameOrigin(owner, final) || !sameOrigin(owner, keyID) {
		return "", fmt.Errorf("%w: key %s is of another origin than its owner", ErrActor, keyID)
	}
	return owner, nil
}

// Package is a KeyPackage that an actor offers.
type Package struct {
	ID         string
	Client     string // the name of its generator, or ""
	KeyPackage *mls.KeyPackage
	Bytes      []byte
}

// Packages reads the KeyPackages of an actor: an array, a collection with or without pages, a URL of one, items embedded or as
// URLs of the actor's origin. Packages that do not parse or are of a suite that accept refuses are left out.
func (p *People) Packages(ctx context.Context, a *RemoteActor, accept func(*mls.KeyPackage) bool) ([]Package, error) {
	return p.PackagesUntil(ctx, a, accept, nil)
}

// PackagesUntil is Packages that reads no further once one is found that is enough; nil reads all.
func (p *People) PackagesUntil(ctx context.Context, a *RemoteActor, accept, enough func(*mls.KeyPackage) bool) ([]Package, error) {
	w := &packageWalk{People: p, actor: a, accept: accept, enough: enough}
	if err := w.walk(ctx, a.KeyPackages, 0); err != nil && len(w.out) == 0 {
		return nil, err
	}
	return w.out, nil
}

type packageWalk struct {
	*People
	actor  *RemoteActor
	accept func(*mls.KeyPackage) bool
	enough func(*mls.KeyPackage) bool
	out    []Package
	fetchs int
	done   bool
}

func (w *packageWalk) walk(ctx context.Context, v any, depth int) error {
	if depth > 64 || w.done || len(w.out) >= maxKeyPackages {
		return nil
	}
	switch v := v.(type) {
	case string:
		if !sameOrigin(v, w.actor.ID) || w.fetchs >= maxPackageDocuments {
			return nil
		}
		w.fetchs++
		d, err := w.fetch.Document(ctx, v)
		if err != nil {
			return err
		}
		return w.walk(ctx, d.Object, depth+1)
	case []any:
		var first error
		for _, item := range v {
			if err := w.walk(ctx, item, depth+1); err != nil && first == nil {
				first = err
			}
		}
		return first
	case Object:
		if v.typeAmong("KeyPackage") != "" || IsMLSObject(v) {
			return w.add(v)
		}
		items := v.get("orderedItems", "items")
		if items != nil {
			if err := w.walk(ctx, items, depth+1); err != nil {
				return err
			}
		}
		if v.typeAmong("CollectionPage", "OrderedCollectionPage") != "" {
			return w.walk(ctx, v["next"], depth+1)
		}
		if items == nil && v["first"] != nil {
			return w.walk(ctx, v["first"], depth+1)
		}
		if items == nil && v["content"] == nil {
			return w.walk(ctx, v.Str("id"), depth+1)
		}
	}
	return nil
}

func (w *packageWalk) add(o Object) error {
	x, err := ParseMLSObject(o)
	if err != nil || x.KeyPackage == nil {
		return nil // one bad package does not spoil the others
	}
	if x.ID != "" && !sameOrigin(x.ID, w.actor.ID) {
		return nil
	}
	if w.accept == nil || w.accept(x.KeyPackage) {
		w.out = append(w.out, Package{ID: x.ID, Client: x.Client, KeyPackage: x.KeyPackage, Bytes: x.KeyPackage.Marshal()})
		w.done = w.enough != nil && w.enough(x.KeyPackage)
	}
	return nil
}

// CheckOwn checks a KeyPackage's signatures and that its credential names the actor.
func CheckOwn(kp *mls.KeyPackage, actor string) error {
	if err := kp.Verify(); err != nil {
		return fmt.Errorf("%w: KeyPackage of %s: %w", ErrActor, actor, err)
	}
	if c := kp.Leaf.Credential; c.Type != mls.CredentialBasic || string(c.Identity) != actor {
		return fmt.Errorf("%w: KeyPackage of %s is in another name", ErrActor, actor)
	}
	return nil
}
