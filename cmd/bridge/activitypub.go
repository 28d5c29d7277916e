package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/matrix-mimi/bridge/internal/config"
	"github.com/matrix-mimi/bridge/internal/obs"
	"github.com/matrix-mimi/bridge/internal/outbox"
	"github.com/matrix-mimi/bridge/internal/relay"
	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/bot"
	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
)

// routeActivityPub is the kind of destinations of ActivityPub servers.
const routeActivityPub = "ap"

// activityPub is the ActivityPub face, when the settings switch it on.
type activityPub struct {
	face   *relay.ActivityPub
	server *ap.Server
	sender *ap.Sender
	blocks *blockedDomains
}

// blockedDomains are the domains that ActivityPub is not spoken with: those of the settings and those that administrators have blocked, each with what is below it.
type blockedDomains struct {
	settings []string
	byHand   atomic.Pointer[[]string]
}

// has tells whether a host is blocked.
func (b *blockedDomains) has(host string) bool {
	below := func(d string) bool { return host == d || strings.HasSuffix(host, "."+d) }
	hand := b.byHand.Load()
	return slices.ContainsFunc(b.settings, below) || hand != nil && slices.ContainsFunc(*hand, below)
}

// set says whom administrators have blocked now.
func (b *blockedDomains) set(domains []string) { b.byHand.Store(&domains) }

// all are the domains in a form that can be compared.
func (b *blockedDomains) all() string {
	list := slices.Clone(b.settings)
	if hand := b.byHand.Load(); hand != nil {
		list = append(list, *hand...)
	}
	return strings.Join(list, " ")
}

// newActivityPub makes the face; nil when it is switched off.
func (a *app) newActivityPub(ctx context.Context, mind *relay.Relay, p *provider) (*activityPub, error) {
	cfg := a.cfg.ActivityPub
	if !cfg.Enabled {
		return nil, nil
	}
	log := a.log.With().Str(obs.FieldComponent, "activitypub").Logger()
	site := ap.Site{Base: "https://" + a.cfg.MIMI.Domain}
	face := relay.NewActivityPub(mind, site, nil)
	blocks := &blockedDomains{settings: cfg.BlockedDomains}
	face.Blocked, face.CoverEvery = blocks.has, cfg.CoverEvery.D()
	fc := ap.FetcherConfig{
		Transport: newFediTransport(a.cfg, p.book),
		UserAgent: "mimi-bridge/" + buildVersion() + " (+" + site.Base + ")", Blocked: blocks.has, Memory: ap.NewSchemeMemory(scheme(cfg.Signatures)),
	}
	if cfg.SignedFetch {
		key, err := face.Key(ctx, site.Instance())
		if err != nil {
			return nil, fmt.Errorf("ActivityPub: key of the instance: %w", err)
		}
		fc.Key = key
	}
	fetch := ap.NewFetcher(fc)
	face.People = ap.NewPeople(fetch)
	refused := a.metrics.Counter("activitypub_refused_total", "Requests of ActivityPub servers that were refused, by status.", "status")
	server, err := ap.NewServer(ap.ServerConfig{
		Site: site, Backend: face, Gate: ap.NewGate(ap.GateConfig{People: face.People, Blocked: blocks.has}), Version: buildVersion(), MaxInbox: int64(cfg.MaxInbox),
		Observe: func(e ap.Event) {
			refused.WithLabelValues(fmt.Sprint(e.Status)).Inc()
			log.Info().Str("path", e.Path).Str("signer", e.Signer).Int("status", e.Status).Err(e.Err).Msg("refused a request")
		},
	})
	return &activityPub{face: face, server: server, sender: ap.NewSender(fetch), blocks: blocks}, err
}

func scheme(s config.SignatureScheme) ap.Scheme {
	switch s {
	case config.SignaturesCavage:
		return ap.Cavage
	case config.SignaturesRFC9421:
		return ap.RFC9421
	}
	return ""
}

// handlers answer WebFinger and everything that is not MIMI's.
func (p *activityPub) handlers() (webFinger, other http.Handler) {
	if p == nil {
		return http.NotFoundHandler(), http.NotFoundHandler()
	}
	return http.HandlerFunc(p.server.WebFinger), p.server
}

