package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/obs"
	"github.com/matrix-mimi/bridge/internal/relay"
	"github.com/matrix-mimi/bridge/matrixside/bot"
	matrix "github.com/matrix-mimi/bridge/matrixside/client"
)

// newBot makes the bot that people give commands to.
func (a *app) newBot(hs *matrix.Client, p *provider, mind *relay.Relay) (*bot.Bot, error) {
	b, err := bot.New(bot.Config{
		Actions:   mind,
		Matrix:    hs,
		LevelOf:   a.levelOf,
		User:      a.bot(),
		Prefix:    a.cfg.Bridge.CommandPrefix,
		Domain:    a.cfg.MIMI.Domain,
		Version:   buildVersion(),
		AcctURI:   a.naming().AcctURI,
		Resolver:  mind,
		Providers: func(ctx context.Context) ([]bot.Provider, error) { return a.providers(ctx, p) },
		Status:    func(ctx context.Context) []string { return a.statusLines(ctx, p) },
		Started:   time.Now(),
		Now:       time.Now,
		Log:       a.log.With().Str(obs.FieldComponent, "bot").Logger(),
	})
	if err == nil {
		b.Register(bot.Consent(mind)...)
		b.Register(bot.Search(mind)...)
		b.Register(bot.Link(mind), bot.Receipts(mind))
		b.Register(bot.Introduction(mind)...)
		b.Register(bot.Knock(mind)...)
		b.Register(bot.QR(func(ctx context.Context, data []byte, contentType, name string) (string, error) {
			return hs.Upload(ctx, "", bytes.NewReader(data), int64(len(data)), contentType, name)
		}))
		b.Register(bot.Reports(mind)...)
		b.Register(bot.Moderate(mind)...)
	}
	if err == nil {
		b.Register(retryCommand(mind))
	}
	if err == nil && a.device != nil {
		b.Register(discardSession(a.device))
	}
	return b, err
}

// levelOf is what a user may do with the bridge, in the bot's words.
func (a *app) levelOf(user id.UserID) bot.Level {
	l, err := bot.ParseLevel(string(a.cfg.Permission(string(user))))
	if err != nil {
		return bot.Block
	}
	return l
}

// providers tells how those that are known do.
func (a *app) providers(ctx context.Context, p *provider) ([]bot.Provider, error) {
	known, err := a.knownProviders(ctx)
	if err != nil {
		return nil, err
	}
	failing, err := a.failingProviders(ctx)
	if err != nil {
		return nil, err
	}
	failing = append(failing, p.client.Open()...)
	out := make([]bot.Provider, len(known))
	for i, domain := range known {
		out[i] = bot.Provider{Domain: domain, Up: !slices.Contains(failing, domain), Blocked: p.book.Of(domain).Blocked}
	}
	return out, nil
}

// failingProviders are the domains of those for whom something waits that they did not take so far.
func (a *app) failingProviders(ctx context.Context) (domains []string, err error) {
	lanes, err := a.db.FailingLanes(ctx, greetMost)
	for _, l := range lanes {
		if domain, ok := strings.CutPrefix(l.Dest, routeMIMI+":"); ok {
			domains = append(domains, domain)
		}
	}
	return domains, err
}

// knownProviders are, in order, the domains of those that something was ever sent to, or something is noted of, and of those that
// the settings name.
func (a *app) knownProviders(ctx context.Context) ([]string, error) {
	const prefix = routeMIMI + ":"
	sent, err := a.db.Destinations(ctx, prefix, greetMost)
	if err != nil {
		return nil, err
	}
	noted, err := a.db.Peers(ctx)
	if err != nil {
		return nil, err
	}
	all := slices.AppendSeq(noted, maps.Keys(a.cfg.MIMI.Peers))
	for _, dest := range sent {
		all = append(all, strings.TrimPrefix(dest, prefix))
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// statusLines tells administrators how the bridge does.
func (a *app) statusLines(ctx context.Context, p *provider) []string {
	var out []string
	for name, why := range a.health.Ready(ctx) {
		out = append(out, "not ready: "+name+": "+why)
	}
	for name, why := range a.health.Warnings(ctx) {
		out = append(out, "in trouble: "+name+": "+why)
	}
	slices.Sort(out)
	for _, domain := range p.client.Open() {
		out = append(out, "left alone after failures: "+domain)
	}
	out = append(out, fmt.Sprintf("the certificate ends in %d days", int(p.certificateExpiry()/86400)))
	return out
}
