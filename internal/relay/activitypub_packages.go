package relay

import (
	"context"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
)

// The life of a KeyPackage of ours (MLS over ActivityPub, "Key storage"): Create, Add, Remove, Delete, each an activity in the outbox of its actor. One that
// is meant for one requester is told to that one alone, since whoever knows it could use it up; the last resort is told to everybody and
// sent to those with whom the actor shares a conversation. S001-036 … S001-041.

// renewBefore is how long before its end a last resort is replaced, endBefore when a claimed KeyPackage is taken back.
const (
	renewBefore = 20 * 24 * time.Hour
	endBefore   = 24 * time.Hour
)

func (a *ActivityPub) packageID(actor string, kp *store.KeyPackage) string {
	return actor + "/keyPackages/" + hex.EncodeToString(kp.Ref)
}

func packageEnvelope(actor string, kp *store.KeyPackage, step string, to []string, now time.Time) ap.Envelope {
	return ap.Envelope{ID: "kp-" + hex.EncodeToString(kp.Ref)[:32] + "-" + step, Actor: actor, To: to, Published: now}
}

// offering are the first two steps of a KeyPackage, in their order.
func (a *ActivityPub) offering(actor string, kp *store.KeyPackage, to []string) []ap.Object {
	object := a.Site.KeyPackageObject(actor, a.packageID(actor, kp), kp.Public, uint16(kp.Suite))
	return []ap.Object{
		a.Site.KeyPackageCreate(packageEnvelope(actor, kp, "create", to, a.Clock()), object),
		a.Site.KeyPackageAdd(packageEnvelope(actor, kp, "add", to, a.Clock()), object.Str("id")),
	}
}

// withdrawing are the last two.
func (a *ActivityPub) withdrawing(actor string, kp *store.KeyPackage, to []string) []ap.Object {
	return []ap.Object{
		a.Site.KeyPackageRemove(packageEnvelope(actor, kp, "remove", to, a.Clock()), a.packageID(actor, kp)),
		a.Site.KeyPackageDelete(packageEnvelope(actor, kp, "delete", to, a.Clock()), a.packageID(actor, kp)),
	}
}

// inOutbox are activities as they stand in the outbox.
func (a *ActivityPub) inOutbox(bodies []ap.Object) []store.Activity {
	out := make([]store.Activity, len(bodies))
	for i, b := range bodies {
		out[i] = sentActivity(a.Site, b, a.stamp())
	}
	return out
}

// withdraw notes that KeyPackages which a Welcome used are not offered any more.
func (x *apStep) withdraw(refs [][]byte) error {
	for _, ref := range refs {
		kp, err := x.Store.KeyPackage(x.ctx, ref)
		if err != nil {
			return ignoreNotFound(err)
		}
		if kp.LastResort || kp.ClaimedBy == "" {
			continue
		}
		x.fx.activities = append(x.fx.activities, x.face.inOutbox(x.face.withdrawing(kp.UserURI, &kp, []string{kp.ClaimedBy}))...)
	}
	return nil
}

// peers are the actors of other servers with whom an actor of ours shares a conversation.
func (a *ActivityPub) peers(ctx context.Context, mxid string) ([]string, error) {
	rooms, err := a.Store.RoomsOf(ctx, mxid)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, own := range rooms {
		head, err := a.Store.Room(ctx, own.Room)
		if err != nil || head.State != stateAP {
			continue
		}
		members, err := a.Store.Members(ctx, own.Room)
		if err != nil {
			return nil, err
		}
		for _, m := range members {
			if m.URI != "" && !a.Site.Own(m.URI) && !slices.Contains(out, m.URI) && len(out) < maxPeers {
				out = append(out, m.URI)
			}
		}
	}
	return out, nil
}

// maxPeers bounds to whom the keys and the profile of one actor are sent.
const maxPeers = 500

// tellPeers sends public activities of an actor of ours to those who share a conversation with it, and puts them into its outbox. They go through a room
// of their own kind, which has no other use.
func (a *ActivityPub) tellPeers(ctx context.Context, actor string, bodies []ap.Object, more func(x *apStep)) error {
	_, name := a.Site.Parse(actor)
	s, err := a.subject(ctx, name)
	if err != nil {
		return err
	}
	peers, err := a.peers(ctx, s.MXID)
	if err != nil {
		return err
	}
	room, err := a.actorRoom(ctx, actor)
	if err != nil {
		return err
	}
	return a.run(ctx, room, func(x *apStep) error {
		list, err := x.recipients(peers)
		if err != nil {
			return err
		}
		for _, b := range bodies {
			if len(list) == 0 {
				x.keep(b)
				continue
			}
			x.post(ap.Spread(list, b))
		}
		if more != nil {
			more(x)
		}
		return nil
	})
}

// actorRoom is the room through which goes what an actor of ours sends in no conversation.
func (a *ActivityPub) actorRoom(ctx context.Context, actor string) (store.RoomID, error) {
	room := store.Room{ID: store.DerivedRoomID("activitypub-actor", actor), Kind: store.RoomUser, State: stateAP, Epoch: -1, CreatedMS: a.Clock().UnixMilli()}
	err := a.Store.Tx(ctx, func(tx *store.Tx) error {
		found, _, err := tx.FindOrCreateRoom(ctx, store.NameGroup, "actor:"+actor, room)
		room = found
		return err
	})
	return room.ID, err
}

// renewLastResort makes a new last resort for an actor of ours and takes back those before it: the new one is there before the old ones go.
func (a *ActivityPub) renewLastResort(ctx context.Context, actor string, old []store.KeyPackage) error {
	made, err := a.newPackages(ctx, actor)
	if err != nil {
		return err
	}
	last := made[len(made)-1]
	bodies := a.offering(actor, &last, nil)
	var refs [][]byte
	for i := range old {
		bodies = append(bodies, a.withdrawing(actor, &old[i], nil)...)
		refs = append(refs, old[i].Ref)
	}
	return a.tellPeers(ctx, actor, bodies, func(x *apStep) {
		x.fx.keyPackages, x.fx.revokedKeys = append(x.fx.keyPackages, last), append(x.fx.revokedKeys, refs...)
	})
}

// CareForKeys replaces last resorts that end soon and takes back KeyPackages that were claimed and never used. It is called once an hour.
func (a *ActivityPub) CareForKeys(ctx context.Context) error {
	now := a.Clock()
	list, err := a.Store.EndingKeyPackages(ctx, a.Site.User(""), now.Add(renewBefore).UnixMilli(), 200)
	if err != nil {
		return err
	}
	ending := map[string][]store.KeyPackage{}
	var errs []error
	for _, kp := range list {
		switch {
		case kp.LastResort:
			ending[kp.UserURI] = append(ending[kp.UserURI], kp)
		case kp.NotAfterMS < now.Add(endBefore).UnixMilli():
			errs = append(errs, a.Store.Tx(ctx, func(tx *store.Tx) error {
				if err := tx.RevokeKeyPackages(ctx, kp.Ref); err != nil || kp.ClaimedBy == "" {
					return err
				}
				return tx.PutActivities(ctx, a.inOutbox(a.withdrawing(kp.UserURI, &kp, []string{kp.ClaimedBy})))
			}))
		}
	}
	for actor, old := range ending {
		err := a.renewLastResort(ctx, actor, old)
		if errors.Is(err, ap.ErrNotFound) { // the user is gone
			err = a.Store.Tx(ctx, func(tx *store.Tx) error {
				for _, kp := range old {
					if err := tx.RevokeKeyPackages(ctx, kp.Ref); err != nil {
						return err
					}
				}
				return nil
			})
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
