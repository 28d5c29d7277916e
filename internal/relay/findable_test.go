package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// found lists whom a search finds, page by page, and how many pages there were.
func (p *pair) found(kind, query string) (users []string, pages int) {
	p.t.Helper()
	var cursor []byte
	for {
		list, next, err := p.a.relay.SearchPage(context.Background(), "b.example", kind, query, cursor)
		if errors.Is(err, errNobody) {
			return users, pages
		}
		must0(p.t, err)
		pages++
		for _, f := range list {
			users = append(users, strings.TrimPrefix(f.URI, "mimi://b.example/u/")+" "+f.Name)
		}
		if cursor = next; cursor == nil {
			return users, pages
		}
	}
}

func TestPeopleAreFoundByWhatTheyAgreedTo(t *testing.T) {
	p := newPair(t, warm)
	ctx := context.Background()
	for field, value := range map[string]string{"email": "Bob@Example.org", "phone": "+49 (30) 123-4567", "name": "Bob the Builder", "nick": "bobby",
		"vcard:org": "Sunflower Valley", "vcard:GEO": "geo:37.386013,-122.082932", "oidc:website": "https://bob.example"} {
		must0(t, p.b.relay.SetFindable(ctx, p.bob, field, value))
	}
	for _, c := range []struct{ kind, query, want string }{
		{"email", "bob@example.ORG", "bob Bob the Builder"},
		{"email", "bob@example", ""},
		{"phone", "+49301234567", "bob Bob the Builder"},
		{"nick", "bobby", "bob Bob the Builder"},
		{"nick", "bob", ""}, // alice's homeserver does not know a user bob there
		{"name", "BUILD", "bob Bob the Builder"},
		{"name", "bu", ""},
		{"name", "sunflower", ""},
		{"any", "sunflower", "bob Bob the Builder"},
		{"any", "bob@example.org", "bob Bob the Builder"},
		{"any", "@example.org", ""}, // mail is found whole only
		{"vcard:ORG", "sunflower valley", "bob Bob the Builder"},
		{"vcard:geo", "geo:37.386013,-122.082932", "bob Bob the Builder"},
		{"vcard:geo", "geo:37.386013", ""},
		{"oidc:website", "https://bob.example", "bob Bob the Builder"},
	} {
		p.b.hs.users[p.bob] = c.query != "bob"
		got, _ := p.found(c.kind, c.query)
		p.equal(c.kind+" "+c.query, strings.Join(got, ", "), c.want)
	}
	// An answer says no more than names and what was asked for exactly, and that nobody checked it.
	answer := func(elements ...wire.QueryElement) string {
		r, err := p.b.relay.IdentifierQuery(ctx, "a.example", &wire.IdentifierRequest{Elements: elements})
		must0(t, err)
		received, err := wire.UnmarshalIdentifierResponse(r.Body)
		must0(t, err)
		a, err := received.Check("b.example")
		must0(t, err)
		var out []string
		for _, u := range a.Profiles {
			for _, f := range u.Fields {
				out = append(out, f.Name+"="+f.Value)
			}
		}
		return strings.Join(out, " ")
	}
	p.equal("by name", answer(wire.QueryElement{Type: wire.SearchPartialName, Value: "builder"}), "preferred_username=bob name=Bob the Builder nickname=bobby")
	p.equal("by mail", answer(wire.QueryElement{Type: wire.SearchEmail, Value: "bob@example.org"}),
		"preferred_username=bob name=Bob the Builder nickname=bobby email=Bob@Example.org email_verified=false")
	p.equal("by a property", answer(wire.QueryElement{Type: wire.SearchVCardField, Field: "geo", Value: "geo:37.386013,-122.082932"}),
		"preferred_username=bob name=Bob the Builder nickname=bobby GEO=geo:37.386013,-122.082932")
	p.equal("by both, one of them wrong", answer(wire.QueryElement{Type: wire.SearchEmail, Value: "bob@example.org"}, wire.QueryElement{Type: wire.SearchPhone, Value: "+1234567"}), "")
	must0(t, p.b.relay.DropFindable(ctx, p.bob, "email"))
	got, _ := p.found("email", "bob@example.org")
	p.equal("after it was taken away", len(got), 0)
	must0(t, p.b.relay.SetSearchable(ctx, p.bob, false))
	for kind, query := range map[string]string{"phone": "+49301234567", "name": "builder", "nick": "bobby"} {
		got, _ := p.found(kind, query)
		p.equal("switched off: "+kind, len(got), 0)
	}
	for field, value := range map[string]string{"email": "x", "phone": "12345", "name": "", "nick": strings.Repeat("x", 300), "shoe": "44", "oidc:sub": "1", "vcard:VERSION": "4.0"} {
		if err := p.b.relay.SetFindable(ctx, p.bob, field, value); err == nil {
			t.Errorf("%s %q was taken", field, value)
		}
	}
}

