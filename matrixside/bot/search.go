package bot

import (
	"context"
	"strings"
	"sync"

	"github.com/matrix-mimi/bridge/internal/relay"
	"github.com/matrix-mimi/bridge/internal/store"
)

// Searches is what the commands about finding people do. internal/relay
// implements it.
type Searches interface {
	// SearchPage asks a provider for its users. cursor is nil for the first
	// page, next is nil after the last one.
	SearchPage(ctx context.Context, domain, kind, query string, cursor []byte) (found []relay.Found, next []byte, err error)
	// SetSearchable says whether others find a Matrix user by more than its whole
	// address; SetFindable and DropFindable say by what beside its name.
	SetSearchable(ctx context.Context, mxid string, on bool) error
	SetFindable(ctx context.Context, mxid, field, value string) error
	DropFindable(ctx context.Context, mxid, field string) error
	FindableBy(ctx context.Context, mxid string) (fields []store.Findable, on bool, err error)
}

// lastSearches remembers where the search of each person goes on.
type lastSearches struct {
	mu   sync.Mutex
	last map[string]lastSearch
}

type lastSearch struct {
	domain, kind, query string
	next                []byte
}

// maxSearches bounds the people whose search is remembered.
const maxSearches = 1000

func (l *lastSearches) take(who string) (lastSearch, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.last[who]
	return s, ok
}

func (l *lastSearches) put(who string, s lastSearch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.next == nil {
		delete(l.last, who)
		return
	}
	if len(l.last) >= maxSearches {
		clear(l.last)
	}
	l.last[who] = s
}

const (
	searchUsage     = "<provider> <name> [handle|nick|email|phone|name|any|oidc:CLAIM|vcard:PROPERTY] | --more"
	searchableUsage = "on | off | list | add <field> <value> | remove <field>"
)

// Search makes the commands about finding people.
func Search(s Searches) []*Handler {
	last := &lastSearches{last: map[string]lastSearch{}}
	return []*Handler{
		{Name: "search", Usage: searchUsage, Help: "looks for people at a MIMI provider", Needs: User, MinArgs: 1,
			More: "Without a last word the name must be a whole address, such as `acct:bob@two.example`. Who is found by less is decided by each provider and its people.\n\nExample: `search two.example bob nick`",
			Do:   func(ctx context.Context, e *Event) error { return search(ctx, e, s, last) }},
		{Name: "searchable", Usage: searchableUsage, Help: "says whether others find you by your name, mail or telephone, or only by your whole address",
			More:  "Fields are `email`, `phone`, `name`, `nick`, `vcard:PROPERTY` and `oidc:CLAIM`. Nobody checks what you add.\n\nExample: `searchable add email bob@example.org`",
			Needs: User, MinArgs: 1, Do: func(ctx context.Context, e *Event) error { return searchable(ctx, e, s) }},
	}
}

func search(ctx context.Context, e *Event, s Searches, last *lastSearches) error {
	var l lastSearch
	if strings.TrimLeft(e.Args[0], "-–—") == "more" {
		var ok bool
		if l, ok = last.take(e.Sender); !ok {
			return Tell("There is nothing more.")
		}
	} else {
		if len(e.Args) < 2 {
			return Tell("Usage: `%s`", e.Bot.say(e, "search "+searchUsage))
		}
		l = lastSearch{domain: e.Args[0], kind: "handle", query: e.Args[1]}
		if len(e.Args) > 2 { // the kind is the last word, what is looked for may have several
			l.kind = strings.ToLower(e.Args[len(e.Args)-1])
			l.query = strings.Join(e.Args[1:len(e.Args)-1], " ")
		}
	}
	found, next, err := s.SearchPage(ctx, l.domain, l.kind, l.query, l.next)
	if err != nil {
		return explain(err)
	}
	l.next = next
	last.put(e.Sender, l)
	var b strings.Builder
	for _, f := range found {
		b.WriteString("- " + Quote(f.URI))
		if f.Name != "" {
			b.WriteString(" " + Quote(f.Name))
		}
		b.WriteString("\n")
	}
	if next != nil {
		b.WriteString("\nThere may be more: say `" + e.Bot.say(e, "search --more") + "`.")
	}
	return e.Reply("%s", b.String())
}

func searchable(ctx context.Context, e *Event, s Searches) error {
	switch strings.ToLower(e.Args[0]) {
	case "on", "off":
		on := strings.EqualFold(e.Args[0], "on")
		if err := s.SetSearchable(ctx, e.Sender, on); err != nil {
			return explain(err)
		}
		if on {
			return e.Reply("Others find you by your name now.")
		}
		return e.Reply("Others find you only by your whole address now.")
	case "list":
		fields, on, err := s.FindableBy(ctx, e.Sender)
		if err != nil {
			return err
		}
		if !on {
			return e.Reply("Others find you only by your whole address.")
		}
		var b strings.Builder
		b.WriteString("Others find you by your name")
		for _, f := range fields {
			b.WriteString("\n- " + Quote(f.Field) + ": " + Quote(f.Value))
		}
		return e.Reply("%s", b.String())
	case "add":
		if len(e.Args) > 2 {
			if err := s.SetFindable(ctx, e.Sender, e.Args[1], strings.Join(e.Args[2:], " ")); err != nil {
				return explain(err)
			}
			return e.Reply("Others find you by your name and by %s now. Nobody checks that it is yours, and they are told so.", Quote(strings.Join(e.Args[1:], " ")))
		}
	case "remove":
		if len(e.Args) == 2 {
			if err := s.DropFindable(ctx, e.Sender, e.Args[1]); err != nil {
				return explain(err)
			}
			return e.Reply("Others do not find you by %s any more.", Quote(e.Args[1]))
		}
	}
	return Tell("Usage: `%s`", e.Bot.say(e, "searchable "+searchableUsage))
}
