package main

import (
	"context"
	"errors"
	"slices"
	"testing"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/store"
)

// The homeserver that asks for a ghost gets it when a room knows it, and none for the asking.
func TestGhostsExistWhereTheyWereInvited(t *testing.T) {
	var made []id.UserID
	broken := errors.New("broken")
	q := queries{
		noted: func(_ context.Context, mxid string) (store.Ghost, error) {
			switch mxid {
			case "@mimi_a.example=2finvited:hs":
				return store.Ghost{MXID: mxid}, nil
			case "@mimi_a.example=2fbroken:hs":
				return store.Ghost{}, broken
			}
			return store.Ghost{}, store.ErrNotFound
		},
		make: func(_ context.Context, ghost id.UserID) error { made = append(made, ghost); return nil },
	}
	for mxid, want := range map[id.UserID]bool{"@mimi_a.example=2finvited:hs": true, "@mimi_a.example=2fnobody:hs": false} {
		if ok, err := q.UserExists(t.Context(), mxid); ok != want || err != nil {
			t.Errorf("%s exists: %v %v, want %v", mxid, ok, err, want)
		}
	}
	if ok, err := q.UserExists(t.Context(), "@mimi_a.example=2fbroken:hs"); ok || !errors.Is(err, broken) {
		t.Errorf("while the store is broken: %v %v", ok, err)
	}
	if !slices.Equal(made, []id.UserID{"@mimi_a.example=2finvited:hs"}) {
		t.Errorf("made %v", made)
	}
}