// Send implements outbox.Sender: one activity, signed by its actor.
func (p *activityPub) Send(ctx context.Context, rows []store.Outbound) outbox.Result {
	row := rows[0]
	d, err := p.face.Deliver(ctx, p.sender, row.Target, row.Data)
	switch {
	case errors.Is(err, ap.ErrUnfit):
		return outbox.Result{Class: outbox.Refused, Reason: err.Error()}
	case err != nil:
		return outbox.Result{Class: outbox.Retry, Reason: err.Error()}
	}
	out := outbox.Result{Status: d.Status, RetryAfter: d.RetryAfter, Class: outbox.Retry}
	switch {
	case d.Done():
		out.Class = outbox.Done
	case d.Refused():
		out.Class = outbox.Refused
	}
	if out.Class != outbox.Done {
		out.Reason = "the server answers " + http.StatusText(d.Status)
	}
	return out
}

// commandTime bounds what a command may wait for other servers.
const commandTime = 30 * time.Second

// commands are what people can ask the bot for.
func (p *activityPub) commands() []*bot.Handler {
	return []*bot.Handler{{
		Name: "fediverse", Aliases: []string{"ap"}, Usage: "<@user@domain>…", Needs: bot.User, MinArgs: 1,
		Help: "begins an encrypted chat with one or more people on ActivityPub servers, or finds the one that you have",
		Do: func(ctx context.Context, e *bot.Event) error {
			ctx, cancel := context.WithTimeout(ctx, commandTime)
			defer cancel()
			if err := p.face.StartChat(ctx, e.Sender, e.Args...); err != nil {
				return bot.Tell("No chat with %s: %s", bot.Quote(e.Rest), bot.Quote(err.Error()))
			}
			return e.Reply("A chat with %s is being made: you will be invited to it, or it is there already. It is encrypted as far as this bridge, which reads it.", bot.Quote(e.Rest))
		},
	}, {
		Name: "fingerprint", Usage: "<@user@domain> [verify [first digits]]", Needs: bot.User, MinArgs: 1,
		Help: "shows the keys of somebody on an ActivityPub server, to compare them over another way, and notes that they are right",
		Do: func(ctx context.Context, e *bot.Event) error {
			ctx, cancel := context.WithTimeout(ctx, commandTime)
			defer cancel()
			if len(e.Args) > 1 && e.Args[1] == "verify" {
				return p.verifyKeys(ctx, e)
			}
			list, err := p.face.Fingerprints(ctx, string(e.Sender), e.Args[0])
			if err != nil {
				return bot.Tell("No keys of %s: %s", bot.Quote(e.Args[0]), bot.Quote(err.Error()))
			}
			lines := []string{"Keys of " + bot.Quote(e.Args[0]) + ":"}
			for _, f := range list {
				lines = append(lines, "* "+keyLine(f))
			}
			return e.Reply("%s", strings.Join(lines, "\n"))
		},
	}}
}

// keyLine tells of one key.
func keyLine(f relay.Fingerprint) string {
	line := "`" + f.Text + "`"
	if f.Client != "" {
		line += " of " + bot.Quote(f.Client)
	}
	switch {
	case !f.Offered:
		line += ", offered no longer"
	case f.New:
		line += ", new since " + f.Seen.UTC().Format(time.DateOnly)
	default:
		line += ", seen since " + f.Seen.UTC().Format(time.DateOnly)
	}
	if f.Verified {
		return line + ", you found it right"
	}
	return line + ", not compared by you"
}

// verifyKeys notes that the sender compared keys.
func (p *activityPub) verifyKeys(ctx context.Context, e *bot.Event) error {
	n, err := p.face.VerifyKeys(ctx, string(e.Sender), e.Args[0], strings.Join(e.Args[2:], ""))
	switch {
	case err != nil:
		return bot.Tell("No keys of %s: %s", bot.Quote(e.Args[0]), bot.Quote(err.Error()))
	case n == 0:
		return bot.Tell("%s has no key that begins so. Write the first eight digits or more.", bot.Quote(e.Args[0]))
	}
	return e.Reply("Noted: you found %d key(s) of %s right.", n, bot.Quote(e.Args[0]))
}
