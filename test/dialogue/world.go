package dialogue

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/mimiside/peer/ca"
	"github.com/matrix-mimi/bridge/test/harness"
)

// Options says with what a world is built.
type Options struct {
	Dir      string           // everything is kept in here
	Software harness.Software // of the homeservers
	Bridge   string           // the bridge's binary; only needed when there are bridges
	// Postgres makes a new database and returns its URI. Needed when a bridge
	// wants PostgreSQL.
	Postgres func(ctx context.Context, hint string) (uri string, err error)
	// AllPostgres gives PostgreSQL to every bridge, whatever the script says.
	AllPostgres bool
	// Env is added to the environment of every bridge, for example to name a
	// kill point.
	Env []string
	// Log is told what happens, one line each. May be nil.
	Log func(format string, args ...any)
}

// Plan is who is on stage.
type Plan struct {
	Homeservers []string // short names
	Bridges     []BridgePlan
	Providers   []string // domains of providers that are no bridges
}

// World is a stage: homeservers, bridges beside them, people on them.
type World struct {
	opts        Options
	ca          *ca.CA
	homeservers map[string]*harness.Homeserver
	bridges     map[string]*Bridge
	order       []string // domains of the bridges, as planned
	people      map[string]*Person
	strangers   map[string]stranger
}

// ServerName returns the server_name of the homeserver with a short name.
func ServerName(short string) string { return "hs." + short + ".example" }

