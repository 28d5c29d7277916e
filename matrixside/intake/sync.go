package intake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/matrixside/event"
)

// Bounds on one round of the sync loop.
const (
	// A request that is open when much begins to come ([Traffic]) stays so for as long: it is not cut off, which could leave a
	// homeserver's database locked.
	syncTimeout = 5 * time.Second
	// A gap in a room's timeline is filled with at most so many pages of so
	// many events.
	maxGapPages = 20
	gapPage     = 100
	minBackoff  = time.Second
	maxBackoff  = time.Minute
)

// Wants says whether the second source is needed (homeserver.sync_fallback).
type Wants string

// The settings of sync_fallback.
const (
	// Auto reads /sync when the homeserver is one that does not push everything.
	Auto Wants = "auto"
	// Always and Never say so by hand.
	Always Wants = "always"
	Never  Wants = "never"
)

// NeedsSync decides whether the bot's /sync has to be read. name is what the
// homeserver calls itself, ping whether it knows the appservice ping. Dendrite
// pushes no redactions, typing notices, receipts and to-device messages; a
// server that says nothing of itself and lacks the ping is treated likewise.
// Reading both sources is harmless.
func NeedsSync(w Wants, name string, ping bool) bool {
	switch w {
	case Always:
		return true
	case Never:
		return false
	}
	switch name {
	case "Synapse":
		return false
	case "Dendrite":
		return true
	}
	return !ping
}

// Positions remembers where the sync loop stands. The sink writes it (see
// [Transaction].Next).
type Positions interface {
	// Position is the last Next that was stored, "" when there is none.
	Position(ctx context.Context) (string, error)
}

// SyncConfig is what the loop needs; all but Observe, Traffic and Wait are required.
type SyncConfig struct {
	// Client speaks as the bot, with a device of its own if to-device messages
	// are wanted. It must not have a timeout below a minute.
	Client    *mautrix.Client
	Sink      Sink
	Positions Positions
	// Observe is told of every round as [Config].Observe is; nil for nobody.
	Observe func(result string, t *Transaction, took time.Duration)
	// Traffic is what comes from the same homeserver by the appservice API; nil when that shall make no difference.
	Traffic *Traffic
	Log     zerolog.Logger
	// Wait pauses between tries; nil waits in real time.
	Wait func(ctx context.Context, d time.Duration) error
}

// Loop reads the bot's /sync and feeds the sink.
type Loop struct {
	cfg    SyncConfig
	filter string
}

