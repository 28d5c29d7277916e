package mapping

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

func TestGhostForms(t *testing.T) {
	for uri, want := range map[wire.IdentifierURI]string{
		"mimi://a.example/u/alice":        "mimi_a.example=2falice",
		"mimi://a.example/u/Alice_B":      "mimi_a.example=2f_alice___b",
		"mimi://a.example/u/J%C3%BCrgen":  "mimi_a.example=2f_j=25_c3=25_b_crgen",
		"mimi://a.example/p/crazykoala75": "mimi_a.example=2fp=2fcrazykoala75",
		"mimi://a.example/u/x/y":          "mimi_a.example=2fu=2fx=2fy",
		"mimi://a.example/u/@b:hs":        "mimi_a.example=2f=40b=3ahs",
	} {
		got, hashed, err := GhostLocalpart(uri, 200)
		if err != nil || hashed || got != want {
			t.Errorf("%s: %q, %v, want %q", uri, got, err, want)
		}
		if back, err := ParseGhostLocalpart(got); err != nil || back != uri {
			t.Errorf("%s: back %q, %v", uri, back, err)
		}
	}
}

func TestGhostAuthorityCase(t *testing.T) {
	a, _, err1 := GhostLocalpart("mimi://A.Example/u/alice", 200)
	b, _, err2 := GhostLocalpart("mimi://a.example/u/alice", 200)
	c, _, err3 := GhostLocalpart("mimi://a.example/u/ALICE", 200)
	if err1 != nil || err2 != nil || err3 != nil || a != b || a == c {
		t.Errorf("%q %q %q, %v %v %v", a, b, c, err1, err2, err3)
	}
}

func TestGhostRefused(t *testing.T) {
	for _, uri := range []wire.IdentifierURI{"", "mimi://a.example", "mimi://a.example/r/room", "mimi://a.example/d/x/y", "https://a.example/u/x"} {
		if lp, _, err := GhostLocalpart(uri, 200); !errors.Is(err, ErrIdentifier) {
			t.Errorf("%q became %q, %v", uri, lp, err)
		}
	}
	for _, lp := range []string{"", "alice", "mimi_", "mimi_a.example", "mimi_a.example=2f", "mimi_a.example=2Falice", "mimi__a.example=2falice",
		"mimi_a.example=2fu=2falice", "mimi_a.example=2fr=2froom", "mimi_a.example=2fal=69ce", "mimi_a.example=2fal_", "mimi_a.example=2fal=2",
		"mimi_a.example=2falice=20", "mimi_=xabc", "mimi_a.example/alice", "mimi_1.2.3.4=2falice"} {
		if uri, err := ParseGhostLocalpart(lp); !errors.Is(err, ErrIdentifier) {
			t.Errorf("%q became %q, %v", lp, uri, err)
		}
	}
}

func TestGhostHashForm(t *testing.T) {
	long := wire.IdentifierURI("mimi://a.example/u/" + strings.Repeat("X", 150))
	max := MaxLocalpart("hs.example")
	lp, hashed, err := GhostLocalpart(long, max)
	if err != nil || !hashed || len(lp) != len("mimi_=x")+32 || !isHashed(lp) {
		t.Fatalf("%q, %v, %v", lp, hashed, err)
	}
	if _, err := ParseGhostLocalpart(lp); !errors.Is(err, ErrIdentifier) {
		t.Errorf("a hash was decoded: %v", err)
	}
	if upper, _, _ := GhostLocalpart("mimi://A.EXAMPLE/u/"+wire.IdentifierURI(strings.Repeat("X", 150)), max); upper != lp {
		t.Errorf("the case of the domain changes the hash form")
	}
	if other, _, _ := GhostLocalpart(long+"x", max); other == lp {
		t.Errorf("two users share a ghost")
	}
	if _, _, err := GhostLocalpart(long, 30); !errors.Is(err, ErrIdentifier) {
		t.Errorf("no room for a hash and no error: %v", err)
	}
	short := wire.IdentifierURI("mimi://a.example/u/" + strings.Repeat("x", max-len("mimi_a.example=2f")))
	if lp, hashed, err := GhostLocalpart(short, max); err != nil || hashed || len("@"+lp+":hs.example") != MaxMXID {
		t.Errorf("the longest name that fits: %q, %v, %v", lp, hashed, err)
	}
}

