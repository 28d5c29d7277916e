package relay

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/matrixside/html"
	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// needKey says that a step met a leaf whose key is not known to be its actor's.
type needKey struct {
	actor string
	key   []byte
}

// Error implements error.
func (n needKey) Error() string { return "the key of a client of " + n.actor + " was not checked yet" }

// validator judges the leaves of groups: basic credentials in the name of an actor, with a key that the actor was seen to offer (S001-045 …
// S001-047). Keys that were not seen before are asked for outside of the step.
func (a *ActivityPub) validator() ap.Validator {
	return ap.Validator{Verify: func(actor string, key []byte) error {
		ctx := context.Background() // a look into the own database
		if a.Site.Own(actor) {
			return a.checkOwnKey(ctx, actor, key)
		}
		if a.blocked(actor) {
			return nil // its server is not asked; a conversation with such a leaf is left, and a channel of ours takes none
		}
		keys, err := a.Store.ActorKeys(ctx, actor, "")
		if err != nil {
			return err
		}
		print := ap.HashBytes(key)
		if slices.ContainsFunc(keys, func(k store.ActorKey) bool { return bytes.Equal(k.Fingerprint, print) }) {
			return nil
		}
		return needKey{actor, key}
	}}
}

// checkOwnKey demands that a key is that of an actor of ours. Whoever is named here gets no key by it.
func (a *ActivityPub) checkOwnKey(ctx context.Context, actor string, key []byte) error {
	notOurs := fmt.Errorf("%w: a leaf in the name of %s is not ours", ap.ErrActor, actor)
	stored, err := a.Store.Secret(ctx, clientKeyName(actor))
	if errors.Is(err, store.ErrNotFound) {
		return notOurs
	}
	if err != nil {
		return err
	}
	own, err := mls.UnmarshalSignatureKey(stored)
	if err == nil && !bytes.Equal(own.Public(), key) {
		err = notOurs
	}
	return err
}

// learnKey is the three-step check for a leaf that others put into a group (MLS over ActivityPub, "Authentication Service"): its actor is
// fetched, has keyPackages, and one of them has the key of the leaf. The KeyPackage itself was used and may be gone.
func (a *ActivityPub) learnKey(ctx context.Context, n needKey) error {
	list, err := a.readKeys(ctx, n.actor, n.key)
	if errors.Is(err, ap.ErrActor) {
		if them, actorErr := a.People.Actor(ctx, n.actor, false); actorErr == nil && them.IsChannel() {
			return a.learnChannelKey(ctx, n)
		}
	}
	if err != nil {
		return err
	}
	for _, p := range list {
		if bytes.Equal(p.KeyPackage.Leaf.SignatureKey, n.key) {
			return nil
		}
	}
	return fmt.Errorf("%w: %w: a client in the name of %s has a key that %s does not offer", ap.ErrForbidden, ap.ErrActor, n.actor, n.actor)
}

// learnChannelKey notes the key of the actor of a channel, which has no KeyPackages: it is known by its first use.
func (a *ActivityPub) learnChannelKey(ctx context.Context, n needKey) error {
	return a.Store.Tx(ctx, func(tx *store.Tx) error {
		known, err := tx.ActorKeys(ctx, n.actor, "")
		if err != nil {
			return err
		}
		if len(known) > 0 { // who is in the group as its channel is not shown in the room: a second one could read along
			return fmt.Errorf("%w: %w: a client in the name of the channel %s has another key than its first", ap.ErrForbidden, ap.ErrActor, n.actor)
		}
		_, _, err = tx.SeeActorKeys(ctx, n.actor, []store.ActorKey{{Fingerprint: ap.HashBytes(n.key)}}, false, a.Clock().UnixMilli())
		return err
	})
}

