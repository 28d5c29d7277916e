package dialogue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/test/harness"
)

// addPeople adds what people may not do, how they are found, whether they are there, and what a homeserver loses.
func addPeople() {
	refused := func(err error) error {
		if errors.Is(err, mautrix.MForbidden) {
			return nil
		}
		if err == nil {
			return errors.New("the homeserver lets it through")
		}
		return err
	}
	say("may not say STR", "is refused by the homeserver when it sends a message", func(ctx context.Context, _ *runner, p *Person, a []string) error {
		room, err := p.room("")
		if err != nil {
			return err
		}
		_, err = p.SendText(ctx, room, a[0])
		return refused(err)
	})
	say("may not set STR to STR", "is refused by the homeserver when it sends a state event", func(ctx context.Context, _ *runner, p *Person, a []string) error {
		room, content, err := p.content(a[1])
		if err != nil {
			return err
		}
		_, err = p.SendStateEvent(ctx, room, event.Type{Type: a[0], Class: event.StateEventType}, "", content)
		return refused(err)
	})
	say("loses WHO", "a ghost falls out of the room behind the bridge's back, as when a homeserver loses something", method((*runner).loseGhost))
	say("looks up STR by STR at STR and finds WHO", "asks the homeserver for users of the network MIMI, by a kind of search, at a provider, and finds this one alone",
		func(ctx context.Context, _ *runner, p *Person, a []string) error {
			who, err := p.world.MXID(p.short, a[3])
			if err != nil {
				return err
			}
			found, err := p.lookUp(ctx, a[0], a[1], a[2])
			if err == nil && (len(found) != 1 || found[0] != who) {
				err = fmt.Errorf("found %v", found)
			}
			return err
		})
	say("looks up STR by STR at STR in vain", "the same, and finds nobody", func(ctx context.Context, _ *runner, p *Person, a []string) error {
		found, err := p.lookUp(ctx, a[0], a[1], a[2])
		if err == nil && len(found) > 0 {
			err = fmt.Errorf("found %v", found)
		}
		return err
	})
	say("brings NUM people who tell the bot STR", "so many others of the same homeserver, named after it, tell the bridge's bot this", method((*runner).bring))
	say("shows itself STR", "the bridge is told of its presence, as by a homeserver that tells application services (Dendrite does not)", method((*runner).showPresence))
	say("sees WHO shown STR", "sees somebody's presence", func(ctx context.Context, _ *runner, p *Person, a []string) error {
		who, err := p.world.MXID(p.short, a[0])
		if err != nil {
			return err
		}
		return p.Await(ctx, a[0]+" shown "+a[1], func(map[id.RoomID]*RoomView) bool { return p.present[who] == event.Presence(a[1]) })
	})
}

// loseGhost lets a ghost leave the current room as the bridge's own application service would: the bridge takes that for its
// own doing.
func (r *runner) loseGhost(ctx context.Context, p *Person, a []string) error {
	room, err := p.room("")
	if err != nil {
		return err
	}
	ghost, err := p.world.MXID(p.short, a[0])
	if err != nil {
		return err
	}
	b := p.world.bridgeAt(p.short)
	if b == nil {
		return fmt.Errorf("there is no bridge beside %s", p.short)
	}
	token, err := b.token("as_token")
	if err != nil {
		return err
	}
	cli, err := mautrix.NewClient(p.HomeserverURL.String(), ghost, token)
	if err != nil {
		return err
	}
	cli.SetAppServiceUserID = true
	leaves := func(v *RoomView) (n int) {
		for _, e := range v.Timeline {
			if m, ok := e.Content.Parsed.(*event.MemberEventContent); ok && e.GetStateKey() == string(ghost) && m.Membership == event.MembershipLeave {
				n++
			}
		}
		return n
	}
	p.mu.Lock()
	before := leaves(p.view(room))
	p.mu.Unlock()
	if _, err := cli.LeaveRoom(ctx, room); err != nil {
		return err
	}
	// The ghost may be back before anybody looks: its leave stands in the timeline.
	return p.Await(ctx, a[0]+" gone", func(rooms map[id.RoomID]*RoomView) bool { return leaves(rooms[room]) > before })
}