func TestGhostMXID(t *testing.T) {
	mxid, _, err := testNaming.GhostMXID("mimi://a.example/u/alice")
	if err != nil || mxid != "@mimi_a.example=2falice:hs.example" {
		t.Fatalf("%q, %v", mxid, err)
	}
	if uri, err := testNaming.ParseGhostMXID(mxid); err != nil || uri != "mimi://a.example/u/alice" {
		t.Errorf("%q, %v", uri, err)
	}
	if !testNaming.IsGhost(mxid) || testNaming.IsGhost("@alice:hs.example") || testNaming.IsGhost("@mimi_a.example=2falice:other.example") {
		t.Error("IsGhost")
	}
	// a user of the bridge never gets a ghost: it would echo itself
	if _, _, err := testNaming.GhostMXID("mimi://mimi.bridge.example/u/alice"); err == nil {
		t.Error("own user got a ghost")
	}
	if _, err := testNaming.ParseGhostMXID("@mimi_mimi.bridge.example=2falice:hs.example"); err == nil {
		t.Error("own user has a ghost")
	}
}

func TestForeignGhost(t *testing.T) {
	for mxid, want := range map[string]bool{
		"@mimi_mimi.bridge.example=2falice:hs.example":    true,
		"@acct_alice=40mimi.bridge.example:hs.example":    true,
		"@mimi_a.example=2falice:hs.example":              false,
		"@acct_alice=40a.example:hs.example":              false,
		"@mimi_mimi.bridge.example=2falice:other.example": false,
		"@alice:hs.example":                               false,
	} {
		if testNaming.ForeignGhost(mxid) != want {
			t.Errorf("%s: not %t", mxid, want)
		}
	}
}

func TestAcctGhost(t *testing.T) {
	for acct, want := range map[string]string{
		"acct:alice@ap.example":                "acct_alice=40ap.example",
		"acct:Al_ice@ap.example":               "acct__al__ice=40ap.example",
		"acct:%40bob%3Ahs2.example@ap.example": "acct_=2540bob=253_ahs2.example=40ap.example",
	} {
		lp, hashed, err := AcctGhostLocalpart(acct, 200)
		if err != nil || hashed || lp != want {
			t.Errorf("%s: %q, %v", acct, lp, err)
		}
		if back, err := ParseAcctGhostLocalpart(lp); err != nil || back != acct {
			t.Errorf("%s: back %q, %v", acct, back, err)
		}
	}
	for _, lp := range []string{"acct_alice", "acct_alice=40", "acct_alice=40ap.example=40b.example", "acct_alice=40_ap.example", "mimi_alice=40ap.example"} {
		if acct, err := ParseAcctGhostLocalpart(lp); err == nil {
			t.Errorf("%q became %q", lp, acct)
		}
	}
}

func TestAliasForms(t *testing.T) {
	for uri, want := range map[wire.IdentifierURI]string{
		"mimi://a.example/r/clubhouse": "mimi_a.example=2fclubhouse",
		"mimi://a.example/r/a/b":       "mimi_a.example=2fr=2fa=2fb",
	} {
		lp, hashed, err := AliasLocalpart(uri, 200)
		if err != nil || hashed || lp != want {
			t.Errorf("%s: %q, %v", uri, lp, err)
		}
		if back, err := parseAliasLocalpart(lp); err != nil || back != uri {
			t.Errorf("%s: back %q, %v", uri, back, err)
		}
	}
	if _, _, err := AliasLocalpart("mimi://a.example/u/alice", 200); err == nil {
		t.Error("a user got an alias")
	}
}

func drawForeignURI(t *rapid.T) wire.IdentifierURI {
	domain := rapid.StringMatching(`[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?\.example`).Draw(t, "domain")
	kind := rapid.SampledFrom([]string{"u", "p"}).Draw(t, "kind")
	seg := rapid.StringMatching(`([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2}){1,20}(/[a-z]{0,3}){0,2}`).Draw(t, "name")
	return wire.IdentifierURI("mimi://" + domain + "/" + kind + "/" + seg)
}

// No URI of a room gives the alias of a room without a URI, and a long name of the server leaves place for it, or there is none.
func TestMarkedAliasIsNoURI(t *testing.T) {
	n := Naming{Domain: "one.example", Server: "hs.example"}
	if a := n.MarkedAlias("group", "c0ffee"); a != "mimi_one.example=2f=group.c0ffee" {
		t.Error(a)
	}
	for _, a := range []string{n.MarkedAlias("group", "c0ffee"), n.MarkedAlias("channel", "c0ffee")} {
		if uri, err := parseAliasLocalpart(a); err == nil {
			t.Errorf("%s is %s", a, uri)
		}
	}
	n.Server = strings.Repeat("a", 190) + ".example"
	if a := n.MarkedAlias("group", strings.Repeat("c0", 16)); !isHashed(a) || len(a) > MaxLocalpart(n.Server) {
		t.Error(a)
	}
	n.Server = strings.Repeat("a", 240) + ".example"
	if a := n.MarkedAlias("group", "c0ffee"); a != "" {
		t.Error(a)
	}
}