// readKeys reads the KeyPackages of an actor of another server and notes their keys: all, or up to the one with a key that is looked for.
func (a *ActivityPub) readKeys(ctx context.Context, actor string, key []byte) ([]ap.Package, error) {
	them, err := a.People.Actor(ctx, actor, true)
	if err != nil {
		return nil, err
	}
	if them.KeyPackages == nil {
		return nil, fmt.Errorf("%w: %w: %s has no keyPackages", ap.ErrForbidden, ap.ErrActor, actor)
	}
	found := false
	list, err := a.People.PackagesUntil(ctx, them, nil, func(kp *mls.KeyPackage) bool {
		found = key != nil && bytes.Equal(kp.Leaf.SignatureKey, key) && ap.CheckOwn(kp, actor) == nil
		return found
	})
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(p ap.Package) bool { return ap.CheckOwn(p.KeyPackage, actor) != nil })
	return list, a.noteKeys(ctx, actor, list, !found)
}

// noteKeys notes the keys of KeyPackages of an actor; all says that there are no others now. When one is new and there were others before, everybody who
// shares a room with the actor is told, before anything else is said there (S001-099).
func (a *ActivityPub) noteKeys(ctx context.Context, actor string, list []ap.Package, all bool) error {
	var keys []store.ActorKey
	for _, p := range list {
		keys = append(keys, store.ActorKey{Actor: actor, Fingerprint: ap.HashBytes(p.KeyPackage.Leaf.SignatureKey), Client: p.Client, Offered: true})
	}
	if len(keys) == 0 {
		return nil // what is not offered any more may only be out of stock
	}
	var fresh []store.ActorKey
	known := false
	err := a.Store.Tx(ctx, func(tx *store.Tx) error {
		var err error
		fresh, known, err = tx.SeeActorKeys(ctx, actor, keys, all, a.Clock().UnixMilli())
		return err
	})
	if err != nil || !known || len(fresh) == 0 {
		return err
	}
	return a.warnOfKeys(ctx, actor, fresh)
}

