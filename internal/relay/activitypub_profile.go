package relay

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"
	"time"

	"github.com/matrix-mimi/bridge/internal/media"
	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
	"github.com/matrix-mimi/bridge/mimiside/content"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// ownProfileAge is how long the name and the picture of a user of ours are remembered, so that whoever reads actors does not ask the homeserver each time.
const ownProfileAge = time.Minute

// ownProfile is a profile of a user of ours as it was read.
type ownProfile struct {
	wire.Profile
	until time.Time
}

// showSelf puts the name and the picture of a user of ours into its actor.
func (a *ActivityPub) showSelf(ctx context.Context, mxid string, p *ap.Profile) {
	if a.NameOf == nil || a.ours(mxid) {
		return
	}
	now := a.Clock()
	a.mu.Lock()
	own, ok := a.selves[mxid]
	a.mu.Unlock()
	if !ok || now.After(own.until) {
		got, err := a.profileOf(ctx, mxid)
		if err != nil {
			return // the name in the address is shown
		}
		own = ownProfile{got, now.Add(ownProfileAge)}
		a.mu.Lock()
		if len(a.selves) > 10_000 {
			clear(a.selves)
		}
		a.selves[mxid] = own
		a.mu.Unlock()
	}
	p.DisplayName, p.Icon = own.Name, own.Avatar
}

// tellProfile sends the changed actor of a user of ours to those who share a conversation with it (ActivityPub §7.3).
func (a *ActivityPub) tellProfile(ctx context.Context, actor string) error {
	_, name := a.Site.Parse(actor)
	s, err := a.subject(ctx, name)
	if err != nil {
		return err
	}
	a.mu.Lock()
	delete(a.selves, s.MXID)
	a.mu.Unlock()
	p, err := a.User(ctx, name)
	if err != nil {
		return err
	}
	shown := actor + "\n" + p.DisplayName + "\n" + p.Icon
	a.mu.Lock()
	same := a.toldSelves[actor] == shown
	if len(a.toldSelves) > 10_000 {
		clear(a.toldSelves)
	}
	a.toldSelves[actor] = shown
	a.mu.Unlock()
	if same {
		return nil // a change of the profile is an event in every room
	}
	sum := sha256.Sum256([]byte(shown + strconv.FormatInt(a.Clock().UnixMilli(), 10)))
	body := a.Site.ActorUpdate(ap.Envelope{ID: "profile-" + hex.EncodeToString(sum[:12]), Actor: actor, Published: a.Clock()}, a.Site.Person(p))
	return a.tellPeers(ctx, actor, []ap.Object{body}, nil)
}

// onActorChanged takes that an actor of another server changed or is gone: its name, picture, keys and inbox are read anew, and its ghost gets the name and
// the picture.
func (a *ActivityPub) onActorChanged(ctx context.Context, actor string) error {
	a.forget(actor)
	g, err := a.Store.GhostByURI(ctx, actor)
	if errors.Is(err, store.ErrNotFound) {
		return nil // nobody of ours knows it
	}
	if err != nil {
		return err
	}
	p, err := a.person(ctx, actor)
	if err != nil {
		return nil //nolint:nilerr // it is gone, or shows itself again when it is next needed
	}
	rooms, err := a.Store.RoomsOf(ctx, g.MXID)
	if err != nil || len(rooms) == 0 {
		return err
	}
	return a.run(ctx, rooms[0].Room, func(x *apStep) error {
		x.placePerson(g, p)
		return nil
	})
}

// placePerson gives a ghost the name and the picture of its actor.
func (x *apStep) placePerson(g store.Ghost, p apPerson) {
	d := dataOfGhost(&g)
	if p.Name != "" && p.Name != g.Display {
		g.Display = p.Name
		x.matrix(event.Profile{User: userID(g.MXID), Name: &p.Name})
	}
	if p.Icon != d.Picture && x.Files != nil {
		d.Picture = p.Icon
		x.fetchIcon(&g, p.Icon)
	}
	g.Data, g.UpdatedMS = string(mustJSON(d)), x.nowMS()
	x.putGhost(g)
}

// fetchIcon fetches the picture of an actor, or takes the ghost's away. Servers of actors keep pictures at hosts of their choice; the dialer refuses those that
// are not public.
func (x *apStep) fetchIcon(g *store.Ghost, address string) {
	none := ""
	if address == "" {
		if g.Avatar != "" {
			g.Avatar = ""
			x.matrix(event.Profile{User: userID(g.MXID), Avatar: &none})
		}
		return
	}
	if _, err := wire.CheckDownloadURL(address); err != nil {
		return
	}
	job := media.Fetch{External: &content.ExternalPart{URL: address}, Limit: maxAvatar, User: x.cfg.Bot, Direct: true}
	ask(x.row(store.Outbound{Dest: destFetch + hostOf(address), Verb: media.VerbFetch, Data: mustJSON(job)}), refPicture+":"+g.MXID, 0)
}
