package wire

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestIntroductionInAConsentRequest(t *testing.T) {
	b := known(t, "consent_introduction")
	received, err := UnmarshalConsentEntry(b)
	if err != nil {
		t.Fatal(err)
	}
	e, err := received.CheckRequest("a.example", "b.example")
	if err != nil || e.Introduction() != "abc-123" || e.RoomID != "" {
		t.Fatalf("%+v, %v", e, err)
	}
	own := &ConsentEntry{Operation: ConsentRequest, RequesterURI: e.RequesterURI, TargetURI: e.TargetURI}
	own.SetIntroduction("")
	if own.Introduction() != "" || len(own.Extensions) != 0 {
		t.Error("no code became one")
	}
	own.SetIntroduction("abc-123")
	if got := own.Marshal(); !bytes.Equal(got, b) {
		t.Errorf("encodes to %x", got)
	}
	own.SetIntroduction("no code")
	if got := own.Introduction(); got != "" {
		t.Errorf("%q passes as a code", got)
	}
}

func TestIntroductions(t *testing.T) {
	good := "mimi://b.example/u/bob?introduction=abc-123"
	i, err := ParseIntroduction(good)
	if err != nil || i != (Introduction{"mimi://b.example/u/bob", "abc-123"}) || i.String() != good {
		t.Errorf("%+v, %v", i, err)
	}
	for _, bad := range []string{"", "mimi://b.example/u/bob", "mimi://b.example/r/bob?introduction=abc", "mimi://b.example/u/bob?introduction=a b",
		"mimi://b.example/u/bob?introduction=" + strings.Repeat("a", maxLinkCode+1), "mimi://b.example/u/" + strings.Repeat("a", MaxJoinLink)} {
		if i, err := ParseIntroduction(bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("%.60q is read as %+v, %v", bad, i, err)
		}
	}
}

func FuzzWireIntroduction(f *testing.F) {
	f.Add("mimi://b.example/u/bob?introduction=abc-123")
	f.Fuzz(func(t *testing.T, s string) {
		i, err := ParseIntroduction(s)
		if err != nil {
			return
		}
		if again, err := ParseIntroduction(i.String()); err != nil || again != i {
			t.Fatalf("%q became %q", s, i.String())
		}
	})
}
