package bot

import (
	"context"
	"testing"

	"github.com/matrix-mimi/bridge/internal/relay"
	"github.com/matrix-mimi/bridge/internal/store"
)

var _ Searches = (*relay.Relay)(nil)

func (w *world) SearchPage(_ context.Context, domain, kind, query string, cursor []byte) ([]relay.Found, []byte, error) {
	var next []byte
	if len(cursor) < 2 {
		next = append(next, append(cursor, 'x')...)
	}
	return []relay.Found{{URI: "mimi://a.example/u/bob", Name: "Bob"}}, next, w.act("search %s %s %q %q", domain, kind, query, cursor)
}
func (w *world) SetSearchable(_ context.Context, mxid string, on bool) error {
	return w.act("searchable %s %v", mxid, on)
}
func (w *world) SetFindable(_ context.Context, mxid, field, value string) error {
	return w.act("add %s %s %q", mxid, field, value)
}
func (w *world) DropFindable(_ context.Context, mxid, field string) error {
	return w.act("remove %s %s", mxid, field)
}
func (w *world) FindableBy(context.Context, string) ([]store.Findable, bool, error) {
	return []store.Findable{{Field: "email", Value: "a@x"}}, true, nil
}

func TestSearchCommands(t *testing.T) {
	b, w := newBot(t)
	b.Register(Search(w)...)
	for _, c := range []struct{ text, reply, did string }{
		{"search --more", "There is nothing more", ""},
		{"search a.example", "Usage", ""},
		{"search a.example bob", "search --more", `search a.example handle "bob" ""`},
		{"search a.example Bob the Builder name", "Bob", `search a.example name "Bob the Builder" ""`},
		{"search --more", "search --more", `search a.example name "Bob the Builder" "x"`},
		{"search —more", "Bob", `search a.example name "Bob the Builder" "xx"`},
		{"search --more", "There is nothing more", ""},
		{"searchable on", "by your name now", "searchable @u:hs true"},
		{"searchable off", "only by your whole address", "searchable @u:hs false"},
		{"searchable list", "email: a@x", ""},
		{"searchable add phone +49 30 1234567", "Nobody checks", `add @u:hs phone "+49 30 1234567"`},
		{"searchable add phone", "Usage", ""},
		{"searchable remove phone", "do not find you by phone", "remove @u:hs phone"},
		{"searchable maybe", "Usage", ""},
	} {
		w.expect(t, b, say("@u:hs", c.text, true), outcome{c.reply, c.did})
	}
}
