package provider

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/content"
	"github.com/matrix-mimi/bridge/mimiside/follower"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/room"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// notified takes a fan-out: it joins by Welcome, follows commits, and notes when messages came.
func (p *Provider) notified(escaped, from string, body []byte, at time.Time) error {
	uri, err := wire.ParsePath(escaped)
	if err != nil {
		return err
	}
	received, err := wire.UnmarshalNotify(body)
	if err != nil {
		return err
	}
	items, err := received.Check()
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	key := uri.Identifier().Key()
	r := p.rooms[key]
	if r == nil {
		r = &Room{URI: key, Hub: strings.TrimPrefix(from, "mimi@")}
		p.rooms[key] = r
	}
	for i := range items {
		if err := p.take(r, &items[i], at); err != nil {
			return err
		}
	}
	close(p.changed)
	p.changed = make(chan struct{})
	return nil
}

func (p *Provider) take(r *Room, item *wire.FanoutMessage, at time.Time) error {
	now := time.Now()
	if m := item.Message.MLS; m != nil && m.Welcome != nil {
		return p.welcome(r, m.Welcome, item)
	}
	if item.Message.Format() == mls.WireFormatPrivateMessage {
		// Not decrypted: the time that it takes is not the bridge's.
		r.arrivals = append(r.arrivals, at)
		return nil
	}
	if r.group == nil {
		return nil
	}
	out := follower.Take(now, r.group, nil, item)
	switch out.Kind {
	case follower.Commit:
		_, err := r.group.Merge(now, out.Staged)
		return err
	case follower.Proposals, follower.Nothing:
		return nil
	}
	return fmt.Errorf("take a fan-out item: outcome %d: %w", out.Kind, out.Err)
}

func (p *Provider) welcome(r *Room, w *mls.Welcome, item *wire.FanoutMessage) error {
	params := mls.JoinParams{Welcome: w}
	if item.Tree != nil {
		params.Tree = item.Tree.Tree
	}
	for i := range w.Secrets {
		if kp, ok := p.stock[string(w.Secrets[i].NewMember)]; ok {
			params.Keys = append(params.Keys, mls.JoinKey{KeyPackage: kp.Public, Private: kp.Private})
		}
	}
	if len(params.Keys) == 0 {
		return errors.New("a Welcome for nobody here")
	}
	var err error
	if r.group == nil {
		r.group, _, err = mls.JoinWelcome(time.Now(), p.mlsc, params)
	} else {
		_, _, err = r.group.AddOwnFromWelcome(time.Now(), params)
	}
	if err == nil {
		r.welcomes++
	}
	return err
}

// Wait waits for a condition, which is asked again after each fan-out.
func (p *Provider) Wait(ctx context.Context, what string, holds func() bool) error {
	for {
		p.mu.Lock()
		changed, bad := p.changed, p.refuse
		p.mu.Unlock()
		if bad != nil {
			return bad
		}
		if holds() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%s waits for %s: %w", p.Domain, what, ctx.Err())
		}
	}
}

// Room returns the only room of the provider, "" when there is none or are several.
func (p *Provider) Room() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.rooms) != 1 {
		return ""
	}
	for key := range p.rooms {
		return key
	}
	return ""
}

// Clients is how many clients of the provider are in a room.
func (p *Provider) Clients(key string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.rooms[key]; r != nil && r.group != nil {
		return r.group.OwnCount()
	}
	return 0
}

// Arrivals are when the application messages of a room came.
func (p *Provider) Arrivals(key string) []time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.rooms[key]; r != nil {
		return append([]time.Time(nil), r.arrivals...)
	}
	return nil
}

// Group lets f use the group of a room.
func (p *Provider) Group(key string, f func(hub string, g *mls.Group) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.rooms[key]
	if r == nil || r.group == nil {
		return errors.New("there is no group")
	}
	return f(r.Hub, r.group)
}

// Compose encrypts a text of a user and returns the body of a submitMessage.
func (p *Provider) Compose(key, user, text string) (hub string, body []byte, err error) {
	return p.ComposeMessage(key, user, content.Message{Body: content.Part{Disposition: content.Render,
		Body: content.SinglePart{ContentType: content.TypePlain, Content: []byte(text)}}})
}

