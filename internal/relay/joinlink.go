package relay

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"slices"

	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Join links of a hub room (docs/extensions.md; draft-ietf-mimi-protocol-06 §5.6, joiningCode). A link's code is shown once and
// kept as a hash. The code comes with a request for the group's state; it is used up by the commit that follows.

// joinLink is what is kept of a link.
type joinLink struct {
	ID string `json:"id"` // for people and for the room's policy
	// Hash is the SHA-256 of the code, which has 128 random bits.
	Hash []byte `json:"hash"`
	// Pass is the passphrase by PBKDF2 under Salt, empty when there is none.
	Salt []byte `json:"salt,omitempty"`
	Pass []byte `json:"pass,omitempty"`
	Many bool   `json:"many,omitempty"` // for any number of users, otherwise for one
	Role uint32 `json:"role,omitempty"` // 0: that of newcomers
	By   string `json:"by"`             // MXID
	// MadeMS and EndsMS in milliseconds since 1970; EndsMS 0: never.
	MadeMS int64 `json:"made"`
	EndsMS int64 `json:"ends,omitempty"`
	Uses   int64 `json:"uses,omitempty"`
	// Over says why the link is of no use any more, "" while it is.
	Over string `json:"over,omitempty"`
	// Wrong counts wrong passphrases since WrongMS.
	Wrong   int   `json:"wrong,omitempty"`
	WrongMS int64 `json:"wrong_since,omitempty"`
}

// Why a link is over.
const (
	linkUsed    = "used up"
	linkRevoked = "revoked"
	linkExpired = "expired"
)

const (
	// maxLinks bounds the links of a room that are in use, maxOldLinks those that are over and still listed.
	maxLinks, maxOldLinks = 50, 10
	// wrongAnHour is how many wrong passphrases a link takes in an hour before it refuses all. Who asks why one was refused
	// presents it twice.
	wrongAnHour = 20
	hourMS      = 3_600_000
	// passRounds is the work of a passphrase (PBKDF2 with SHA-256): some 20 ms.
	passRounds = 100_000
)

func passHash(passphrase string, salt []byte) ([]byte, error) {
	return pbkdf2.Key(sha256.New, passphrase, salt, passRounds, 32)
}

// newLink makes a link and its code.
func newLink(random io.Reader, passphrase string) (joinLink, string, error) {
	code, err := wire.NewCode(random)
	if err != nil {
		return joinLink{}, "", err
	}
	id, err := wire.NewCode(random)
	if err != nil {
		return joinLink{}, "", err
	}
	hash := sha256.Sum256([]byte(code))
	l := joinLink{ID: id[:6], Hash: hash[:]}
	if passphrase != "" {
		l.Salt = make([]byte, 16)
		if _, err := io.ReadFull(random, l.Salt); err != nil {
			return joinLink{}, "", fmt.Errorf("make a join link: %w", err)
		}
		if l.Pass, err = passHash(passphrase, l.Salt); err != nil {
			return joinLink{}, "", err
		}
	}
	return l, code, nil
}

// live tells whether the link can be used.
func (l *joinLink) live(nowMS int64) bool { return l.Over == "" && (l.EndsMS == 0 || nowMS < l.EndsMS) }

// linkOf finds the link that a presented code is for, whatever its passphrase and however it stands; nil: there is none.
func (s *step) linkOf(presented []byte) (l *joinLink) {
	code, _ := wire.SplitJoiningCode(presented)
	hash := sha256.Sum256([]byte(code))
	for n := range s.room.links {
		if subtle.ConstantTimeCompare(s.room.links[n].Hash, hash[:]) == 1 {
			l = &s.room.links[n]
		}
	}
	return l
}

// judgeCode finds the link that a presented code is for, and says how it stands; nil for one that is not good. All links are compared,
// each in constant time, and the passphrase only after the code, which nobody guesses.
func (s *step) judgeCode(presented []byte) (*joinLink, wire.LinkStatus) {
	_, passphrase := wire.SplitJoiningCode(presented)
	l := s.linkOf(presented)
	switch {
	case l == nil:
		return nil, wire.LinkUnknown
	case l.Over == linkUsed:
		return nil, wire.LinkUsed
	case l.Over == linkRevoked:
		return nil, wire.LinkRevoked
	case !l.live(s.nowMS()):
		return nil, wire.LinkExpired
	case len(l.Pass) == 0:
		return l, wire.LinkGood
	}
	if s.nowMS()-l.WrongMS >= hourMS {
		l.Wrong, l.WrongMS = 0, s.nowMS()
	}
	if l.Wrong >= wrongAnHour || len(passphrase) > wire.MaxPassphrase {
		return nil, wire.LinkLocked
	}
	pass, err := passHash(passphrase, l.Salt)
	if err != nil || subtle.ConstantTimeCompare(pass, l.Pass) != 1 {
		l.Wrong++
		s.room.linksChanged = true
		return nil, wire.LinkPassphrase
	}
	return l, wire.LinkGood
}

