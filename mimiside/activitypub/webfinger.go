package activitypub

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/url"
	"strings"
	"unicode"
)

// Found is somebody of ours as a WebFinger answer names it.
type Found struct {
	// Subject is the canonical acct: URI.
	Subject string
	// Actor is the id of the actor; Profile a page for people, or "".
	Actor, Profile string
	// Aliases are further URIs of the same, such as mimi://….
	Aliases []string
}

// JRD is the answer to a WebFinger query (RFC 7033 §4.4).
func (f Found) JRD() Object {
	aliases := []any{f.Actor}
	for _, a := range f.Aliases {
		if a != "" && a != f.Actor && a != f.Subject {
			aliases = append(aliases, a)
		}
	}
	links := []any{Object{"rel": "self", "type": TypeActivity, "href": f.Actor}}
	if f.Profile != "" {
		links = append(links, Object{"rel": "alternate", "type": "text/html", "href": f.Profile},
			Object{"rel": "https://webfinger.net/rel/profile-page", "type": "text/html", "href": f.Profile})
	}
	return Object{"subject": f.Subject, "aliases": aliases, "links": links}
}

// ErrWebFinger: the answer names no actor. It is permanent for that answer.
var ErrWebFinger = errors.New("no actor in the WebFinger answer")

// maxLinks bounds the links that are read of a WebFinger answer.
const maxLinks = 100

// ParseJRD reads a WebFinger answer and returns its subject and the actor: the link of relation self whose type is that of activities
// (ActivityPub for Interoperable Messaging §4.3).
func ParseJRD(body []byte) (subject, actor string, err error) {
	o, err := ParseObject(body)
	if err != nil {
		return "", "", fmt.Errorf("%w: %v", ErrWebFinger, err)
	}
	links, _ := o["links"].([]any)
	if len(links) > maxLinks {
		links = links[:maxLinks]
	}
	for _, v := range links {
		l, ok := v.(Object)
		if !ok || l.Str("rel") != "self" {
			continue
		}
		t, params, err := mime.ParseMediaType(l.Str("type"))
		if err != nil || !isActivityType(t, params) || !validURL(l.Str("href")) {
			continue
		}
		return o.Str("subject"), l.Str("href"), nil
	}
	return "", "", ErrWebFinger
}

// Resolve finds the actor of an acct: URI. The answer of the account's own domain may lead to another server; then that server
// must say that the actor goes by that name.
func (p *People) Resolve(ctx context.Context, acct string) (*RemoteActor, error) {
	at := strings.LastIndexByte(acct, '@')
	if !strings.HasPrefix(acct, "acct:") || at < len("acct:")+1 {
		return nil, fmt.Errorf("%w: %.100q is no account", ErrWebFinger, acct)
	}
	host := strings.ToLower(acct[at+1:])
	id, err := p.ask(ctx, host, acct)
	if err != nil {
		return nil, err
	}
	a, err := p.Actor(ctx, id, false)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(a.ID)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrWebFinger, err)
	}
	if strings.EqualFold(u.Host, host) {
		return a, nil
	}
	// The actor lives elsewhere: its own server must name the same actor for it.
	back, err := p.ask(ctx, u.Host, "acct:"+a.PreferredUsername+"@"+u.Host)
	if err != nil {
		return nil, err
	}
	if back != a.ID {
		return nil, fmt.Errorf("%w: %s is another actor on its own server", ErrWebFinger, a.ID)
	}
	return a, nil
}

func (p *People) ask(ctx context.Context, host, resource string) (string, error) {
	body, err := p.fetch.JRD(ctx, host, resource)
	if err != nil {
		return "", err
	}
	_, actor, err := ParseJRD(body)
	return actor, err
}

// AcctOf is the acct: URI by which people know an actor, when its server confirms it; false: one made of its address, or "" when its server says that
// somebody else goes by that name.
func (p *People) AcctOf(ctx context.Context, a *RemoteActor) (string, bool) {
	u, err := url.Parse(a.ID)
	if err != nil || a.PreferredUsername == "" || strings.ContainsAny(a.PreferredUsername, "@/") || !visible(a.PreferredUsername) {
		return "", false
	}
	acct := "acct:" + a.PreferredUsername + "@" + strings.ToLower(u.Host)
	body, err := p.fetch.JRD(ctx, u.Host, acct)
	if err != nil {
		return acct, false
	}
	subject, actor, err := ParseJRD(body)
	switch {
	case err != nil:
		return acct, false
	case actor != a.ID:
		return "", false
	}
	if visible(subject) && strings.HasPrefix(subject, "acct:") && strings.HasSuffix(strings.ToLower(subject), "@"+strings.ToLower(u.Host)) {
		return subject, true
	}
	return acct, true
}

// visible tells whether a text is of characters that are seen: no spaces, no controls, no marks that turn the direction of text.
func visible(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.In(r, unicode.C) || r == unicode.ReplacementChar
	})
}
