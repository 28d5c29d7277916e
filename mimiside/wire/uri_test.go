package wire

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseURI(t *testing.T) {
	for _, c := range []struct {
		in, domain, name string
		kind             Kind
		user             IdentifierURI
	}{
		{"mimi://a.example", "a.example", "", KindProvider, ""},
		{"mimi://A.Example/u/Alice", "a.example", "Alice", KindUser, "mimi://A.Example/u/Alice"},
		{"mimi://a.example/p/crazykoala75", "a.example", "crazykoala75", KindPseudonym, "mimi://a.example/p/crazykoala75"},
		{"mimi://a.example/d/ClientA1", "a.example", "ClientA1", KindClient, ""},
		{"mimi://a.example/d/alice/ClientA1", "a.example", "alice/ClientA1", KindClient, "mimi://a.example/u/alice"},
		{"mimi://a.example/d/a/b/c", "a.example", "a/b/c", KindClient, "mimi://a.example/u/a/b"},
		{"mimi://a.example/r/clubhouse", "a.example", "clubhouse", KindRoom, ""},
		{"mimi://irc.example.com/u/jcapulet1583@example.com", "irc.example.com", "jcapulet1583@example.com", KindUser, "mimi://irc.example.com/u/jcapulet1583@example.com"},
		{"mimi://local.invalid/x/y//z%2F", "local.invalid", "y//z%2F", "x", ""},
	} {
		u, err := ParseURI(c.in)
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		user, _ := u.User()
		if u.String() != c.in || u.Domain() != c.domain || u.Kind() != c.kind || u.Name() != c.name || user != c.user {
			t.Errorf("%s: %q %q %q %q, user %q", c.in, u, u.Domain(), u.Kind(), u.Name(), user)
		}
	}
	for _, in := range []string{
		"", "mimi:", "mimi://", "MIMI://a.example", "https://a.example", "mimi://a.example/", "mimi://a.example/u", "mimi://a.example/u/",
		"mimi://a.example//alice", "mimi://a.example/u//alice", "mimi://a.example:443/u/alice", "mimi://x@a.example/u/alice", "mimi://a..example/u/a",
		"mimi://-a.example/u/a", "mimi://10.0.0.1/u/a", "mimi://[::1]/u/a", "mimi://a.example/u/a b", "mimi://a.example/u/a\x00", "mimi://a.example/u/ü",
		"mimi://a.example/u/a?b", "mimi://a.example/u/a#b", "mimi://a.example/u/%4", "mimi://a.example/u/%zz", "mimi://ü.example/u/a",
		"mimi://a.example/u/" + strings.Repeat("a", 1024),
	} {
		if _, err := ParseURI(in); !errors.Is(err, ErrURI) {
			t.Errorf("%q passed: %v", in, err)
		}
	}
}

func TestSame(t *testing.T) {
	if !IdentifierURI("mimi://A.example/u/a").Same("mimi://a.Example/u/a") {
		t.Error("the case of the authority matters")
	}
	if IdentifierURI("mimi://a.example/u/A").Same("mimi://a.example/u/a") || IdentifierURI("mimi://a.example/u/%41").Same("mimi://a.example/u/A") {
		t.Error("the path is not compared octet by octet")
	}
	if IdentifierURI("not").Domain() != "" || IdentifierURI("not").Key() != "not" || IdentifierURI("not").Is(KindUser) {
		t.Error("octets that are no URI")
	}
}

func drawURI(t *rapid.T) string {
	domain := rapid.StringMatching(`[A-Za-z0-9]([a-z0-9-]{0,10}[a-z0-9])?\.example`).Draw(t, "domain")
	kind := rapid.SampledFrom([]string{"u", "p", "r", "g", "d", "xyz"}).Draw(t, "kind")
	seg := rapid.StringMatching(`([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2}){1,20}(/[a-z]{0,3}){0,2}`).Draw(t, "name")
	return "mimi://" + domain + "/" + kind + "/" + seg
}

// All path forms name the same URI.
func TestPathForms(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		uri := drawURI(t)
		bare := strings.TrimPrefix(uri, "mimi://")
		for _, form := range []string{PathEscape(uri), PathEscape(bare), bare, uri, strings.ToLower(PathEscape("mimi://")) + PathEscape(bare)} {
			u, err := ParsePath(form)
			if err != nil || u.String() != uri {
				t.Fatalf("%q: %q, %v, want %q", form, u, err, uri)
			}
		}
		if s, err := PathUnescape(PathEscape(uri)); err != nil || s != uri {
			t.Fatalf("%q → %q, %v", uri, s, err)
		}
	})
}

func TestPathKnown(t *testing.T) {
	if got := PathEscape("mimi://a.example/r/clubhouse"); got != "mimi%3A%2F%2Fa.example%2Fr%2Fclubhouse" {
		t.Error(got)
	}
	for _, bad := range []string{"", "%", "%2", "%zz", "/", "a.example/u", "..", "mimi:/a.example/r/x", "a.example%00", strings.Repeat("%41", 2000)} {
		if u, err := ParsePath(bad); err == nil {
			t.Errorf("%q gave %q", bad, u)
		}
	}
	for in, want := range map[string]string{"A.example": "a.example", "mimi%3A%2F%2Fa.example": "a.example", "a.example/u/alice": "a.example"} {
		if got, err := ParsePathDomain(in); err != nil || got != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

func FuzzURI(f *testing.F) {
	for _, s := range []string{"mimi://a.example/u/alice", "mimi%3A%2F%2Fa.example%2Fr%2Fclubhouse", "a.example/d/alice/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if u, err := ParsePath(s); err == nil {
			if again, err := ParsePath(PathEscape(u.String())); err != nil || again != u {
				t.Fatalf("%q → %q → %q, %v", s, u, again, err)
			}
		}
		if u, err := ParseURI(s); err == nil {
			if u.String() != s || !u.Identifier().Same(IdentifierURI(u.Key())) {
				t.Fatalf("%q: %q, key %q", s, u, u.Key())
			}
		}
	})
}