// NewLoop makes a loop. Run starts it.
func NewLoop(cfg SyncConfig) (*Loop, error) {
	if cfg.Client == nil || cfg.Sink == nil || cfg.Positions == nil {
		return nil, errors.New("make sync loop: client, sink or positions are missing")
	}
	if cfg.Wait == nil {
		cfg.Wait = wait
	}
	return &Loop{cfg: cfg, filter: string(filterJSON())}, nil
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// filterJSON lets through what homeservers do not push: redactions, typing
// notices, receipts, to-device messages and device lists.
func filterJSON() json.RawMessage {
	none := map[string]any{"not_types": []string{"*"}}
	b, err := json.Marshal(map[string]any{
		"presence": none, "account_data": none,
		"room": map[string]any{
			"account_data": none, "state": none,
			"ephemeral": map[string]any{"types": []string{event.TypeTyping, event.TypeReceipt}},
			"timeline":  map[string]any{"types": []string{event.TypeRedaction}, "limit": gapPage},
		},
	})
	if err != nil {
		panic("write sync filter: " + err.Error())
	}
	return b
}

// Run reads until ctx ends, and returns its error. Failures of the homeserver
// or the sink are tried again, later and later, up to a minute apart. While the
// homeserver pushes much, no request is left open ([Traffic]).
func (l *Loop) Run(ctx context.Context) error {
	backoff := minBackoff
	for ctx.Err() == nil {
		timeout := syncTimeout
		if l.cfg.Traffic.busy() {
			timeout = 0
			_ = l.cfg.Wait(ctx, pollEvery) // that ctx has ended shows in the round
		}
		start := time.Now()
		t, err := l.Round(ctx, timeout)
		if err == nil {
			backoff = minBackoff
			l.observe("stored", t, start)
			continue
		}
		if ctx.Err() != nil {
			break
		}
		l.observe("failed", t, start)
		l.cfg.Log.Warn().Err(err).Dur("again_in", backoff).Msg("sync round failed")
		if l.cfg.Wait(ctx, backoff) != nil {
			break
		}
		backoff = min(2*backoff, maxBackoff)
	}
	return ctx.Err()
}

func (l *Loop) observe(result string, t *Transaction, start time.Time) {
	if l.cfg.Observe != nil {
		l.cfg.Observe(result, t, time.Since(start))
	}
}

// syncAnswer is the part of a /sync answer that is read.
type syncAnswer struct {
	NextBatch string `json:"next_batch"`
	Rooms     struct {
		Join map[id.RoomID]struct {
			Timeline struct {
				Events    []json.RawMessage `json:"events"`
				Limited   bool              `json:"limited"`
				PrevBatch string            `json:"prev_batch"`
			} `json:"timeline"`
			Ephemeral struct {
				Events []json.RawMessage `json:"events"`
			} `json:"ephemeral"`
		} `json:"join"`
	} `json:"rooms"`
	ToDevice struct {
		Events []json.RawMessage `json:"events"`
	} `json:"to_device"`
	DeviceLists  json.RawMessage `json:"device_lists"`
	KeyCounts    json.RawMessage `json:"device_one_time_keys_count"`
	FallbackKeys json.RawMessage `json:"device_unused_fallback_key_types"`
}

// Round asks once, waiting up to timeout for something to happen, and stores
// the answer. The first round ever only learns where to begin, but keeps
// to-device messages: they would not come again.
func (l *Loop) Round(ctx context.Context, timeout time.Duration) (*Transaction, error) {
	since, err := l.cfg.Positions.Position(ctx)
	if err != nil {
		return nil, fmt.Errorf("read sync position: %w", err)
	}
	query := map[string]string{"filter": l.filter, "timeout": strconv.FormatInt(timeout.Milliseconds(), 10), "set_presence": "offline"}
	if since != "" {
		query["since"] = since
	} else {
		query["timeout"] = "0"
	}
	ctx, cancel := context.WithTimeout(ctx, timeout+2*time.Minute)
	defer cancel()
	body, err := l.get(ctx, mautrix.ClientURLPath{"v3", "sync"}, query)
	if err != nil {
		return nil, fmt.Errorf("sync: %w", err)
	}
	var a syncAnswer
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, fmt.Errorf("sync: read answer: %w", err)
	}
	if a.NextBatch == "" {
		return nil, errors.New("sync: answer has no position")
	}
	raw := event.Transaction{ToDevice: l.addressed(a.ToDevice.Events), DeviceLists: nonEmpty(a.DeviceLists)}
	if since != "" {
		// Dendrite leaves the count out of a first answer; read as zero it
		// would make the bridge upload keys again and again.
		raw.KeyCounts, raw.FallbackKeys = l.own(a.KeyCounts), l.own(a.FallbackKeys)
	}
	t := collect(Sync, since, body, raw)
	t.Next = a.NextBatch
	if since != "" {
		if err := l.rooms(ctx, t, a, since); err != nil {
			return nil, err
		}
	}
	if t.Next == since && t.Empty() {
		return t, nil
	}
	if _, err := l.cfg.Sink.Store(ctx, t); err != nil {
		return t, fmt.Errorf("store sync answer: %w", err)
	}
	return t, nil
}

