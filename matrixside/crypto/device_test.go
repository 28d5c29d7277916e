package crypto_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/internal/store/storetest"
	"github.com/matrix-mimi/bridge/matrixside/client"
	"github.com/matrix-mimi/bridge/matrixside/crypto"
)

// strict is a homeserver that lets appservices make devices (MSC4190) and refuses their login, as Synapse does with
// io.element.msc4190. It knows only keys.
type strict struct {
	mu      sync.Mutex
	devices map[string]json.RawMessage // device keys by device, null before the upload
	oneTime int
	as      []string // device_id of the requests that were made as a device
}

func (s *strict) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := func(status int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	}
	if r.Header.Get("Authorization") != "Bearer as-token" {
		answer(http.StatusUnauthorized, map[string]string{"errcode": "M_UNKNOWN_TOKEN"})
		return
	}
	q := r.URL.Query()
	device := q.Get("device_id")
	if device == "" {
		device = q.Get("org.matrix.msc3202.device_id")
	}
	body, _ := io.ReadAll(r.Body)
	path := strings.TrimPrefix(r.URL.Path, "/_matrix/client/v3/")
	switch {
	case path == "login":
		answer(http.StatusBadRequest, map[string]string{"errcode": "M_APPSERVICE_LOGIN_UNSUPPORTED", "error": "use MSC4190"})
	case r.Method == http.MethodPut && strings.HasPrefix(path, "devices/"):
		name := strings.TrimPrefix(path, "devices/")
		if _, there := s.devices[name]; !there {
			s.devices[name] = nil
		}
		answer(http.StatusCreated, struct{}{})
	case path == "keys/query":
		keys := map[string]json.RawMessage{}
		for name, k := range s.devices {
			if k != nil {
				keys[name] = k
			}
		}
		answer(http.StatusOK, map[string]any{"device_keys": map[string]any{"@mimibot:one.example": keys}})
	case path == "keys/upload":
		var up struct {
			DeviceKeys json.RawMessage            `json:"device_keys"`
			OneTime    map[string]json.RawMessage `json:"one_time_keys"`
		}
		_ = json.Unmarshal(body, &up)
		s.as = append(s.as, device)
		if up.DeviceKeys != nil {
			s.devices[device] = up.DeviceKeys
		}
		s.oneTime += len(up.OneTime)
		answer(http.StatusOK, map[string]any{"one_time_key_counts": map[string]int{"signed_curve25519": s.oneTime}})
	default:
		answer(http.StatusNotFound, map[string]string{"errcode": "M_UNRECOGNIZED"})
	}
}

// Where the homeserver wants it (MSC4190) the device is made without a login, acts with the as_token under its own name, fills its
// one-time keys as transactions count them, and is the same after a restart. When the homeserver has lost its keys, the bot
// gets another device.
func TestDeviceWithoutLogin(t *testing.T) {
	storetest.Each(t, func(t *testing.T, cfg store.Config) {
		ctx := t.Context()
		hs := &strict{devices: map[string]json.RawMessage{}}
		srv := httptest.NewServer(hs)
		defer srv.Close()
		cli, err := client.New(client.Config{Homeserver: srv.URL, Token: "as-token", Bot: "@mimibot:one.example", IsGhost: isGhost})
		if err != nil {
			t.Fatal(err)
		}
		open := func(use func(*crypto.Crypto)) {
			db, err := store.Open(ctx, cfg)
			if err != nil {
				t.Fatal(err)
			}
			c, err := crypto.New(ctx, crypto.Config{Store: db, Client: cli, IsGhost: isGhost})
			if err == nil {
				err = c.Start(ctx)
			}
			if err != nil {
				t.Fatal(err)
			}
			use(c)
			if err := errors.Join(c.Close(), db.Close()); err != nil {
				t.Fatal(err)
			}
		}
		var device id.DeviceID
		open(func(c *crypto.Crypto) {
			device = c.Client().DeviceID
			if c.NeedsSync() {
				t.Error("a device without a session cannot sync")
			}
			if hs.devices[string(device)] == nil || len(hs.as) == 0 || hs.as[0] != string(device) {
				t.Fatalf("the keys of %s were not uploaded in its name: %v", device, hs.as)
			}
			run, cancel := context.WithCancel(ctx)
			var wg sync.WaitGroup
			wg.Go(func() { _ = c.Run(run) })
			// An absent count says nothing, and one of somebody else neither; the device's own low one is filled up.
			full := hs.count()
			if full < 50 {
				t.Errorf("%d one-time keys were uploaded", full)
			}
			for _, counts := range []string{`{}`, `{"@mimibot:one.example":{"OTHER":{"signed_curve25519":0}}}`, `null`, `"x"`} {
				if err := c.Receive(ctx, crypto.Delivery{KeyCounts: json.RawMessage(counts)}); err != nil {
					t.Fatal(err)
				}
			}
			if got := hs.count(); got != full {
				t.Errorf("counts that say nothing made %d keys of %d", got, full)
			}
			hs.mu.Lock()
			hs.oneTime = 7
			hs.mu.Unlock()
			low := fmt.Sprintf(`{"@mimibot:one.example":{%q:{"signed_curve25519":7}}}`, device)
			if err := c.Receive(ctx, crypto.Delivery{KeyCounts: json.RawMessage(low)}); err != nil {
				t.Fatal(err)
			}
			for hs.count() < 50 && ctx.Err() == nil {
				if err := c.Receive(ctx, crypto.Delivery{KeyCounts: json.RawMessage(low)}); err != nil {
					t.Fatal(err)
				}
			}
			cancel()
			wg.Wait()
		})
		open(func(c *crypto.Crypto) {
			if got := c.Client().DeviceID; got != device {
				t.Errorf("the device is %s, was %s", got, device)
			}
		})
		hs.mu.Lock()
		hs.devices = map[string]json.RawMessage{}
		hs.mu.Unlock()
		open(func(c *crypto.Crypto) {
			if got := c.Client().DeviceID; got == device {
				t.Error("a device whose keys the homeserver has lost goes on")
			}
		})
	})
}

func (s *strict) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.oneTime
}