// lookUp asks the homeserver for third-party users.
func (p *Person) lookUp(ctx context.Context, query, kind, domain string) ([]id.UserID, error) {
	address := p.BuildURLWithQuery(mautrix.ClientURLPath{"v3", "thirdparty", "user", "mimi"}, map[string]string{"domain": domain, "query": query, "type": kind})
	var users []struct {
		User id.UserID `json:"userid"`
	}
	_, err := p.MakeRequest(ctx, http.MethodGet, address, nil, &users)
	if errors.Is(err, mautrix.MNotFound) { // how Dendrite says nobody
		err = nil
	}
	var found []id.UserID
	for _, u := range users {
		found = append(found, u.User)
	}
	return found, err
}

// bring brings people on stage and lets them tell the bot something, each in a chat of its own.
func (r *runner) bring(ctx context.Context, p *Person, a []string) error {
	n, err := strconv.Atoi(a[0])
	if err != nil {
		return err
	}
	others, errs := make([]*Person, n), make([]error, n)
	var wg sync.WaitGroup
	places := make(chan struct{}, 4)
	for i := range n {
		wg.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			if others[i], errs[i] = r.world.newcomer(ctx, fmt.Sprintf("%s%02d@%s", p.local, i+1, p.short)); errs[i] == nil {
				errs[i] = r.tellAndHear(ctx, others[i], a[1])
			}
		})
	}
	wg.Wait()
	for _, other := range others {
		if other != nil {
			r.world.people[other.Name] = other
		}
	}
	return errors.Join(errs...)
}

// tellAndHear lets somebody tell the bot something and waits for its answer.
func (r *runner) tellAndHear(ctx context.Context, p *Person, text string) error {
	if err := r.tellBot(ctx, p, []string{text}); err != nil {
		return err
	}
	room, err := p.room(botRoom)
	if err != nil {
		return err
	}
	return p.Await(ctx, "an answer of the bot", func(rooms map[id.RoomID]*RoomView) bool {
		return take(rooms[room], func(e *Seen) bool { _, ok := messageText(e.Event); return ok && e.Sender != p.UserID }) != nil
	})
}

// showPresence hands a person's presence to the bridge in a transaction, as Synapse does.
func (r *runner) showPresence(ctx context.Context, p *Person, a []string) error {
	b := p.world.bridgeAt(p.short)
	if b == nil {
		return fmt.Errorf("there is no bridge beside %s", p.short)
	}
	token, err := b.token("hs_token")
	if err != nil {
		return err
	}
	body := map[string]any{"events": []any{}, "ephemeral": []any{map[string]any{"type": "m.presence", "sender": p.UserID,
		"content": map[string]any{"presence": a[0], "currently_active": a[0] == "online"}}}}
	to, err := mautrix.NewClient("http://"+harness.Loopback(b.appservice), "", token)
	if err != nil {
		return err
	}
	txn := fmt.Sprintf("presence-%d", time.Now().UnixNano())
	_, err = to.MakeRequest(ctx, http.MethodPut, to.BuildURL(mautrix.BaseURLPath{"_matrix", "app", "v1", "transactions", url.PathEscape(txn)}), json.RawMessage(mustJSON(body)), nil)
	return err
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // of our own making
	}
	return b
}

var registered = regexp.MustCompile(`(?m)^([ah]s_token): (\S{10,})$`)

// token is a token of the bridge's registration: as_token or hs_token.
func (b *Bridge) token(name string) (string, error) {
	text, err := os.ReadFile(filepath.Join(b.dir, "registration.yaml"))
	if err != nil {
		return "", fmt.Errorf("read the registration of %s: %w", b.plan.Domain, err)
	}
	for _, m := range registered.FindAllStringSubmatch(string(text), -1) {
		if m[1] == name {
			return m[2], nil
		}
	}
	return "", fmt.Errorf("the registration of %s has no %s", b.plan.Domain, name)
}
