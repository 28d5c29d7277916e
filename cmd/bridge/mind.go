package main

import (
	"context"
	"time"

	"github.com/matrix-mimi/bridge/internal/config"
	"github.com/matrix-mimi/bridge/internal/obs"
	"github.com/matrix-mimi/bridge/internal/relay"
	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	matrix "github.com/matrix-mimi/bridge/matrixside/client"
	"github.com/matrix-mimi/bridge/mimiside/follower"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// relayConfig turns the settings into what the relay is asked to keep to.
func relayConfig(cfg *config.Config, bot string) relay.Config {
	waiting := follower.DefaultBounds
	waiting.Rows, waiting.Bytes, waiting.Age = cfg.Limits.WaitingRows, int64(cfg.Limits.WaitingSize), cfg.Limits.WaitingAge.D()
	m := mapping.Options{MentionPrefix: cfg.Bridge.PrefixSilentMentions, SenderTime: cfg.Bridge.SenderTimestamps, CallURL: cfg.Bridge.CallURL, Languages: cfg.Bridge.Languages,
		Mentions: cfg.Limits.Mentions}
	if cfg.Bridge.ExternalIDs {
		m.ExternalID = cfg.Homeserver.Domain
	}
	past := cfg.MLS.PastEpochs
	if past == 0 {
		past = -1 // none at all; 0 is the engine's default
	}
	return relay.Config{
		Suite: mls.Suite(cfg.MLS.CipherSuites[0]), X509: cfg.MLS.Credential == config.CredentialX509, Bot: bot, BotName: cfg.Appservice.Bot.Displayname,
		CommandPrefix: cfg.Bridge.CommandPrefix, GhostName: cfg.Bridge.GhostName, MaxExport: cfg.Bridge.MaxExport,
		Stock: cfg.MLS.KeyPackageStock, Renew: cfg.MLS.UpdateInterval.D(), Waiting: waiting,
		InviteTimeout: cfg.Bridge.InviteTimeout.D(), Consistency: cfg.Bridge.ConsistencyInterval.D(),
		NoQueries: cfg.MIMI.IdentifierQuery == config.QueryOff, HandlesOnly: cfg.MIMI.IdentifierQuery == config.QueryHandle,
		AllowWorldReadable: cfg.Bridge.AllowWorldReadable, AllowLoggingForbidden: cfg.Bridge.AllowLoggingForbidden, StatusEvents: cfg.Bridge.MessageStatusEvents,
		DoublePuppet: cfg.Bridge.DoublePuppet,
		NoReceipts:   cfg.Bridge.ReadReceipts == config.ReceiptsOff, Mapping: m,
		Limits:    mls.Limits{MaxForward: cfg.MLS.MaxForward, MaxSkipped: cfg.MLS.MaxSkipped, PastEpochs: past, PastAge: cfg.MLS.PastEpochAge.D()},
		KeyClaims: int64(cfg.Limits.KeyClaims), PeerKeyClaims: int64(cfg.Limits.PeerKeyClaims), GroupInfos: int64(cfg.Limits.GroupInfoRequests),
		Reports: int64(cfg.Limits.Reports), ReportRoom: cfg.Bridge.ReportRoom,
	}
}

// newRelay makes the relay. wake is told of lanes with new rows.
func (a *app) newRelay(ctx context.Context, hs *matrix.Client, p *provider, wake func([]store.Woken)) (*relay.Relay, error) {
	log := a.log.With().Str(obs.FieldComponent, "relay").Logger()
	alerts := a.metrics.Counter("alerts_total", "Things that an operator should look at, by kind; the log says more.", "kind")
	rc := relayConfig(a.cfg, string(a.bot()))
	rc.Owner = a.owner("relay")
	rc.Encryption = encryptionConfig(a.cfg.Encryption)
	rc.Media = mediaConfig(a.cfg)
	return relay.New(ctx, relay.Deps{
		Files:     a.media.Assets,
		PublicURL: a.pictures().URL,
		Store:     a.db,
		Naming:    a.naming(),
		Config:    rc,
		Admins:    a.cfg.Admins(),
		IsAdmin:   func(mxid string) bool { return a.cfg.Permission(mxid) == config.LevelAdmin },
		Permitted: func(mxid string) bool { return a.cfg.Permission(mxid) != config.LevelBlock },
		Consent: func(peer string) bool {
			trust, allowed := a.cfg.PeerTrust(peer)
			return allowed && trust.Consent == config.ConsentOpen
		},
		Ask: func(peer string) bool {
			trust, allowed := a.cfg.PeerTrust(peer)
			return allowed && trust.Consent != config.ConsentClosed
		},
		Blocked: func(domain string) bool { return p.book.Of(domain).Blocked },
		PeerAuthorities: func(ctx context.Context, domain string) ([][]byte, error) {
			if p.book.Of(domain).Blocked {
				return nil, nil
			}
			return p.authorities(ctx, a.cfg, domain)
		},
		DemandCertificates: func(domain string) bool {
			trust, _ := a.cfg.PeerTrust(domain)
			return trust.RequireCertificates && domain != a.cfg.MIMI.Domain
		},
		MayShare:   p.client.MayShare,
		NameOf:     a.nameOf(hs),
		ShowTyping: a.showTyping(hs), ShowPresence: a.showPresence(hs),
		Requester:  mimiRequester{p.client},
		Homeserver: homeserver{hs},
		Decrypter:  a.decrypter(),
		WakeLanes:  wake,
		Alert: func(kind, message string) {
			alerts.WithLabelValues(kind).Inc()
			log.Error().Str("alert", kind).Msg(message)
		},
		Clock: time.Now,
		Log:   log,
	})
}

// owner is the name under which a part holds leases. It names the run of the
// process, so that the next run of this installation ends what a killed one
// still holds; where nothing would know it again it is random ("").
func (a *app) owner(part string) string {
	if life := a.db.Life(); life != "" {
		return part + "/" + life
	}
	return ""
}
