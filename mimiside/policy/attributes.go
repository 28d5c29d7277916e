package policy

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/matrix-mimi/bridge/internal/tlspl"
)

// Optionality of a feature in a room (draft-ietf-mimi-room-policy-03, Optionality). Some selects of the draft
// say "mandatory" for Required.
type Optionality uint8

const (
	Optional  Optionality = 0
	Required  Optionality = 1
	Forbidden Optionality = 2
)

var optionalities = []string{Optional: "optional", Required: "required", Forbidden: "forbidden"}

// String is the draft's word.
func (o Optionality) String() string {
	if int(o) < len(optionalities) {
		return optionalities[o]
	}
	return fmt.Sprintf("optionality %d", uint8(o))
}

// ParseOptionality reads the draft's word; false for any other.
func ParseOptionality(word string) (Optionality, bool) {
	n := slices.Index(optionalities, word)
	return Optionality(max(0, n)), n >= 0
}

func readOptionality(r *tlspl.Reader) Optionality { return readEnum(r, Forbidden) }

// StatusNotificationPolicy is component 0x0028 (draft-ietf-mimi-room-policy-03, StatusNotificationPolicy).
type StatusNotificationPolicy struct {
	DeliveryNotifications Optionality
	ReadReceipts          Optionality
}

// Marshal encodes the policy.
func (p *StatusNotificationPolicy) Marshal() []byte {
	return []byte{byte(p.DeliveryNotifications), byte(p.ReadReceipts)}
}

// UnmarshalStatusNotificationPolicy decodes the policy.
func UnmarshalStatusNotificationPolicy(b []byte) (*StatusNotificationPolicy, error) {
	r := tlspl.NewReader(b)
	p := &StatusNotificationPolicy{readOptionality(r), readOptionality(r)}
	return p, finish("status_notification_policy", r)
}

// JoinLinkPolicy is component 0x0029 (draft-ietf-mimi-room-policy-03, JoinLinkPolicy).
type JoinLinkPolicy struct {
	// OnRequest: at most one link is kept in the room.
	OnRequest bool
	// RequestURI is where a link can be asked for. The struct calls it join_link, the prose link_requests.
	RequestURI string
	// MultiUser: a link serves several users.
	MultiUser bool
	// Expiration is how long a new link is valid, in seconds.
	Expiration uint32
}

// Marshal encodes the policy.
func (p *JoinLinkPolicy) Marshal() []byte {
	b := tlspl.AppendString(appendBool(nil, p.OnRequest), p.RequestURI)
	return tlspl.AppendUint32(appendBool(b, p.MultiUser), p.Expiration)
}

// UnmarshalJoinLinkPolicy decodes the policy.
func UnmarshalJoinLinkPolicy(b []byte) (*JoinLinkPolicy, error) {
	r := tlspl.NewReader(b)
	p := &JoinLinkPolicy{readBool(r), readURI(r), readBool(r), r.Uint32()}
	return p, finish("join_link_policy", r)
}

// JoinLinks is the data of component 0x002A (draft-ietf-mimi-room-policy-03, JoinLinksData): the active join links.
type JoinLinks []string

// Marshal encodes the links.
func (l JoinLinks) Marshal() []byte { return appendList(nil, l, tlspl.AppendString) }

// UnmarshalJoinLinks decodes links.
func UnmarshalJoinLinks(b []byte) (JoinLinks, error) {
	r := tlspl.NewReader(b)
	l := JoinLinks(readList(r, MaxList, readLink))
	return l, finish("join_links", r)
}

func readLink(r *tlspl.Reader) string { return string(r.Opaque(MaxText)) }

// JoinLinksUpdate is the update of component 0x002A (draft-ietf-mimi-room-policy-03, JoinLinksUpdate). As for
// participants, indices refer to the links as committed in the epoch.
type JoinLinksUpdate struct {
	Removed []uint32
	Added   []string
}

// Marshal encodes the update.
func (u *JoinLinksUpdate) Marshal() []byte {
	return appendList(appendList(nil, u.Removed, tlspl.AppendUint32), u.Added, tlspl.AppendString)
}

