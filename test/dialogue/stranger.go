package dialogue

import (
	"context"
	"fmt"
	"regexp"

	"github.com/matrix-mimi/bridge/mimiside/content"
	"github.com/matrix-mimi/bridge/test/fakes/provider"
	"github.com/matrix-mimi/bridge/test/harness"
)

// addStrangers adds what people say at providers that are no bridges: what Matrix has no words for.
func addStrangers() {
	lets := func(pattern, help string, message func(ctx context.Context, r *runner, a []string) (content.Message, error)) {
		machineWith("provider", pattern, help, func(ctx context.Context, r *runner, name string, a []string) error {
			m, err := message(ctx, r, a[1:])
			if err != nil {
				return err
			}
			return r.world.strangers[name].say(ctx, a[0], m)
		})
	}
	several := func(word, help string, how content.Semantics) {
		lets("lets WHO say STR "+word+" STR", help, func(_ context.Context, _ *runner, a []string) (content.Message, error) {
			parts := []content.Part{partOf(a[0]), partOf(a[1])}
			return content.Message{Body: content.Part{Disposition: content.Render, Body: content.MultiPart{Semantics: how, Parts: parts}}}, nil
		})
	}
	lets("lets WHO say STR", "a user of it sends a message of one part: a text, or <media type>: <content>", func(_ context.Context, _ *runner, a []string) (content.Message, error) {
		return content.Message{Body: partOf(a[0])}, nil
	})
	several("or", "the same with two parts of which one is to be chosen", content.ChooseOne)
	several("and", "the same with two parts that are each shown", content.ProcessAll)
	several("together with", "the same with two parts that are nothing without each other", content.SingleUnit)
	lets("lets WHO say STR in the event STR of WHO", "a user of it sends a message that names an event of Matrix, the one in which that person said the second text, as what it "+
		"was made from: so would a second bridge beside that homeserver", func(ctx context.Context, r *runner, a []string) (content.Message, error) {
		m := content.Message{Body: partOf(a[0]), Extensions: content.Extensions{}}
		p, err := r.world.Person(ctx, a[2])
		if err != nil {
			return m, err
		}
		_, seen, err := p.message(a[1])
		if err != nil {
			return m, err
		}
		m.Extensions.SetExternalID([]byte(seen.ID), ServerName(p.short))
		return m, nil
	})
}

var typed = regexp.MustCompile(`(?s)^([a-z]+/[^ ]+): (.*)$`)

// partOf makes a part of a text in a script.
func partOf(text string) content.Part {
	kind := content.TypePlain
	if m := typed.FindStringSubmatch(text); m != nil {
		kind, text = m[1], m[2]
	}
	return content.Part{Disposition: content.Render, Body: content.SinglePart{ContentType: kind, Content: []byte(text)}}
}

// stranger is a MIMI provider in the process of the test.
type stranger struct{ *provider.Provider }

// startStrangers starts providers. All bridges must have their ports by now.
func (w *World) startStrangers(domains []string) error {
	hubs := map[string]string{}
	for domain, b := range w.bridges {
		hubs[domain] = b.Addr()
	}
	for _, domain := range domains {
		p, err := provider.New(domain, harness.Loopback(0), w.ca, hubs)
		if err != nil {
			return fmt.Errorf("start the provider %s: %w", domain, err)
		}
		w.strangers[domain] = stranger{p}
	}
	return nil
}

// say sends a message of a user in the only room that the provider is in, as soon as it is in one.
func (s stranger) say(ctx context.Context, user string, m content.Message) error {
	var room string
	err := s.Wait(ctx, "a room", func() bool {
		room = s.Room()
		return room != "" && s.Clients(room) > 0
	})
	if err != nil {
		return err
	}
	hub, body, err := s.ComposeMessage(room, user, m)
	if err != nil {
		return err
	}
	return s.Submit(ctx, hub, room, body)
}
