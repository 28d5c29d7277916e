package relay

import (
	"context"
	"errors"
	"slices"

	"github.com/matrix-mimi/bridge/internal/store"
	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
)

// List implements activitypub.Backend: outboxes, the MLS activities that came for a user, and those of a conversation, each as far as
// the reader was addressed. S000-037, S000-039, S001-095.
func (a *ActivityPub) List(ctx context.Context, box ap.Box, owner, reader, before string, limit int) (ap.Listing, error) {
	if limit == 0 {
		total, err := a.Store.CountActivities(ctx, string(box), owner, reader)
		return ap.Listing{Total: total}, err
	}
	page, err := a.Store.Activities(ctx, string(box), owner, reader, before, limit)
	if err != nil {
		return ap.Listing{}, err
	}
	out := ap.Listing{Next: page.Next}
	for _, body := range page.Bodies {
		o, err := ap.ParseObject(body)
		if err != nil {
			return ap.Listing{}, err
		}
		out.Items = append(out.Items, o)
	}
	return out, nil
}

// Object implements activitypub.Backend.
func (a *ActivityPub) Object(ctx context.Context, id, reader string) (ap.Object, error) {
	body, err := a.Store.Activity(ctx, id, reader)
	if errors.Is(err, store.ErrNotFound) {
		return nil, ap.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	o, err := ap.ParseObject(body)
	if err != nil || o.Str("id") == id {
		return o, err
	}
	if inner, ok := o["object"].(ap.Object); ok {
		return inner, nil
	}
	return nil, ap.ErrNotFound
}

// stamp is the present time in milliseconds since 1970, never the same twice: collections are ordered by it.
func (a *ActivityPub) stamp() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stamped = max(a.stamped+1, a.Clock().UnixMilli())
	return a.stamped
}

// conversation is the id of the collection of a group's activities.
func (x *apStep) conversation() string { return x.face.Site.Conversation(x.room.head.ID.String()) }

// keep puts an activity of ours into the outbox of its actor, for those whom it names, and into the collection of its conversation.
func (x *apStep) keep(body ap.Object) {
	a := sentActivity(x.face.Site, body, x.face.stamp())
	if object, ok := body["object"].(ap.Object); ok && object.Str("conversation") != "" {
		for _, l := range slices.Clone(a.Lists) {
			a.Lists = append(a.Lists, store.Listing{Box: string(ap.BoxConversation), Owner: object.Str("conversation"), Reader: l.Reader})
		}
	}
	x.fx.activities = append(x.fx.activities, a)
}

// sentActivity is an activity of ours as it stands in the outbox of its actor.
func sentActivity(site ap.Site, body ap.Object, nowMS int64) store.Activity {
	actor := body.Str("actor")
	a := store.Activity{ID: body.Str("id"), Body: body.Marshal(), CreatedMS: nowMS,
		Lists: []store.Listing{{Box: string(ap.BoxOut), Owner: actor, Reader: actor}}}
	if object, ok := body["object"].(ap.Object); ok && site.Own(object.Str("id")) {
		a.Object = object.Str("id")
	}
	for _, to := range body.Refs("to") {
		reader := to
		if to == ap.Public {
			reader = ""
		}
		a.Lists = append(a.Lists, store.Listing{Box: string(ap.BoxOut), Owner: actor, Reader: reader})
	}
	return a
}

// maxReceivers bounds among whose messages one activity stands.
const maxReceivers = 100

// receivedActivity is an activity as it stands among the messages of those of ours who were addressed and whom it concerns.
func (a *ActivityPub) receivedActivity(d ap.Delivered, concerns func(actor string) bool) (store.Activity, bool) {
	out := store.Activity{ID: d.Activity.ID, Body: d.Body, CreatedMS: a.stamp()}
	for _, to := range append([]string{d.Inbox}, d.Activity.To...) {
		if kind, _ := a.Site.Parse(to); kind == ap.KindUser && len(out.Lists) < maxReceivers && concerns(to) {
			out.Lists = append(out.Lists, store.Listing{Box: string(ap.BoxIn), Owner: to, Reader: to})
		}
	}
	return out, out.ID != "" && len(out.Lists) > 0
}

// received puts an activity that came among the messages of those of ours whom it names and who are in the group, or whom it brings there: welcomed (S001-095).
func (x *apStep) received(d ap.Delivered, welcomed []string) {
	here := func(actor string) bool {
		return x.thread != nil && slices.Contains(x.thread.Actors(), actor) || slices.Contains(welcomed, actor)
	}
	if a, ok := x.face.receivedActivity(d, here); ok {
		x.fx.activities = append(x.fx.activities, a)
	}
}

// maxKept bounds how many activities one message is in: as it came, and as a channel passed it on to servers of two kinds.
const maxKept = 4

// madeBefore is how many links and activities a step had made before it dealt with a message.
type madeBefore struct{ links, activities int }

// begin remembers what the step has made before it deals with a message.
func (x *apStep) begin() madeBefore { return madeBefore{len(x.fx.links), len(x.fx.activities)} }

// kept notes with the links of a message, made since, in which activities kept since it is: they go when it is deleted. What the
// message was said again for, when a commit of ours lost, has its link already.
func (x *apStep) kept(since madeBefore, again *store.Link) {
	var ids []string
	for _, a := range x.fx.activities[since.activities:] {
		if len(ids) < maxKept {
			ids = append(ids, a.ID)
		}
	}
	if len(ids) == 0 {
		return
	}
	with := func(data string) string {
		var d apLink
		if unmarshalString(data, &d) != nil {
			return data
		}
		d.Kept = append(d.Kept, ids...)
		d.Kept = d.Kept[max(0, len(d.Kept)-maxKept):]
		return string(mustJSON(d))
	}
	for i := range x.fx.links[since.links:] {
		l := &x.fx.links[since.links+i]
		l.Data = with(l.Data)
	}
	if again != nil {
		data := with(again.Data)
		x.fx.setLinks = append(x.fx.setLinks, linkChange{seq: again.Seq, state: again.State, data: &data})
	}
}

// dropActivities deletes the activities that a message which is deleted was in. That by which it was deleted, whose link has no kind,
// stays for those who fetch it later.
func (s *step) dropActivities(l *store.Link) {
	var d apLink
	if l.Kind != "" && unmarshalString(l.Data, &d) == nil {
		s.fx.dropActivities = append(s.fx.dropActivities, d.Kept...)
	}
}