// UnmarshalJoinLinksUpdate decodes an update.
func UnmarshalJoinLinksUpdate(b []byte) (*JoinLinksUpdate, error) {
	r := tlspl.NewReader(b)
	u := &JoinLinksUpdate{Removed: readList(r, MaxList, readUint32), Added: readList(r, MaxList, readLink)}
	return u, finish("JoinLinksUpdate", r)
}

// LinkPreviewPolicy is component 0x002B (draft-ietf-mimi-room-policy-03, LinkPreviewPolicy).
type LinkPreviewPolicy struct {
	// AutodetectHyperlinks is never Required.
	AutodetectHyperlinks  Optionality
	SendLinkPreviews      Optionality
	AutomaticLinkPreviews Optionality
	ProxyUse              Optionality
	// Proxy is a URI unless ProxyUse is Forbidden.
	Proxy string
}

// Marshal encodes the policy, the proxy as the draft writes it: a vector of Uri structures.
func (p *LinkPreviewPolicy) Marshal() []byte {
	b := []byte{byte(p.AutodetectHyperlinks), byte(p.SendLinkPreviews), byte(p.AutomaticLinkPreviews), byte(p.ProxyUse)}
	if p.ProxyUse != Forbidden {
		b = appendURIVector(b, p.Proxy)
	}
	return b
}

// UnmarshalLinkPreviewPolicy decodes the policy.
func UnmarshalLinkPreviewPolicy(b []byte) (*LinkPreviewPolicy, error) {
	r := tlspl.NewReader(b)
	p := &LinkPreviewPolicy{
		AutodetectHyperlinks: readOptionality(r), SendLinkPreviews: readOptionality(r),
		AutomaticLinkPreviews: readOptionality(r), ProxyUse: readOptionality(r),
	}
	if p.ProxyUse != Forbidden {
		p.Proxy = readURIVector(r)
	}
	if p.AutodetectHyperlinks == Required {
		r.Fail(errors.New("autodetect_hyperlinks_in_text is required"))
	}
	return p, finish("link_preview_policy", r)
}

// LoggingPolicy is component 0x002D (draft-ietf-mimi-room-policy-03, LoggingPolicy). The room is being logged
// when Clients is not empty and Logging is not Forbidden.
type LoggingPolicy struct {
	Logging Optionality
	// Clients are the client URIs that log, at most one of a provider.
	Clients               []string
	MachineReadablePolicy string
	HumanReadablePolicy   string
}

// Active tells whether the room is being logged.
func (p *LoggingPolicy) Active() bool { return p.Logging != Forbidden && len(p.Clients) > 0 }

// Marshal encodes the policy.
func (p *LoggingPolicy) Marshal() []byte {
	b := []byte{byte(p.Logging)}
	if p.Logging == Forbidden {
		return b
	}
	b = appendList(b, p.Clients, tlspl.AppendString)
	return tlspl.AppendString(tlspl.AppendString(b, p.MachineReadablePolicy), p.HumanReadablePolicy)
}

// UnmarshalLoggingPolicy decodes the policy.
func UnmarshalLoggingPolicy(b []byte) (*LoggingPolicy, error) {
	r := tlspl.NewReader(b)
	p := &LoggingPolicy{Logging: readOptionality(r)}
	if p.Logging != Forbidden {
		p.Clients, p.MachineReadablePolicy, p.HumanReadablePolicy = readList(r, MaxList, readURI), readURI(r), readURI(r)
	}
	if p.Logging == Required && len(p.Clients) == 0 {
		r.Fail(errors.New("logging is required and there is no logging client"))
	}
	return p, finish("logging_policy", r)
}

// HistoryPolicy is component 0x002E (draft-ietf-mimi-room-policy-03, HistoryPolicy).
type HistoryPolicy struct {
	Sharing Optionality
	// Roles may share history; not 0, not 1, and none that cannot have clients.
	Roles         []uint32
	Automatically bool
	// MaxPeriod is how much history may be shared, in seconds.
	MaxPeriod uint32
}

