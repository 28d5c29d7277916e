package wire

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestJoinLinks(t *testing.T) {
	room := IdentifierURI("mimi://hub.example/r/clubhouse")
	for text, want := range map[string]JoinLink{
		"mimi://hub.example/r/clubhouse":                                  {Room: room},
		"mimi://hub.example/r/clubhouse?join=abc-_9":                      {Room: room, Code: "abc-_9"},
		"mimi://hub.example/r/clubhouse?join=abc&role=7&passphrase=1":     {Room: room, Code: "abc", Role: 7, Passphrase: true},
		"https://hub.example/mimi#/r/clubhouse?join=abc&role=7":           {Room: room, Code: "abc", Role: 7},
		"mimi://hub.example/r/clubhouse?utm=x&join=abc&passphrase=0&role": {},
	} {
		got, err := ParseJoinLink(text)
		if want.Room == "" {
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("%s: %+v, %v", text, got, err)
			}
			continue
		}
		if err != nil || got != want {
			t.Errorf("%s:\n got %+v, %v\nwant %+v", text, got, err, want)
		}
		if text != got.String() && text != got.Web() {
			t.Errorf("%s is written %s or %s", text, got.String(), got.Web())
		}
	}
	for _, bad := range []string{"", "mimi://hub.example", "mimi://hub.example/u/bob?join=abc", "mimi://hub.example/r/x?join=", "mimi://hub.example/r/x?join=a:b",
		"mimi://hub.example/r/x?join=abc&role=-1", "mimi://hub.example/r/x?join=abc&role=4294967296", "https://hub.example/r/x?join=abc",
		"http://hub.example/mimi#/r/x?join=abc", "mimi://hub.example/r/x?join=" + strings.Repeat("a", maxLinkCode+1),
		"mimi://hub.example/r/" + strings.Repeat("a", MaxJoinLink)} {
		if l, err := ParseJoinLink(bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("%.80q is read as %+v, %v", bad, l, err)
		}
	}
}

func TestJoiningCodes(t *testing.T) {
	code, err := NewCode(bytes.NewReader(make([]byte, 16)))
	if err != nil || code != strings.Repeat("a", 26) {
		t.Fatalf("%q, %v", code, err)
	}
	l := JoinLink{Room: "mimi://hub.example/r/x", Code: code}
	for passphrase, want := range map[string]string{"": code, "open : sesame": code + ":open : sesame"} {
		presented := l.JoiningCode(passphrase)
		if string(presented) != want {
			t.Errorf("presented %q, want %q", presented, want)
		}
		if c, p := SplitJoiningCode(presented); c != code || p != passphrase {
			t.Errorf("%q is taken apart to %q and %q", presented, c, p)
		}
	}
	if (JoinLink{Room: l.Room}).JoiningCode("x") != nil {
		t.Error("a link that only points presents a code")
	}
}

func FuzzWireJoinLink(f *testing.F) {
	f.Add("mimi://hub.example/r/clubhouse?join=abc&role=7&passphrase=1")
	f.Add("https://hub.example/mimi#/r/clubhouse?join=abc")
	f.Fuzz(func(t *testing.T, s string) {
		l, err := ParseJoinLink(s)
		if err != nil {
			return
		}
		for _, form := range []string{l.String(), l.Web()} {
			if again, err := ParseJoinLink(form); err != nil || l.Code != "" && again != l || again.Room != l.Room {
				t.Fatalf("%q became %q: %+v, %v", s, form, again, err)
			}
		}
	})
}

func FuzzWireLinkStatus(f *testing.F) {
	fuzzStructs(f, func(marshaler) {}, "link_status_request", "link_status_response")
}
