package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/internal/store/storetest"
	"github.com/matrix-mimi/bridge/mapping"
)

func TestMain(m *testing.M) { storetest.Main(m) }

// A week after the last one there is a new data key, and the old one goes once nothing is sealed with it.
func TestDataKeysAreRotatedWeekly(t *testing.T) {
	db := storetest.Open(t, storetest.Config(t, "sqlite"))
	now := time.Now()
	u := &upkeep{app: &app{db: db}, now: func() time.Time { return now }}
	active := func() uint32 {
		t.Helper()
		if err := u.hourly(t.Context()); err != nil {
			t.Fatal(err)
		}
		ids := db.KeyIDs()
		var last uint32
		for _, id := range ids {
			last = max(last, id)
		}
		return last
	}
	first := active()
	now = now.Add(6 * 24 * time.Hour)
	if got := active(); got != first {
		t.Errorf("a new key after six days: %d, was %d", got, first)
	}
	now = now.Add(2 * 24 * time.Hour)
	if got := active(); got <= first {
		t.Errorf("no new key after eight days: %d", got)
	}
	if text, err := db.Setting(t.Context(), "", keyRotated); err != nil || text != strconv.FormatInt(store.Millis(now), 10) {
		t.Errorf("rotated at %q, %v", text, err)
	}
}

func TestWebFingerNamesUsers(t *testing.T) {
	names := mapping.Naming{Domain: "b.example", Server: "hs.example"}
	f := finger{func(_ context.Context, resource string) (mapping.Subject, bool, error) {
		if resource == "acct:late@b.example" {
			return mapping.Subject{}, false, errors.New("the homeserver is away")
		}
		s, err := names.WebFingerSubject(resource)
		return s, err == nil && s.MXID == "@alice:hs.example", nil
	}}
	for resource, want := range map[string]int{"acct:alice@b.example": 200, "mimi://b.example/u/alice": 200, "acct:bob@b.example": 404,
		"https://b.example/": 404, "": 400, "acct:late@b.example": 503} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "/.well-known/webfinger", nil)
		q := r.URL.Query()
		q.Set("resource", resource)
		r.URL.RawQuery = q.Encode()
		f.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%q: %d, want %d", resource, w.Code, want)
		}
		if want != 200 {
			continue
		}
		var got jrd
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got.Subject != "acct:alice@b.example" || len(got.Aliases) != 1 ||
			got.Aliases[0] != "mimi://b.example/u/alice" || w.Header().Get("Content-Type") != "application/jrd+json" {
			t.Errorf("%q: %+v, %v", resource, got, err)
		}
	}
}