func TestGhostBijective(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		uri := drawForeignURI(t)
		lp, hashed, err := GhostLocalpart(uri, 1<<12)
		if err != nil || hashed {
			t.Fatalf("%q: %v", uri, err)
		}
		if back, err := ParseGhostLocalpart(lp); err != nil || back != uri {
			t.Fatalf("%q → %q → %q, %v", uri, lp, back, err)
		}
		if other := drawForeignURI(t); other != uri {
			if o, _, err := GhostLocalpart(other, 1<<12); err != nil || o == lp {
				t.Fatalf("%q and %q share %q, %v", uri, other, lp, err)
			}
		}
	})
}

// Whatever is taken as a localpart gives back itself, and whatever octets are escaped come back.
func FuzzMXIDLocalpartEscape(f *testing.F) {
	for _, s := range []string{"mimi_a.example=2falice", "mimi_=xabc", "acct_alice=40ap.example", "=", "_", "=2f", "J\xc3\xbc"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if back, err := UnescapeLocalpart(EscapeLocalpart(s)); err != nil || back != s {
			t.Fatalf("%q came back as %q, %v", s, back, err)
		}
		if raw, err := UnescapeLocalpart(s); err == nil && EscapeLocalpart(raw) != s {
			t.Fatalf("%q is not canonical", s)
		}
		if uri, err := ParseGhostLocalpart(s); err == nil {
			if again, hashed, err := GhostLocalpart(uri, len(s)); err != nil || hashed || again != s {
				t.Fatalf("%q → %q → %q, %v", s, uri, again, err)
			}
		}
		if acct, err := ParseAcctGhostLocalpart(s); err == nil {
			if again, hashed, err := AcctGhostLocalpart(acct, len(s)); err != nil || hashed || again != s {
				t.Fatalf("%q → %q → %q, %v", s, acct, again, err)
			}
		}
		if uri, err := parseAliasLocalpart(s); err == nil {
			if again, hashed, err := AliasLocalpart(uri, len(s)); err != nil || hashed || again != s {
				t.Fatalf("%q → %q → %q, %v", s, uri, again, err)
			}
		}
	})
}

// Every identifier that is understood has exactly one form on each side.
func FuzzIdentifierURI(f *testing.F) {
	for _, s := range []string{"mimi://mimi.bridge.example/u/alice", "mimi://mimi.bridge.example/u/@b:hs2.example",
		"mimi://mimi.bridge.example/d/alice/bridge", "acct:alice@mimi.bridge.example", "mimi://a.example/p/x", "mimi://A.example/u/%41", "@alice:hs.example"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		uri := wire.IdentifierURI(s)
		if mxid, err := testNaming.ParseUserURI(uri); err == nil {
			if again, err := testNaming.UserURI(mxid); err != nil || !again.Same(uri) {
				t.Fatalf("%q → %q → %q, %v", s, mxid, again, err)
			}
		}
		if mxid, dev, err := testNaming.ParseClientURI(uri); err == nil {
			if again, err := testNaming.ClientURI(mxid, dev); err != nil || !again.Same(uri) {
				t.Fatalf("%q → %q → %q, %v", s, mxid, again, err)
			}
		}
		if mxid, err := testNaming.ParseAcctURI(s); err == nil {
			again, err := testNaming.AcctURI(mxid)
			if err != nil || !strings.EqualFold(again, s) {
				t.Fatalf("%q → %q → %q, %v", s, mxid, again, err)
			}
		}
		if uri, err := testNaming.UserURI(s); err == nil {
			if back, err := testNaming.ParseUserURI(uri); err != nil || back != s {
				t.Fatalf("%q → %q → %q, %v", s, uri, back, err)
			}
		}
		if lp, hashed, err := GhostLocalpart(uri, 1<<13); err == nil && !hashed {
			if back, err := ParseGhostLocalpart(lp); err != nil || !back.Same(uri) {
				t.Fatalf("%q → %q → %q, %v", s, lp, back, err)
			}
		}
		if sub, err := testNaming.WebFingerSubject(s); err == nil {
			if again, err := testNaming.WebFingerSubject(sub.Acct); err != nil || again != sub {
				t.Fatalf("%q → %+v → %+v, %v", s, sub, again, err)
			}
		}
	})
}

// parseAliasLocalpart is the inverse of AliasLocalpart.
func parseAliasLocalpart(localpart string) (wire.IdentifierURI, error) {
	return parseURILocalpart(localpart, wire.KindRoom, wire.KindRoom)
}

// isHashed tells whether a localpart is in the hash form.
func isHashed(localpart string) bool {
	return strings.HasPrefix(localpart, GhostPrefix+hashMark) || strings.HasPrefix(localpart, AcctPrefix+hashMark)
}
