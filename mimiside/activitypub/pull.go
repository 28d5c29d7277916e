package activitypub

import (
	"context"
	"slices"
)

// Bounds of one pull.
const (
	maxPullPages = 5
	maxPullItems = 100
)

// As is a Fetcher that signs as somebody else: what an outbox shows depends on who asks.
func (f *Fetcher) As(key SigningKey) *Fetcher {
	g := *f
	g.cfg.Key = key
	return &g
}

// Pull reads the outbox of an actor as one of ours, for activities that were not delivered (ActivityPub §5.1; MLS over ActivityPub, "Message delivery"):
// newest first until seen knows one, five pages and 100 activities at most. What is returned is oldest first, checked as if the actor had
// signed it: it came from the actor's own server.
func (p *People) Pull(ctx context.Context, a *RemoteActor, as SigningKey, seen func(id string) (bool, error)) ([]Delivered, error) {
	if !sameOrigin(a.Outbox, a.ID) {
		return nil, nil
	}
	w := &pull{fetch: p.fetch.As(as), actor: a.ID, seen: seen}
	d, err := w.fetch.Document(ctx, a.Outbox)
	if err != nil {
		return nil, err
	}
	page := d.Object
	if page["orderedItems"] == nil && page["items"] == nil {
		if page, err = w.page(ctx, page["first"]); err != nil {
			return nil, err
		}
	}
	for n := 0; page != nil; n++ {
		done, err := w.items(ctx, page)
		if err != nil || done || n+1 == maxPullPages {
			if err != nil && len(w.out) == 0 {
				return nil, err
			}
			break
		}
		if page, err = w.page(ctx, page["next"]); err != nil {
			break // what came so far may help already
		}
	}
	slices.Reverse(w.out)
	return w.out, nil
}

type pull struct {
	fetch *Fetcher
	actor string
	seen  func(id string) (bool, error)
	out   []Delivered
	read  int
}

// page is a page that is embedded, or fetched from the actor's origin; nil when there is none.
func (w *pull) page(ctx context.Context, v any) (Object, error) {
	switch v := v.(type) {
	case Object:
		return v, nil
	case string:
		if !sameOrigin(v, w.actor) {
			return nil, nil
		}
		d, err := w.fetch.Document(ctx, v)
		if err != nil {
			return nil, err
		}
		return d.Object, nil
	}
	return nil, nil
}

// items takes the activities of a page; done when one was seen before or there are enough.
func (w *pull) items(ctx context.Context, page Object) (done bool, err error) {
	for _, v := range asList(page.get("orderedItems", "items"), maxPullItems) {
		if w.read++; w.read > maxPullItems {
			return true, nil
		}
		known, err := w.seen(ref(v))
		if err != nil || known {
			return true, err
		}
		o, err := w.page(ctx, v) // an activity by its address
		if err != nil || o == nil {
			continue
		}
		if named, ok := o["object"].(string); ok && o.typeAmong("Create") != "" {
			inner, err := w.page(ctx, named)
			if err != nil || inner == nil {
				continue
			}
			o["object"] = inner
		}
		if d, ok := deliveredOf(o, w.actor); ok {
			w.out = append(w.out, d)
		}
	}
	return false, nil
}

// deliveredOf checks an activity from the outbox of an actor. One without MLS, or that may not be taken, is left out.
func deliveredOf(o Object, actor string) (Delivered, bool) {
	r := &ReceivedActivity{raw: o}
	if r.Type() == "" {
		return Delivered{}, false
	}
	a, err := r.Check(actor, false)
	if err != nil {
		return Delivered{}, false
	}
	d := Delivered{Activity: a, Body: o.Marshal()}
	if a.Object != nil && a.Type == "Create" && IsMLSObject(a.Object) {
		if d.MLS, err = ParseMLSObject(a.Object); err != nil {
			return Delivered{}, false
		}
	}
	return d, d.MLS != nil || a.Commit != nil || a.Welcome != nil
}