// Many results come in pages: each user once, in order, and the cursor is good for this search of this provider only.
func TestSearchInPages(t *testing.T) {
	p := newPair(t, warm)
	ctx := context.Background()
	var want []string
	for n := range 53 {
		local := fmt.Sprintf("smith%02d", n)
		must0(t, p.b.relay.SetSearchable(ctx, p.b.hs.mxid(local), true))
		want = append(want, local+" "+local)
	}
	got, pages := p.found("name", "smith")
	p.equal("found", got, want)
	p.equal("pages", pages, 3)
	query := &wire.IdentifierRequest{Elements: []wire.QueryElement{{Type: wire.SearchPartialName, Value: "smith"}}}
	ask := func(peer string, q *wire.IdentifierRequest, page *wire.Page) (*wire.IdentifierResponse, error) {
		asked := *q
		if page != nil {
			asked.Extensions = asked.Extensions.Set(wire.ComponentPage, page.Marshal())
		}
		r, err := p.b.relay.IdentifierQuery(ctx, peer, &asked)
		if err != nil {
			return nil, err
		}
		received, err := wire.UnmarshalIdentifierResponse(r.Body)
		must0(t, err)
		return received.Check("b.example")
	}
	plain, err := ask("a.example", query, nil)
	must0(t, err)
	p.equal("without pages", fmt.Sprint(len(plain.URIs), plain.Page()), "20 <nil>")
	first, err := ask("a.example", query, &wire.Page{Limit: 60000})
	must0(t, err)
	p.equal("in a page", len(first.URIs), maxFound)
	cursor := first.Page().Cursor
	if strings.Contains(string(cursor), "smith") {
		t.Error("the cursor can be read")
	}
	spoiled := slices.Clone(cursor)
	spoiled[len(spoiled)-1] ^= 1
	other := &wire.IdentifierRequest{Elements: []wire.QueryElement{{Type: wire.SearchPartialName, Value: "smit"}}}
	for what, try := range map[string]func() (*wire.IdentifierResponse, error){
		"another provider": func() (*wire.IdentifierResponse, error) { return ask("c.example", query, &wire.Page{Cursor: cursor}) },
		"another search":   func() (*wire.IdentifierResponse, error) { return ask("a.example", other, &wire.Page{Cursor: cursor}) },
		"a changed cursor": func() (*wire.IdentifierResponse, error) { return ask("a.example", query, &wire.Page{Cursor: spoiled}) },
	} {
		if _, err := try(); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	rest, err := ask("a.example", query, &wire.Page{Cursor: cursor})
	must0(t, err)
	p.equal("the rest", fmt.Sprint(len(rest.URIs), rest.Page()), "3 <nil>")
	p.now = p.now.Add(2 * time.Hour)
	if _, err := ask("a.example", query, &wire.Page{Cursor: cursor}); !errors.Is(err, wire.ErrMalformed) {
		t.Errorf("an old cursor: %v", err)
	}
}

// Who is found among many is found whatever stands before it, with what it is called.
func TestSearchAmongMany(t *testing.T) {
	p := newPair(t, warm)
	ctx := context.Background()
	var want []string
	for n := range 2*searchedAtOnce + 2 {
		local := fmt.Sprintf("user%03d", n)
		must0(t, p.b.relay.SetSearchable(ctx, p.b.hs.mxid(local), true))
		if n%searchedAtOnce < 2 {
			must0(t, p.b.relay.SetFindable(ctx, p.b.hs.mxid(local), "name", "Smith "+local))
			want = append(want, local+" Smith "+local)
		}
	}
	got, _ := p.found("name", "smith")
	p.equal("found", got, want)
}

// What the operator allows bounds whom queries find, whatever people agreed to.
func TestIdentifierQueriesAreThoseThatTheOperatorAllows(t *testing.T) {
	p := newPair(t, warm)
	ctx := context.Background()
	must0(t, p.b.relay.SetFindable(ctx, p.bob, "email", "bob@example.org"))
	for _, c := range []struct {
		none, handles bool
		handle, email wire.IdentifierQueryCode
	}{
		{false, false, wire.IdentifierSuccess, wire.IdentifierSuccess},
		{false, true, wire.IdentifierSuccess, wire.IdentifierForbidden},
		{true, false, wire.IdentifierForbidden, wire.IdentifierForbidden},
	} {
		p.b.relay.cfg.NoQueries, p.b.relay.cfg.HandlesOnly = c.none, c.handles
		for _, q := range []struct {
			kind  wire.SearchIdentifierType
			value string
			want  wire.IdentifierQueryCode
		}{{wire.SearchHandle, "acct:bob@b.example", c.handle}, {wire.SearchEmail, "bob@example.org", c.email}} {
			r, err := p.b.relay.IdentifierQuery(ctx, "a.example", &wire.IdentifierRequest{Elements: []wire.QueryElement{{Type: q.kind, Value: q.value}}})
			must0(t, err)
			received, err := wire.UnmarshalIdentifierResponse(r.Body)
			must0(t, err)
			a, err := received.Check("b.example")
			must0(t, err)
			p.equal(fmt.Sprintf("%+v %s", c, q.value), a.Code, q.want)
		}
		if err := p.b.relay.SetSearchable(ctx, p.bob, true); (err != nil) != (c.none || c.handles) {
			t.Errorf("%+v: searchable: %v", c, err)
		}
		if err := p.b.relay.SetFindable(ctx, p.bob, "nick", "bobby"); (err != nil) != (c.none || c.handles) {
			t.Errorf("%+v: a field: %v", c, err)
		}
	}
	must0(t, p.b.relay.SetSearchable(ctx, p.bob, false))
}