// Marshal encodes the policy.
func (p *HistoryPolicy) Marshal() []byte {
	b := []byte{byte(p.Sharing)}
	if p.Sharing == Forbidden {
		return b
	}
	b = appendBool(appendList(b, p.Roles, tlspl.AppendUint32), p.Automatically)
	return tlspl.AppendUint32(b, p.MaxPeriod)
}

// UnmarshalHistoryPolicy decodes the policy.
func UnmarshalHistoryPolicy(b []byte) (*HistoryPolicy, error) {
	r := tlspl.NewReader(b)
	p := &HistoryPolicy{Sharing: readOptionality(r)}
	if p.Sharing != Forbidden {
		p.Roles, p.Automatically, p.MaxPeriod = readList(r, MaxRoles, readUint32), readBool(r), r.Uint32()
	}
	for _, role := range p.Roles {
		if role == RoleNone || role == RoleBanned {
			r.Fail(errors.New("role 0 or 1 may share history"))
		}
	}
	return p, finish("chat_history_policy", r)
}

// Bot is a bot that the room allows (draft-ietf-mimi-room-policy-03, Bot).
type Bot struct {
	Name        string
	Description string
	Homepage    string
	// LocalClient: the bot works through another client and is no participant; RoleIndex is 0 then.
	LocalClient           bool
	RoleIndex             uint32
	CanTargetMessage      bool
	PerUserContentAllowed bool
}

// BotPolicy is component 0x002F (draft-ietf-mimi-room-policy-03, BotPolicy).
type BotPolicy []Bot

// Marshal encodes the policy.
func (p BotPolicy) Marshal() []byte {
	return appendList(nil, p, func(b []byte, bot Bot) []byte {
		b = tlspl.AppendString(tlspl.AppendString(tlspl.AppendString(b, bot.Name), bot.Description), bot.Homepage)
		b = tlspl.AppendUint32(appendBool(b, bot.LocalClient), bot.RoleIndex)
		return appendBool(appendBool(b, bot.CanTargetMessage), bot.PerUserContentAllowed)
	})
}

// UnmarshalBotPolicy decodes the policy.
func UnmarshalBotPolicy(b []byte) (BotPolicy, error) {
	r := tlspl.NewReader(b)
	p := BotPolicy(readList(r, MaxList, func(r *tlspl.Reader) Bot {
		bot := Bot{readText(r, MaxName), readText(r, MaxText), readURI(r), readBool(r), r.Uint32(), readBool(r), readBool(r)}
		if bot.LocalClient && bot.RoleIndex != 0 {
			r.Fail(errors.New("a local client bot has a role"))
		}
		return bot
	}))
	return p, finish("bot_policy", r)
}

// MessageExpiration is component 0x0030 (draft-ietf-mimi-room-policy-03, MessageExpiration). Durations are in seconds.
type MessageExpiration struct {
	Expiring     Optionality
	Min, Max     uint32
	DefaultAfter *uint32
}

// Marshal encodes the policy.
func (p *MessageExpiration) Marshal() []byte {
	b := []byte{byte(p.Expiring)}
	if p.Expiring == Forbidden {
		return b
	}
	return appendOptional32(tlspl.AppendUint32(tlspl.AppendUint32(b, p.Min), p.Max), p.DefaultAfter)
}

// UnmarshalMessageExpiration decodes the policy.
func UnmarshalMessageExpiration(b []byte) (*MessageExpiration, error) {
	r := tlspl.NewReader(b)
	p := &MessageExpiration{Expiring: readOptionality(r)}
	if p.Expiring != Forbidden {
		p.Min, p.Max, p.DefaultAfter = r.Uint32(), r.Uint32(), readOptional32(r)
	}
	if p.Min > p.Max || p.DefaultAfter != nil && (*p.DefaultAfter < p.Min || *p.DefaultAfter > p.Max) {
		r.Fail(errors.New("durations are not in order"))
	}
	return p, finish("message_expiration_policy", r)
}

// unlimited is the default of bounds in components that a room does not have.
const unlimited = math.MaxUint32
