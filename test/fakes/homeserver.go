package fakes

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Config says what a homeserver is.
type Config struct {
	// Name is its server_name.
	Name string
	// Listen is host:port; port 0 takes a free one.
	Listen string
	// Bot is the localpart of the bridge's bot.
	Bot string
	// Bridge is the base address of the bridge's appservice listener.
	Bridge string
	// BridgeToken is the hs_token, Token the as_token of the registration.
	BridgeToken, Token string
}

// Fault is what a homeserver does to a request of the bridge.
type Fault int

const (
	// Fine answers it.
	Fine Fault = iota
	// Unavailable answers 503 and does nothing.
	Unavailable
	// LostAnswer does what is asked and closes the connection.
	LostAnswer
	// NoAnswer does what is asked and keeps silent until the bridge gives up or dies.
	NoAnswer
)

// Homeserver is a Matrix homeserver that answers at once. It is safe for concurrent use.
type Homeserver struct {
	Config
	server   *http.Server
	listener net.Listener

	mu      sync.Mutex
	salt    string
	count   int
	rooms   map[string]*room
	order   []string
	aliases map[string]string
	users   map[string]string // who exists, with display name
	txns    map[string]string
	repeats int
	queue   []map[string]any
	changed chan struct{}
	changes int64
	fault   func(r *http.Request) Fault
	pushed  int

	stop context.CancelFunc
	done chan struct{}
}

// Start starts a homeserver. Its Close ends it.
func Start(cfg Config) (*Homeserver, error) {
	ln, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("start homeserver %s: %w", cfg.Name, err)
	}
	h := &Homeserver{Config: cfg, listener: ln, salt: fmt.Sprintf("x%x", time.Now().UnixNano()&0xffffff), rooms: map[string]*room{}, aliases: map[string]string{},
		users: map[string]string{}, txns: map[string]string{}, changed: make(chan struct{}), done: make(chan struct{})}
	h.server = &http.Server{Handler: h.routes(), ReadHeaderTimeout: 10 * time.Second}
	ctx, cancel := context.WithCancel(context.Background())
	h.stop = cancel
	go func() { _ = h.server.Serve(ln) }()
	go func() {
		defer close(h.done)
		h.push(ctx)
	}()
	return h, nil
}

// Close ends the homeserver.
func (h *Homeserver) Close() {
	h.stop()
	<-h.done
	_ = h.server.Close()
}

// MXID makes the id of a user of this homeserver.
func (h *Homeserver) MXID(local string) string { return "@" + local + ":" + h.Name }

// Ours tells the users of the bridge: its bot and ghosts.
func (h *Homeserver) Ours(user string) bool {
	return user == h.MXID(h.Bot) || (strings.HasPrefix(user, "@mimi_") || strings.HasPrefix(user, "@acct_")) && strings.HasSuffix(user, ":"+h.Name)
}

// SetFault decides about every request of the bridge from now on; nil answers all.
func (h *Homeserver) SetFault(f func(r *http.Request) Fault) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fault = f
}

// Repeats is how often a transaction id came again and was answered from memory.
func (h *Homeserver) Repeats() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.repeats
}

// touch wakes everybody who waits for something. The lock is held.
func (h *Homeserver) touch() {
	close(h.changed)
	h.changed = make(chan struct{})
	h.changes++
}

// Changes counts what happened at the homeserver so far: a wait that sees it grow waits for something.
func (h *Homeserver) Changes() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.changes
}

// Wait returns when the condition holds, or with an error when ctx ends. It is asked again after every change.
func (h *Homeserver) Wait(ctx context.Context, what string, holds func() bool) error {
	for {
		h.mu.Lock()
		changed := h.changed
		h.mu.Unlock()
		if holds() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%s waits for %s: %w", h.Name, what, context.Cause(ctx))
		}
	}
}

// Register makes a person.
func (h *Homeserver) Register(local string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.users[h.MXID(local)] = local
	return h.MXID(local)
}

// Create makes a room for a person.
func (h *Homeserver) Create(user, name string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.create(user, map[string]any{"name": name}).id
}

// Act lets a person invite, kick, ban, unban, or leave and join (target is then the person).
func (h *Homeserver) Act(roomID, what, user, target string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.rooms[roomID]
	if r == nil {
		return fmt.Errorf("%s: no room %q", h.Name, roomID)
	}
	if _, why := h.act(r, what, user, target, nil); why != "" {
		return fmt.Errorf("%s: %s", h.Name, why)
	}
	return nil
}

// Say lets a person write a text and returns the event's id.
func (h *Homeserver) Say(roomID, user, text string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.emit(h.rooms[roomID], user, "m.room.message", nil, map[string]any{"msgtype": "m.text", "body": text}, 0).ID
}

// Set lets a person write a state event with an empty key.
func (h *Homeserver) Set(roomID, user, typ string, content map[string]any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	empty := ""
	h.emit(h.rooms[roomID], user, typ, &empty, content, 0)
}
