package relay

import (
	"context"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/mimiside/content"
)

// Media says how files are carried.
type Media struct {
	// Max is the largest file in octets: 100 MiB.
	Max int64
	// Expiry is how long assets are kept: 90 days.
	Expiry time.Duration
	// Patience is how long the messages of a room wait behind a file: 30 s. Later ones overtake it then.
	Patience time.Duration
	// Host is where our assets are.
	Host string
	// Listed lets files be only at listed hosts in the rooms that we lead: Hosts by provider, or the provider's own name.
	Listed bool
	Hosts  map[string][]string
	// OnlyHub forbids direct downloads in the rooms that we lead.
	OnlyHub bool
	// Proxy prefers downloads through the hub where the room allows both ways.
	Proxy bool
}

func (m Media) withDefaults() Media {
	def(&m.Max, 100<<20)
	def(&m.Expiry, 90*24*time.Hour)
	def(&m.Patience, 30*time.Second)
	return m
}

// Files is where assets lie. What is deleted there has no row any more.
type Files interface{ Delete(token string) error }

// Destinations of media lanes: one for all that comes from the homeserver, one for each host of assets.
const (
	destUpload = "media:matrix"
	destFetch  = "media:"
)

// What media answers and timers are about; the number of the link or the event stands behind the colon.
const (
	refUploaded  = "uploaded"
	refFetched   = "fetched"
	refAvatar    = "avatar"
	timerFile    = "file:"   // messages stop waiting behind a file that is fetched
	timerUploads = "uploads" // messages stop waiting behind a file that is uploaded
)

// States of assets.
const (
	assetReady    = "ready"
	assetFetching = "fetching"
	assetFailed   = "failed"
)

// keepFailed is how long a file that was not fetched can be asked for again.
const keepFailed = 7 * 24 * time.Hour

// settleMedia takes the files of redacted messages along, and notes whose files we fetch for others.
func (s *step) settleMedia() error {
	s.noteHosts()
	for _, c := range s.fx.setLinks {
		if c.state != store.LinkRedacted {
			continue
		}
		list, err := s.Store.AssetsOf(s.ctx, s.room.head.ID, c.seq)
		if err != nil {
			return err
		}
		for i := range list {
			if list[i].Direction == store.Out {
				s.fx.dropAssets = append(s.fx.dropAssets, list[i].ID)
			}
		}
	}
	return nil
}

// deleteFiles deletes files whose rows are gone. One that is forgotten here is swept away later.
func (s *step) deleteFiles() {
	if s.Files == nil {
		return
	}
	for _, token := range s.fx.dropAssets {
		if err := s.Files.Delete(token); err != nil {
			s.Log.Warn().Err(err).Stringer("room", s.room.head.ID).Msg("a file was not deleted")
		}
	}
}

// fileRight tells why a file may not be in the room, in words and in one for clients; "" when it may.
func (s *step) fileRight(mimetype string, size int64, d content.Disposition) (why, reason string) {
	t, err := content.ParseMediaType(mimetype)
	if err != nil {
		t = content.MediaType{Type: "application/octet-stream"}
	}
	if s.room.head.State == stateAP {
		if size > s.cfg.Media.Max+content.SealOverhead {
			return "it is too large", reasonUnfit
		}
		return "", ""
	}
	p := &s.room.policy.Asset
	switch {
	case uint64(max(size, 0)) > p.MaxSize(t, d) || size > s.cfg.Media.Max+content.SealOverhead:
		return "it is too large", reasonUnfit
	case !p.Accepts(t, 0, d):
		return "files of type " + t.Type + " are not allowed here", reasonRefused
	}
	return "", ""
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Hostname())
}

// onFileTimer ends the wait behind a file.
func (s *step) onFileTimer(what string) error {
	if what == timerUploads {
		s.releaseAll()
		return nil
	}
	seq, err := strconv.ParseInt(strings.TrimPrefix(what, timerFile), 10, 64)
	if err != nil {
		return nil
	}
	return s.fileOverdue(seq)
}

// external is the file in a message of ours.
func external(m *content.Message) (content.Disposition, *content.ExternalPart) {
	for _, p := range m.Body.Flatten() {
		if x, ok := p.Part.Body.(content.ExternalPart); ok && x.EncAlg != content.NoAEAD {
			return p.Part.Disposition, &x
		}
	}
	return 0, nil
}

// dispositionOf is how a Matrix file will be shown; it decides which limit holds.
func dispositionOf(f mapping.File) content.Disposition {
	switch kind, _, _ := strings.Cut(f.Mimetype, "/"); kind {
	case "image", "audio", "video":
		return content.Inline
	}
	return content.Attachment
}

// scopeAssetHost is the scope of the settings that name the hosts in the asset policies of our rooms.
const scopeAssetHost = "asset-host"

// noteHosts remembers the hosts that the asset policy of a room of ours names: for the other providers in it we fetch from there.
func (s *step) noteHosts() {
	v := s.room
	if v.head.Kind != store.RoomHub || v.policy == nil {
		return
	}
	for _, d := range v.policy.Asset.UploadDomains {
		for _, host := range d.Destinations {
			if len(v.st.AssetHosts) < maxAssetHosts && !slices.Contains(v.st.AssetHosts, host) {
				v.st.AssetHosts = append(v.st.AssetHosts, host)
				s.fx.settings = append(s.fx.settings, setting{scopeAssetHost, host, "yes"})
			}
		}
	}
}

// led is whether a provider has somebody in a room that we are the hub of.
type led struct {
	is      bool
	untilMS int64
}

const (
	// ledFor is for how long, in milliseconds, it counts who is in rooms of ours.
	ledFor = 60_000
	// maxLed bounds the providers of whom that is remembered.
	maxLed = 4096
)

// Leads tells whether somebody of a provider takes part in a room that we are the hub of, or did a minute ago.
func (r *Relay) Leads(ctx context.Context, domain string) (bool, error) {
	now := r.Clock().UnixMilli()
	r.mu.Lock()
	l, known := r.led[domain]
	r.mu.Unlock()
	if known && now < l.untilMS {
		return l.is, nil
	}
	is, err := r.Store.Led(ctx, domain)
	if err != nil {
		return false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.led == nil || len(r.led) >= maxLed {
		r.led = map[string]led{}
	}
	r.led[domain] = led{is, now + ledFor}
	return is, nil
}

// maxAssetHosts bounds the hosts of a room.
const maxAssetHosts = 100

// AssetHost tells whether an asset policy of a room of ours names a host, so that files there are fetched for others
// (draft-ietf-mimi-protocol-06 §5.10). A host that was once named stays known: only encrypted files of rooms are there.
func (r *Relay) AssetHost(ctx context.Context, host string) (bool, error) {
	noted, err := r.Store.Setting(ctx, scopeAssetHost, host)
	return noted != "", err
}