// rooms adds what happened in the rooms, and fills gaps.
func (l *Loop) rooms(ctx context.Context, t *Transaction, a syncAnswer, since string) error {
	seen := map[id.EventID]bool{}
	for room, r := range a.Rooms.Join {
		if r.Timeline.Limited && r.Timeline.PrevBatch != "" {
			older, err := l.gap(ctx, room, r.Timeline.PrevBatch, since)
			if err != nil {
				return err
			}
			for i := len(older) - 1; i >= 0; i-- {
				t.addEvent(older[i], room, seen)
			}
		}
		for _, e := range r.Timeline.Events {
			t.addEvent(e, room, seen)
		}
		for _, e := range r.Ephemeral.Events {
			t.addEphemeral(e, room)
		}
	}
	return nil
}

// nowhere is what Dendrite gives as the end of the last page, where the specification leaves the end out.
const nowhere = "t0_0"

// gap reads the redactions between two positions of a room, newest first. An empty page is not the last one as long as it has an end
// (Client-Server API, GET /rooms/{roomId}/messages): what the page was made of may have been left out of it.
func (l *Loop) gap(ctx context.Context, room id.RoomID, from, to string) ([]json.RawMessage, error) {
	var out []json.RawMessage
	for range maxGapPages {
		body, err := l.get(ctx, mautrix.ClientURLPath{"v3", "rooms", room, "messages"}, map[string]string{
			"dir": "b", "from": from, "to": to, "limit": strconv.Itoa(gapPage), "filter": `{"types":["` + event.TypeRedaction + `"]}`,
		})
		if err != nil {
			if he := (mautrix.HTTPError{}); errors.As(err, &he) && he.IsStatus(http.StatusForbidden) {
				return out, nil // the bot was put out meanwhile
			}
			return nil, fmt.Errorf("read gap of room: %w", err)
		}
		var page struct {
			Chunk []json.RawMessage `json:"chunk"`
			End   string            `json:"end"`
		}
		if err := json.Unmarshal(body, &page); err != nil {
			return nil, fmt.Errorf("read gap of room: %w", err)
		}
		out = append(out, page.Chunk...)
		if page.End == "" || page.End == from || page.End == to || page.End == nowhere {
			return out, nil
		}
		from = page.End
	}
	l.cfg.Log.Error().Str("room", string(room)).Msg("gap in a room's timeline is too long, some redactions are missed")
	return out, nil
}

func (l *Loop) get(ctx context.Context, path mautrix.ClientURLPath, query map[string]string) ([]byte, error) {
	return l.cfg.Client.MakeFullRequest(ctx, mautrix.FullRequest{
		Method: http.MethodGet, URL: l.cfg.Client.BuildURLWithQuery(path, query), MaxAttempts: 1,
	})
}

// addressed writes user and device into to-device messages, as an appservice
// transaction has them.
func (l *Loop) addressed(list []json.RawMessage) []json.RawMessage {
	var out []json.RawMessage
	for _, raw := range list {
		o, err := event.ParseObject(raw)
		if err != nil {
			continue
		}
		user, _ := json.Marshal(l.cfg.Client.UserID)
		device, _ := json.Marshal(l.cfg.Client.DeviceID)
		out = append(out, event.Merge(o, event.Object{"to_user_id": user, "to_device_id": device}).Encode())
	}
	return out
}

// own wraps what is about the bot's device as an appservice transaction has it.
func (l *Loop) own(v json.RawMessage) json.RawMessage {
	if len(v) == 0 || string(v) == "null" {
		return nil
	}
	b, err := json.Marshal(map[id.UserID]map[id.DeviceID]json.RawMessage{l.cfg.Client.UserID: {l.cfg.Client.DeviceID: v}})
	if err != nil {
		return nil
	}
	return b
}

// nonEmpty is nil for device lists that name nobody.
func nonEmpty(v json.RawMessage) json.RawMessage {
	o, err := event.ParseObject(v)
	if err != nil || len(o.Array("changed", 1)) == 0 && len(o.Array("left", 1)) == 0 {
		return nil
	}
	return v
}
