package mls

import (
	"fmt"
	"strings"
	"testing"
)

// Nothing that a caller can hold prints a secret, whatever the verb is.
func TestGroupsDoNotPrintSecrets(t *testing.T) {
	w := newWorld(t, testSuite, 3)
	a := w.singles[0]
	s, err := a.g.StageCommit(w.rand, w.now, CommitParams{Leaf: 0, Path: true, Proposals: []Proposal{w.invitation(true), w.invitation(false)}})
	ok(t, "commit", err)
	w.advance(a, s, nil)
	s, err = a.g.StageCommit(w.rand, w.now, CommitParams{Leaf: 0, Path: true})
	ok(t, "commit", err)
	var hidden []Secret
	for _, p := range append(w.pool.g.Export(), a.g.Export()...) {
		switch p.Key.Kind {
		case "seed", "send", "recv", "own", "path", "exports", "resumption":
			hidden = append(hidden, p.Data[max(0, len(p.Data)-32):])
		}
	}
	for _, k := range s.path {
		hidden = append(hidden, k)
	}
	if len(hidden) < 10 {
		t.Fatalf("only %d secrets", len(hidden))
	}
	values := []any{a.g, *a.g, w.pool.g, s, *s, a.g.Export(), s.Marshal(), *a.g.own[0].signature, []*Group{a.g}, struct{ G *Group }{a.g}}
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
			out := fmt.Sprintf(verb, v)
			for _, secret := range hidden {
				for _, leak := range []string{fmt.Sprintf("%x", []byte(secret)), strings.Trim(fmt.Sprint([]byte(secret)), "[]"), string(secret)} {
					if strings.Contains(out, leak) {
						t.Fatalf("%T with %s prints a secret", v, verb)
					}
				}
			}
		}
	}
}