// ComposeMessage does the same with a message of any kind, which gets a salt.
func (p *Provider) ComposeMessage(key, user string, m content.Message) (hub string, body []byte, err error) {
	err = p.Group(key, func(domain string, g *mls.Group) error {
		hub = domain
		leaf, err := leafOf(g, user)
		if err != nil {
			return err
		}
		salt, err := content.NewSalt(rand.Reader)
		if err != nil {
			return err
		}
		m.Salt = salt
		octets, err := m.Marshal()
		if err != nil {
			return err
		}
		data := mls.FrameApplicationData(g.Dictionary(), mls.MediaType{}, octets)
		protected, _, err := g.Protect(rand.Reader, leaf, data, room.MessageAAD(g.Dictionary(), salt[:], data), 0)
		if err != nil {
			return err
		}
		body = (&wire.SubmitMessageRequest{Message: wire.NewMessage(protected.Message), SendingURI: wire.IdentifierURI(user)}).Marshal()
		return nil
	})
	return hub, body, err
}

func leafOf(g *mls.Group, user string) (mls.LeafIndex, error) {
	for _, leaf := range g.OwnLeaves() {
		m, ok := g.Member(leaf)
		if !ok {
			continue
		}
		if id, err := room.IdentityOf(&m.Leaf.Credential); err == nil && id.User.Same(wire.IdentifierURI(user)) {
			return leaf, nil
		}
	}
	return 0, fmt.Errorf("%s has no leaf", user)
}

// Submit sends a composed message and demands that the hub accepts it.
func (p *Provider) Submit(ctx context.Context, hub, key string, body []byte) error {
	status, answer, err := p.Do(ctx, Call{To: hub, Verb: string(wire.VerbSubmitMessage), Target: key, Body: body})
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("submit: status %d %s", status, answer)
	}
	verdict, err := wire.UnmarshalSubmitMessageResponse(answer)
	if err != nil {
		return err
	}
	if verdict.StatusCode != wire.SubmitAccepted {
		return fmt.Errorf("submit: the hub answers %v", verdict.StatusCode)
	}
	return nil
}

// Commit makes a commit of a user, with its GroupInfo and tree, and returns the body of an update. The group does not move.
func (p *Provider) Commit(key, user string, path bool, proposals ...mls.Proposal) (hub string, body []byte, err error) {
	err = p.Group(key, func(domain string, g *mls.Group) error {
		hub = domain
		leaf, err := leafOf(g, user)
		if err != nil {
			return err
		}
		staged, err := g.StageCommit(rand.Reader, time.Now(), mls.CommitParams{Leaf: leaf, Proposals: proposals, Path: path, AAD: room.HandshakeAAD(g.Dictionary())})
		if err != nil {
			return err
		}
		info, err := mls.UnmarshalMLSMessage(staged.GroupInfo())
		if err != nil {
			return err
		}
		body = (&wire.HandshakeBundle{Message: wire.NewMessage(staged.Commit()), GroupInfo: &wire.GroupInfoOption{Full: info.GroupInfo},
			Tree: &mls.RatchetTreeOption{Representation: mls.RatchetTreeFull, Tree: staged.Tree()}}).Marshal()
		return nil
	})
	return hub, body, err
}

// Leaf finds the leaf of any user in a room.
func (p *Provider) Leaf(key, user string) (leaf mls.LeafIndex, err error) {
	err = p.Group(key, func(_ string, g *mls.Group) error {
		found := room.LeavesOf(g.Members()).Of(wire.IdentifierURI(user))
		if len(found) == 0 {
			return fmt.Errorf("%s has no leaf", user)
		}
		leaf = found[0]
		return nil
	})
	return leaf, err
}

// Epoch is the epoch of a room's group.
func (p *Provider) Epoch(key string) (epoch uint64) {
	_ = p.Group(key, func(_ string, g *mls.Group) error {
		epoch = g.Epoch()
		return nil
	})
	return epoch
}