// joinCode is a link as policy judges by it, nil for none.
func (s *step) joinCode(l *joinLink) *policy.JoinCode {
	if l == nil {
		return nil
	}
	role := l.Role
	if role == 0 {
		role = s.hierarchy().Newcomer
	}
	return &policy.JoinCode{Role: role}
}

// liveLink returns a link that can be used, nil when there is none with this id.
func (s *step) liveLink(id string) *joinLink {
	for n := range s.room.links {
		if l := &s.room.links[n]; id != "" && l.ID == id && l.live(s.nowMS()) {
			return l
		}
	}
	return nil
}

// useLink counts a user who joined by a link.
func (s *step) useLink(id string) {
	l := s.liveLink(id)
	if l == nil {
		return
	}
	l.Uses++
	s.room.linksChanged = true
	if !l.Many {
		l.Over = linkUsed
		s.followLinks()
	}
}

// anyLink tells whether a link of the room can be used: whoever has a code may come in then.
func (s *step) anyLink() bool {
	return slices.ContainsFunc(s.room.links, func(l joinLink) bool { return l.live(s.nowMS()) })
}

// followLinks brings the room's policy in line with its links: whether codes may be used is a capability of role 0, and the
// components of draft-ietf-mimi-room-policy-03 name the links without their codes.
func (s *step) followLinks() {
	v := s.room
	for n := range v.links {
		if l := &v.links[n]; l.Over == "" && !l.live(s.nowMS()) {
			l.Over, v.linksChanged = linkExpired, true
		}
	}
	old := 0
	for n := len(v.links) - 1; n >= 0; n-- {
		if v.links[n].Over == "" {
			continue
		}
		if old++; old > maxOldLinks {
			v.links = slices.Delete(v.links, n, n+1)
			v.linksChanged = true
		}
	}
	s.followPower("", "")
	s.followConditions("", "")
}

// onLinkEnds: the time of a link is up.
func (s *step) onLinkEnds() error {
	if s.room.group != nil {
		s.followLinks()
	}
	return nil
}

// linkComponents are the components about join links, none in a room that never had one.
func (s *step) linkComponents() map[uint16][]byte {
	v := s.room
	var had bool
	if v.policy != nil {
		_, had = v.policy.Data(policy.ComponentJoinLinks)
	}
	if len(v.links) == 0 && !had {
		return nil
	}
	p := policy.JoinLinkPolicy{Expiration: 1<<32 - 1}
	var list policy.JoinLinks
	if v.policy != nil {
		for _, text := range v.policy.JoinLinks {
			if id, ours := s.listedLink(text); !ours || s.liveLink(id) != nil {
				list = append(list, text) // what is there keeps its place
			}
		}
	}
	for n := range v.links {
		l := &v.links[n]
		if !l.live(s.nowMS()) {
			continue
		}
		p.MultiUser = p.MultiUser || l.Many
		if l.EndsMS > 0 {
			p.Expiration = min(p.Expiration, uint32((l.EndsMS-l.MadeMS)/1000))
		}
		if text := s.linkName(l.ID); !slices.Contains(list, text) {
			list = append(list, text)
		}
	}
	return map[uint16][]byte{policy.ComponentJoinLinkPolicy: p.Marshal(), policy.ComponentJoinLinks: list.Marshal()}
}

// linkName is a link as all members of the room may see it: that it is there, and not its code.
func (s *step) linkName(id string) string { return s.room.head.URI + "?link=" + id }

// listedLink reads linkName back.
func (s *step) listedLink(text string) (id string, ours bool) {
	prefix := s.linkName("")
	if len(text) <= len(prefix) || text[:len(prefix)] != prefix {
		return "", false
	}
	return text[len(prefix):], true
}

// linksUpdate turns the wanted list of join links into an update, whose form is its own; nil when nothing is to be done.
func linksUpdate(had policy.JoinLinks, wanted []byte) []byte {
	want, err := policy.UnmarshalJoinLinks(wanted)
	if err != nil {
		return nil
	}
	var u policy.JoinLinksUpdate
	for n, text := range had {
		if !slices.Contains(want, text) {
			u.Removed = append(u.Removed, uint32(n))
		}
	}
	for _, text := range want {
		if !slices.Contains(had, text) {
			u.Added = append(u.Added, text)
		}
	}
	if len(u.Removed)+len(u.Added) == 0 {
		return nil
	}
	return u.Marshal()
}
