package wire

import (
	"encoding/base32"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// JoinLink leads to a room (docs/extensions.md, join links; draft-mahy-mimi-transport-design-reqs-00 §7.3). Without a code
// it only points there. It is written
//
//	mimi://hub.example/r/clubhouse?join=<code>&role=<index>&passphrase=1
//
// or, for places where only web addresses can be followed, with everything in a fragment, which browsers keep to
// themselves:
//
//	https://hub.example/mimi#/r/clubhouse?join=<code>&role=<index>&passphrase=1
type JoinLink struct {
	Room IdentifierURI
	// Code authorises who presents it, "" for a link that only points.
	Code string
	// Role is the index of the role in which one joins, 0 where the link does not say.
	Role uint32
	// Passphrase says that a word which does not stand in the link is needed, too.
	Passphrase bool
}

const (
	// MaxJoinLink is the longest link in octets that is read.
	MaxJoinLink = MaxURI + 512
	// maxLinkCode is the longest code of a link. The code of a request may be longer by a passphrase.
	maxLinkCode = 256
	// MaxPassphrase is the longest passphrase in octets.
	MaxPassphrase = 256
)

// codeLetters are those of base32 (RFC 4648 §6) in lower case, so that a code can be read out.
var codeLetters = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewCode makes a code of 128 random bits.
func NewCode(random io.Reader) (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("make a code: %w", err)
	}
	return codeLetters.EncodeToString(b[:]), nil
}

// ParseJoinLink reads a link, or the URI of a room alone. Unknown parameters are skipped. Errors wrap ErrMalformed.
func ParseJoinLink(s string) (JoinLink, error) {
	if len(s) > MaxJoinLink {
		return JoinLink{}, malformed("join link is longer than %d octets", MaxJoinLink)
	}
	if rest, ok := strings.CutPrefix(s, "https://"); ok {
		host, inner, ok := strings.Cut(rest, "/mimi#/")
		if !ok {
			return JoinLink{}, malformed("join link on the web has no /mimi#/")
		}
		s = "mimi://" + host + "/" + inner
	}
	room, query, _ := strings.Cut(s, "?")
	l := JoinLink{Room: IdentifierURI(room)}
	if !l.Room.Is(KindRoom) {
		return JoinLink{}, malformed("join link leads to no room")
	}
	for _, part := range strings.Split(query, "&") {
		name, value, _ := strings.Cut(part, "=")
		switch name {
		case "join":
			if l.Code = value; !codeOctets(value) {
				return JoinLink{}, malformed("join link has a code that is empty, too long or not letters, digits, - and _")
			}
		case "role":
			n, err := strconv.ParseUint(value, 10, 32)
			if err != nil {
				return JoinLink{}, malformed("join link has a role that is no number")
			}
			l.Role = uint32(n)
		case "passphrase":
			l.Passphrase = value == "1"
		}
	}
	return l, nil
}

func codeOctets(s string) bool {
	return s != "" && len(s) <= maxLinkCode &&
		strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == ""
}

// String writes the link in its mimi: form.
func (l JoinLink) String() string { return string(l.Room) + l.query() }

// Web writes the link in its https: form.
func (l JoinLink) Web() string {
	host, path, _ := strings.Cut(strings.TrimPrefix(string(l.Room), "mimi://"), "/")
	return "https://" + host + "/mimi#/" + path + l.query()
}

func (l JoinLink) query() string {
	q := ""
	if l.Code != "" {
		q = "?join=" + l.Code
		if l.Role != 0 {
			q += "&role=" + strconv.FormatUint(uint64(l.Role), 10)
		}
		if l.Passphrase {
			q += "&passphrase=1"
		}
	}
	return q
}

// JoiningCode is what a request presents for the link (GroupInfoRequest.joiningCode): the code, and after a colon the
// passphrase where there is one. nil for a link that only points.
func (l JoinLink) JoiningCode(passphrase string) []byte {
	switch {
	case l.Code == "":
		return nil
	case passphrase == "":
		return []byte(l.Code)
	}
	return []byte(l.Code + ":" + passphrase)
}

// SplitJoiningCode takes a presented code apart.
func SplitJoiningCode(presented []byte) (code, passphrase string) {
	code, passphrase, _ = strings.Cut(string(presented), ":")
	return code, passphrase
}