// warnOfKeys tells in every room where an actor is that it has keys which were not seen before.
func (a *ActivityPub) warnOfKeys(ctx context.Context, actor string, fresh []store.ActorKey) error {
	ghost, err := a.Store.GhostByURI(ctx, actor)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	rooms, err := a.Store.RoomsOf(ctx, ghost.MXID)
	if err != nil {
		return err
	}
	who := actor
	if p, ok := a.personKnown(actor); ok {
		who = "@" + strings.TrimPrefix(p.Acct, "acct:")
	}
	who = html.Line(who, 300)
	text := "⚠ " + html.Apart(who) + " has new keys. They may have a new device, or their server may have put a key of its own in place. Before you say anything confidential, " +
		"compare the fingerprint with them over another way, and tell me `fingerprint " + who + " verify` when it is right:"
	for _, k := range fresh {
		text += "\n" + groups(k.Fingerprint) + clientNote(k.Client)
	}
	for _, m := range rooms {
		if head, err := a.Store.Room(ctx, m.Room); err != nil || head.State != stateAP {
			continue
		}
		if err := a.run(ctx, m.Room, func(x *apStep) error {
			x.notice(text, "")
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

func clientNote(client string) string {
	if client == "" {
		return ""
	}
	return " (" + html.Apart(html.Line(client, 100)) + ")"
}

// groups writes a fingerprint in groups of eight digits.
func groups(fingerprint []byte) string {
	digits := hex.EncodeToString(fingerprint)
	out := ""
	for i := 0; i < len(digits); i += 8 {
		out += digits[i:min(i+8, len(digits))] + " "
	}
	return strings.TrimSpace(out)
}

// Fingerprint is a key of somebody of another server, as it is shown to people who compare keys.
type Fingerprint struct {
	Text     string // SHA-256 of the key, in hexadecimal groups
	Client   string // what the actor says the client is, or ""
	Offered  bool   // it is offered now
	New      bool   // it was not the first that was seen of the actor
	Verified bool   // the user compared it
	Seen     time.Time
}

// Fingerprints are the keys of somebody of another server, those that were seen before and those that are offered now, oldest first. People
// compare them over another way, since a server could put keys of its own in place (S001-099).
func (a *ActivityPub) Fingerprints(ctx context.Context, by, handle string) ([]Fingerprint, error) {
	list, err := a.fingerprints(ctx, by, handle)
	return list, a.tell(err)
}

func (a *ActivityPub) fingerprints(ctx context.Context, by, handle string) ([]Fingerprint, error) {
	actor, err := a.keysOf(ctx, handle)
	if err != nil {
		return nil, err
	}
	keys, err := a.Store.ActorKeys(ctx, actor, by)
	if err != nil {
		return nil, err
	}
	var out []Fingerprint
	for i, k := range keys {
		out = append(out, Fingerprint{Text: groups(k.Fingerprint), Client: k.Client, Offered: k.Offered, New: i > 0 && k.FirstMS > keys[0].FirstMS,
			Verified: k.MarkedMS > 0, Seen: store.Time(k.FirstMS)})
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: no KeyPackage is offered", ErrRefused)
	}
	return out, nil
}

// keysOf reads the keys that somebody offers now, and returns the actor.
func (a *ActivityPub) keysOf(ctx context.Context, handle string) (string, error) {
	acct, err := mapping.Handle(handle)
	if err != nil {
		return "", err
	}
	them, err := a.People.Resolve(ctx, acct)
	if err != nil {
		return "", err
	}
	if a.Site.Own(them.ID) {
		return "", fmt.Errorf("%w: %s is of this server", ErrRefused, handle)
	}
	_, err = a.readKeys(ctx, them.ID, nil)
	return them.ID, err
}

// VerifyKeys notes that a user compared keys of somebody and found them right: those whose digits begin so, or, with no digits, all that are offered
// now. It returns how many that were.
func (a *ActivityPub) VerifyKeys(ctx context.Context, by, handle, digits string) (int, error) {
	n, err := a.verifyKeys(ctx, by, handle, digits)
	return n, a.tell(err)
}

func (a *ActivityPub) verifyKeys(ctx context.Context, by, handle, digits string) (int, error) {
	actor, err := a.keysOf(ctx, handle)
	if err != nil {
		return 0, err
	}
	keys, err := a.Store.ActorKeys(ctx, actor, by)
	if err != nil {
		return 0, err
	}
	digits = strings.ToLower(strings.Join(strings.Fields(digits), ""))
	var marked [][]byte
	for _, k := range keys {
		if k.Offered && digits == "" || digits != "" && len(digits) >= 8 && strings.HasPrefix(hex.EncodeToString(k.Fingerprint), digits) {
			marked = append(marked, k.Fingerprint)
		}
	}
	return len(marked), a.Store.Tx(ctx, func(tx *store.Tx) error { return tx.MarkActorKeys(ctx, by, actor, marked, a.Clock().UnixMilli()) })
}

// errBusyKey says that the only KeyPackage that somebody offers was used a moment ago; its Welcome is still on its way.
var errBusyKey = errors.New("no other KeyPackage is offered yet")

// settleUsed is how long a Welcome may be on its way.
const settleUsed = time.Minute

// freshPackage gets a KeyPackage of an actor of another server that was neither used nor taken back, checks it, and notes that it is used now; one
// of last resort may be used again.
func (a *ActivityPub) freshPackage(ctx context.Context, actor, by string) (*mls.KeyPackage, error) {
	key, err := a.Key(ctx, by)
	if err != nil {
		return nil, err
	}
	people := a.People.As(key)
	them, err := people.Actor(ctx, actor, false)
	if err != nil {
		return nil, err
	}
	if them.KeyPackages == nil {
		return nil, fmt.Errorf("%w: %s cannot take encrypted messages", ErrRefused, actor)
	}
	list, err := people.Packages(ctx, them, func(kp *mls.KeyPackage) bool { return kp.Suite == apSuite })
	if err != nil {
		return nil, err
	}
	if err := a.noteKeys(ctx, actor, list, true); err != nil {
		return nil, err
	}
	best, busy, err := a.pickPackage(ctx, actor, list)
	switch {
	case err != nil:
		return nil, err
	case best == nil && busy:
		return nil, fmt.Errorf("%w: the KeyPackage of %s is in use: try again in a minute", errBusyKey, actor)
	case best == nil:
		return nil, fmt.Errorf("%w: %s offers no KeyPackage that may be used", ErrRefused, actor)
	}
	return best, a.Store.Tx(ctx, func(tx *store.Tx) error { return tx.Spend(ctx, actor, a.Clock().UnixMilli(), best.Marshal()) })
}

// pickPackage picks one of an actor's KeyPackages: one that was never used, else one of last resort, else one that was used a while ago. busy says
// that one was used a moment ago.
func (a *ActivityPub) pickPackage(ctx context.Context, actor string, list []ap.Package) (best *mls.KeyPackage, busy bool, err error) {
	for _, p := range list {
		if ap.CheckOwn(p.KeyPackage, actor) != nil {
			continue
		}
		if p.ID != "" {
			removed, err := a.Store.Spent(ctx, actor, []byte(p.ID))
			if err != nil {
				return nil, false, err
			}
			if removed > 0 {
				continue
			}
		}
		used, err := a.Store.Spent(ctx, actor, p.Bytes)
		switch {
		case err != nil:
			return nil, false, err
		case used == 0:
			return p.KeyPackage, false, nil
		case p.KeyPackage.LastResort():
			best = p.KeyPackage
		case a.Clock().UnixMilli()-used < settleUsed.Milliseconds():
			busy = true
		case best == nil:
			best = p.KeyPackage // some clients offer one package for ever and do not mark it
		}
	}
	return best, busy, nil
}

// onKeyActivity takes what an actor of another server says of its KeyPackages: Create and Update bring keys, Add says that there are others, Remove
// and Delete that one must not be used (S001-036 … S001-041). handled is false for activities about other things.
func (a *ActivityPub) onKeyActivity(ctx context.Context, d ap.Delivered) (handled bool, err error) {
	act := d.Activity
	ofKeys := strings.HasPrefix(act.Target, act.Actor) && strings.HasSuffix(act.Target, "/keyPackages")
	switch {
	case (act.Type == "Create" || act.Type == "Update") && d.MLS != nil && d.MLS.KeyPackage != nil:
		return true, a.onNewKey(ctx, d)
	case act.Type == "Remove" && ofKeys, act.Type == "Delete" && act.ObjectID != act.Actor:
		if !ap.SameOrigin(act.ObjectID, act.Actor) {
			return true, ap.ErrForbidden
		}
		if met, err := a.met(ctx, act.Actor); err != nil || !met {
			return true, err // servers tell everybody what is deleted, KeyPackage or not
		}
		return true, a.Store.Tx(ctx, func(tx *store.Tx) error { return tx.Spend(ctx, act.Actor, a.Clock().UnixMilli(), []byte(act.ObjectID)) })
	case act.Type == "Add" && ofKeys:
		if met, err := a.met(ctx, act.Actor); err != nil || !met {
			return true, err
		}
		if _, err := a.readKeys(ctx, act.Actor, nil); err != nil {
			a.Log.Info().Err(err).Str("actor", act.Actor).Msg("new KeyPackages were not read")
		}
		return true, nil
	}
	return false, nil
}

// onNewKey takes a KeyPackage that an actor sends. When nobody of ours has to do with the actor, nothing is kept.
func (a *ActivityPub) onNewKey(ctx context.Context, d ap.Delivered) error {
	act := d.Activity
	if err := ap.CheckOwn(d.MLS.KeyPackage, act.Actor); err != nil {
		return fmt.Errorf("%w: %w", ap.ErrActivity, err)
	}
	if met, err := a.met(ctx, act.Actor); err != nil || !met {
		return err
	}
	ours := func(actor string) bool { // who has a client; looked up for as many as there may be
		_, err := a.Store.Secret(ctx, clientKeyName(actor))
		return err == nil
	}
	if len(act.To) > maxReceivers {
		act.To = act.To[:maxReceivers]
	}
	if list, ok := a.receivedActivity(d, ours); ok {
		if err := a.Store.Tx(ctx, func(tx *store.Tx) error { return tx.PutActivities(ctx, []store.Activity{list}) }); err != nil {
			return err
		}
	}
	return a.noteKeys(ctx, act.Actor, []ap.Package{{KeyPackage: d.MLS.KeyPackage, Client: d.MLS.Client}}, false)
}

// met tells whether somebody of ours has to do with an actor: then its keys are known.
func (a *ActivityPub) met(ctx context.Context, actor string) (bool, error) {
	known, err := a.Store.ActorKeys(ctx, actor, "")
	return len(known) > 0, err
}