// NewWorld starts everything that the plan names and returns when all of it
// answers. The caller ends it with Close, also after an error of its own.
func NewWorld(ctx context.Context, plan Plan, o Options) (*World, error) {
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	authority, err := ca.New("providers of a dialogue", ca.P256, time.Now())
	if err != nil {
		return nil, err
	}
	w := &World{opts: o, ca: authority, homeservers: map[string]*harness.Homeserver{}, bridges: map[string]*Bridge{}, people: map[string]*Person{},
		strangers: map[string]stranger{}}
	if err := w.build(ctx, plan); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

func (w *World) build(ctx context.Context, plan Plan) error {
	hsPorts, registrations, presence := map[string]int{}, map[string][]string{}, map[string]bool{}
	for _, name := range plan.Homeservers {
		port, err := harness.FreePort()
		if err != nil {
			return err
		}
		hsPorts[name] = port
	}
	for _, p := range plan.Bridges {
		b, err := newBridge(w, p, "http://"+harness.Loopback(hsPorts[p.Homeserver]))
		if err != nil {
			return err
		}
		w.bridges[p.Domain] = b
		presence[p.Homeserver] = presence[p.Homeserver] || p.Settings["bridge.presence"] == "true"
		w.order = append(w.order, p.Domain)
	}
	if err := w.startStrangers(plan.Providers); err != nil {
		return err
	}
	for _, domain := range w.order {
		b := w.bridges[domain]
		if err := b.prepare(ctx, w); err != nil {
			return err
		}
		registrations[b.plan.Homeserver] = append(registrations[b.plan.Homeserver], b.registration())
	}
	for _, name := range plan.Homeservers {
		hs, err := harness.StartHomeserver(ctx, w.opts.Software, harness.HomeserverConfig{
			ServerName: ServerName(name), Dir: filepath.Join(w.opts.Dir, "homeserver-"+name), Port: hsPorts[name], Registrations: registrations[name],
			Presence: presence[name],
		})
		if err != nil {
			return err
		}
		w.homeservers[name] = hs
		w.opts.Log("homeserver %s runs at %s", ServerName(name), hs.URL())
	}
	for _, domain := range w.order {
		if err := w.bridges[domain].Start(ctx); err != nil {
			return err
		}
		w.opts.Log("bridge %s runs beside %s", domain, ServerName(w.bridges[domain].plan.Homeserver))
	}
	return nil
}

// Homeserver returns a homeserver by its short name, nil when there is none.
func (w *World) Homeserver(short string) *harness.Homeserver { return w.homeservers[short] }

// Bridge returns a bridge by its domain, nil when there is none.
func (w *World) Bridge(domain string) *Bridge { return w.bridges[domain] }

// bridgeAt returns the first bridge beside a homeserver.
func (w *World) bridgeAt(short string) *Bridge {
	for _, domain := range w.order {
		if b := w.bridges[domain]; b.plan.Homeserver == short {
			return b
		}
	}
	return nil
}

// Person returns a person, "alice@one", and brings it on stage (registered,
// logged in, reading /sync) when it is not there yet.
func (w *World) Person(ctx context.Context, name string) (*Person, error) {
	if p := w.people[name]; p != nil {
		return p, nil
	}
	p, err := w.newcomer(ctx, name)
	if err == nil {
		w.people[name] = p
	}
	return p, err
}

// newcomer makes somebody who is not counted among the people yet. Several can be made at the same time.
func (w *World) newcomer(ctx context.Context, name string) (*Person, error) {
	local, short, ok := strings.Cut(name, "@")
	hs := w.homeservers[short]
	if !ok || hs == nil {
		return nil, fmt.Errorf("there is no homeserver for %s", name)
	}
	cli, err := hs.User(ctx, local)
	if err != nil {
		return nil, err
	}
	p := newPerson(w, name, cli)
	if err := p.start(ctx); err != nil {
		return nil, err
	}
	return p, nil
}

// MXID returns the Matrix id by which somebody is seen on a homeserver: people
// of that homeserver by their own, all others as a ghost. who is a person, a
// mimi:// or acct: address, or a Matrix id.
func (w *World) MXID(short, who string) (id.UserID, error) {
	server := ServerName(short)
	switch {
	case strings.HasPrefix(who, "@"):
		return id.UserID(who), nil
	case strings.HasPrefix(who, "mimi://"):
		domain, local, ok := strings.Cut(strings.TrimPrefix(who, "mimi://"), "/u/")
		if !ok {
			return "", fmt.Errorf("%s is no user", who)
		}
		return ghost("mimi_"+escape(domain)+"=2f"+escape(local), server), nil
	case strings.HasPrefix(who, "acct:"):
		local, domain, ok := strings.Cut(strings.TrimPrefix(who, "acct:"), "@")
		if !ok {
			return "", fmt.Errorf("%s is no address", who)
		}
		return ghost("acct_"+escape(local)+"=40"+escape(domain), server), nil
	}
	local, home, _ := strings.Cut(who, "@")
	if home == short {
		return id.NewUserID(local, server), nil
	}
	b := w.bridgeAt(home)
	if b == nil {
		return "", fmt.Errorf("%s has no bridge beside the homeserver and cannot be seen at %s", who, short)
	}
	return ghost("mimi_"+escape(b.plan.Domain)+"=2f"+escape(local), server), nil
}

func ghost(localpart, server string) id.UserID { return id.NewUserID(localpart, server) }

// escape is the rule of docs/decisions/0007 for the names that scripts use,
// written apart from the bridge's own code on purpose: if that changed, people
// would no longer find their ghosts.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '.', c == '-':
			b.WriteByte(c)
		case c >= 'A' && c <= 'Z':
			b.WriteByte('_')
			b.WriteByte(c + 'a' - 'A')
		case c == '_':
			b.WriteString("__")
		default:
			fmt.Fprintf(&b, "=%02x", c)
		}
	}
	return b.String()
}

// Close stops everything. The directory stays.
func (w *World) Close() error {
	var errs []error
	for _, p := range w.people {
		p.stop()
	}
	for _, b := range w.bridges {
		errs = append(errs, b.close())
	}
	for _, h := range w.homeservers {
		errs = append(errs, h.Stop())
	}
	for _, p := range w.strangers {
		p.Close()
	}
	return errors.Join(errs...)
}

// logTails returns the ends of the bridges' logs, for messages.
func (w *World) logTails(n int) string {
	var b strings.Builder
	for _, domain := range w.order {
		data, err := os.ReadFile(w.bridges[domain].logFile())
		if err != nil {
			continue
		}
		fmt.Fprintf(&b, "\nlog of bridge %s ends:\n%s", domain, data[max(0, len(data)-n):])
	}
	return b.String()
}
