package relay

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/matrix-mimi/bridge/internal/media"
	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/content"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/wire"
	"github.com/matrix-mimi/bridge/puppets"
)

// Profiles (docs/extensions.md): the draft has no names of people. Where a provider shares the extension, ghosts of its users get
// the names and pictures that these have at home; otherwise a name made from the URI.

const (
	// profileAge is how long a profile is good before it is asked for again.
	profileAge = 24 * time.Hour
	// askedProfiles bounds the users of one request.
	askedProfiles = 100
	// profilesAnHour bounds the users that a provider asks for in an hour.
	profilesAnHour = 10_000
	// profileTries is how often somebody is asked for whose provider does not tell yet: after profileWait, and then after four times
	// as long each.
	profileTries = 4
	profileWait  = time.Second
)

// ghostData is what is remembered of a ghost beside the columns.
type ghostData struct {
	// Time is that of the newest profile, by its provider's clock; FetchedMS when it came, both in milliseconds since 1970.
	Time      uint64 `json:"time,omitempty"`
	FetchedMS int64  `json:"fetched,omitempty"`
	// Picture is the address that Avatar was fetched from.
	Picture string `json:"picture,omitempty"`
}

func dataOfGhost(g *store.Ghost) (d ghostData) {
	if g.Data != "" {
		_ = unmarshalString(g.Data, &d) // we wrote it
	}
	return d
}

// Profiles answers a provider that asks for profiles of users of ours: those with whom a user of it shares a room.
func (r *Relay) Profiles(ctx context.Context, peer string, _ wire.IdentifierURI, body []byte) (Reply, error) {
	received, err := wire.UnmarshalProfilesRequest(body)
	if err != nil {
		return Reply{}, err
	}
	q, err := received.Check(r.Naming.Domain)
	if err != nil {
		return Reply{}, err
	}
	if err := r.allowN(ctx, "profiles", peer, int64(len(q.Users)), profilesAnHour); err != nil {
		return Reply{}, err
	}
	var a wire.ProfilesResponse
	for _, user := range q.Users {
		mxid, err := r.ownMXID(string(user))
		if err != nil || !r.exported(mxid) || r.NameOf == nil {
			continue
		}
		if shares, err := r.Store.SharesRoom(ctx, mxid, peer); err != nil || !shares {
			if err != nil {
				return Reply{}, err
			}
			continue
		}
		p, err := r.profileOf(ctx, mxid)
		if err != nil {
			return Reply{}, ErrTemporary
		}
		p.User = user
		a.Profiles = append(a.Profiles, p)
	}
	return Reply{Body: a.Marshal()}, nil
}

// profileOf is what a Matrix user shows of itself.
func (r *Relay) profileOf(ctx context.Context, mxid string) (wire.Profile, error) {
	name, avatar, err := r.NameOf(ctx, mxid)
	if err != nil {
		return wire.Profile{}, err
	}
	p := wire.Profile{Time: uint64(r.Clock().UnixMilli()), Name: cutBytes(name, wire.MaxStatusText)}
	if avatar != "" && r.PublicURL != nil {
		if p.Avatar = r.PublicURL(avatar); len(p.Avatar) > wire.MaxStatusText {
			p.Avatar = ""
		}
	}
	return p, nil
}

// cutBytes cuts a text to a number of octets without cutting a character.
func cutBytes(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n]
}

// wantProfile notes that the profile of a ghost is to be asked for, unless it is known and fresh.
func (s *step) wantProfile(user string) {
	domain := wire.IdentifierURI(user).Domain()
	if !wire.IdentifierURI(user).Is(wire.KindUser, wire.KindPseudonym) || s.own(user) || s.blockedUser(user) || !s.mayShare(domain, verbProfiles) || slices.Contains(s.profiles[domain], user) {
		return
	}
	if g, err := s.Store.GhostByURI(s.ctx, user); err == nil && s.nowMS()-dataOfGhost(&g).FetchedMS < profileAge.Milliseconds() {
		return
	}
	if s.profiles == nil {
		s.profiles = map[string][]string{}
	}
	s.profiles[domain] = append(s.profiles[domain], user)
}

// askProfiles asks for the profiles that the step wants, and remembers who is asked for.
func (s *step) askProfiles() {
	for _, domain := range sortedKeys(s.profiles) {
		for users := range slices.Chunk(s.profiles[domain], askedProfiles) {
			q := &wire.ProfilesRequest{}
			for _, u := range users {
				q.Users = append(q.Users, wire.IdentifierURI(u))
			}
			ask(s.aside(domain, verbProfiles, q.Marshal()), refProfiles+":"+domain, 0)
		}
	}
	s.profiles = nil
}

// wantProfiles asks anew for profiles that are old or missing.
func (s *step) wantProfiles() {
	v := s.room
	if v.policy == nil {
		return
	}
	for _, p := range v.policy.Participants {
		if p.Role > policy.RoleBanned {
			s.wantProfile(p.User)
		}
	}
}

// onProfiles takes profiles. Who is missing may not have heard of the room yet: they are asked for a few times more.
func (s *step) onProfiles(a *store.Answer, domain string) error {
	if a.Class != "done" {
		return nil // the provider does not share profiles, or is away: asked again with the next look at the room
	}
	received, err := wire.UnmarshalProfilesResponse(a.Body)
	if err != nil {
		s.Log.Info().Err(err).Str("peer", domain).Msg("profiles were not understood")
		return nil
	}
	told, err := received.Check(domain)
	if err != nil {
		s.Log.Info().Err(err).Str("peer", domain).Msg("profiles were not understood")
		return nil
	}
	for i := range told.Profiles {
		if err := s.placeProfile(&told.Profiles[i]); err != nil {
			return err
		}
	}
	missing := false
	if s.room.policy != nil {
		for _, p := range s.room.policy.Participants {
			missing = missing || wire.IdentifierURI(p.User).Domain() == domain && p.Role > policy.RoleBanned &&
				!slices.ContainsFunc(told.Profiles, func(q wire.Profile) bool { return q.User.Same(wire.IdentifierURI(p.User)) })
		}
	}
	if !missing {
		delete(s.room.st.ProfileTries, domain)
		return nil
	}
	if s.room.st.ProfileTries == nil {
		s.room.st.ProfileTries = map[string]int{}
	}
	if s.room.st.ProfileTries[domain]++; s.room.st.ProfileTries[domain] <= profileTries {
		wait := profileWait << (2 * (s.room.st.ProfileTries[domain] - 1))
		s.later(timerProfiles, s.now.Add(wait).UnixMilli())
	}
	return nil
}

// placeProfile gives a ghost the name and the picture of its user. Only somebody who takes part in the room has one here.
func (s *step) placeProfile(p *wire.Profile) error {
	user := s.listedURIOf(p.User)
	if user == "" {
		return nil
	}
	m, err := s.memberOf(user)
	if err != nil || !m.Ghost {
		return nil
	}
	g, err := s.Store.Ghost(s.ctx, m.MXID)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	d := dataOfGhost(&g)
	if p.Time < d.Time {
		return nil
	}
	d.Time, d.FetchedMS = p.Time, s.nowMS()
	name := puppets.Name(s.cfg.GhostName, p.Name, wire.IdentifierURI(g.URI))
	if name != g.Display {
		g.Display = name
		s.matrix(event.Profile{User: userID(g.MXID), Name: &name})
	}
	if m.Display != name {
		m.Display = name
		s.setMember(m)
	}
	if p.Avatar != d.Picture && s.Files != nil {
		d.Picture = p.Avatar
		s.fetchPicture(&g, p.Avatar)
	}
	g.Data, g.UpdatedMS = string(mustJSON(d)), s.nowMS()
	s.putGhost(g)
	return nil
}

// putGhost writes a ghost, once a step.
func (s *step) putGhost(g store.Ghost) {
	for n := range s.fx.ghosts {
		if s.fx.ghosts[n].MXID == g.MXID {
			s.fx.ghosts[n] = g
			return
		}
	}
	s.fx.ghosts = append(s.fx.ghosts, g)
}

// listedURIOf is a user's URI as in the participant list, "" for one who is not in it.
func (s *step) listedURIOf(user wire.IdentifierURI) string {
	if s.room.policy == nil {
		return ""
	}
	for _, p := range s.room.policy.Participants {
		if wire.IdentifierURI(p.User).Same(user) {
			return p.User
		}
	}
	return ""
}

// fetchPicture fetches the picture of a user, or takes the ghost's away. It may come from the user's own provider only.
func (s *step) fetchPicture(g *store.Ghost, address string) {
	none := ""
	if address == "" {
		if g.Avatar != "" {
			g.Avatar = ""
			s.matrix(event.Profile{User: userID(g.MXID), Avatar: &none})
		}
		return
	}
	if _, err := wire.CheckDownloadURL(address); err != nil || !sameSite(hostOf(address), wire.IdentifierURI(g.URI).Domain()) {
		return
	}
	job := media.Fetch{External: &content.ExternalPart{URL: address}, Limit: maxAvatar, User: s.cfg.Bot, Direct: true}
	ask(s.row(store.Outbound{Dest: destFetch + hostOf(address), Verb: media.VerbFetch, Data: mustJSON(job)}), refPicture+":"+g.MXID, 0)
}

// sameSite tells whether a host is a provider's own: its domain or one below it.
func sameSite(host, domain string) bool {
	host = wire.LowerDomain(host)
	return host == domain || strings.HasSuffix(host, "."+domain)
}

// onPicture: the picture of a user was fetched, or not; then the ghost keeps the one that it has.
func (s *step) onPicture(a *store.Answer, mxid string) error {
	var got media.Fetched
	if a.Class != "done" || json.Unmarshal(a.Body, &got) != nil || got.MXC == "" {
		return nil
	}
	g, err := s.Store.Ghost(s.ctx, mxid)
	if err != nil {
		return ignoreNotFound(err)
	}
	if g.Avatar == got.MXC {
		return nil
	}
	g.Avatar, g.UpdatedMS = got.MXC, s.nowMS()
	s.matrix(event.Profile{User: userID(mxid), Avatar: &got.MXC})
	s.putGhost(g)
	return nil
}
