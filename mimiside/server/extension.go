package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// extension is how the endpoint of an extension is served (docs/extensions.md).
type extension struct {
	path   func(s *Server, escaped string) (wire.URI, error)
	limit  func(c *Config) int64 // of the body, in bytes
	decode func(c *Config, body []byte) error
}

// extensions are all that are served, to peers that publish them, too.
var extensions = map[wire.Verb]extension{
	wire.VerbKeyMaterials:   {domainPath, small, decoded(wire.UnmarshalKeyMaterialsRequest)},
	wire.VerbProfiles:       {domainPath, small, decoded(wire.UnmarshalProfilesRequest)},
	wire.VerbStatus:         {roomPath, small, decoded(wire.UnmarshalStatusMessage)},
	wire.VerbLinkStatus:     {roomPath, small, decoded(wire.UnmarshalLinkStatusRequest)},
	wire.VerbKnock:          {roomPath, small, decoded(wire.UnmarshalKnockRequest)},
	wire.VerbKnockOutcome:   {domainPath, small, decoded(wire.UnmarshalKnockOutcome)},
	wire.VerbSubmitMessages: {domainPath, large, submitted},
	wire.VerbSubmitVerdicts: {domainPath, small, decoded(wire.UnmarshalSubmitVerdicts)},
	wire.VerbRoomDestroyed:  {roomPath, small, decoded(wire.UnmarshalRoomDestroyed)},
	wire.VerbUserDeleted:    {domainPath, small, decoded(wire.UnmarshalUserDeleted)},
	wire.VerbNotifyRooms:    {domainPath, large, decoded(wire.UnmarshalRoomRequests)},
}

func small(c *Config) int64 { return c.SmallBody }

func large(c *Config) int64 { return c.LargeBody }

// decoded makes a check of the encoding of a decoder.
func decoded[T any](decode func([]byte) (T, error)) func(*Config, []byte) error {
	return func(_ *Config, b []byte) error {
		_, err := decode(b)
		return err
	}
}

// submitted demands that each message is one that submitMessage would take, too.
func submitted(c *Config, body []byte) error {
	requests, err := wire.UnmarshalRoomRequests(body)
	for i := range requests {
		if int64(len(requests[i].Request)) > c.SmallBody {
			return errTooLarge
		}
	}
	return err
}

// errNotShared: the peer asks for an extension that its own directory does not offer.
var errNotShared = errors.New("the peer's directory does not offer the extension")

// sharedWith demands that an extension is shared with a peer. What is the draft's own ("") is.
func (s *Server) sharedWith(ctx context.Context, domain, name string) error {
	if name == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.config.HandlerTimeout)
	defer cancel()
	shares, err := s.config.Shares(ctx, domain, name)
	switch {
	case err != nil:
		return fmt.Errorf("ask %s what it offers: %w: %w", domain, ErrTemporary, err)
	case !shares:
		return errNotShared
	}
	return nil
}

// routeExtension finds the extension of a path behind wire.ExtensionPath. One that we do not publish is no endpoint.
func (s *Server) routeExtension(rest string) (wire.Verb, verb, string, bool) {
	name, escaped, _ := strings.Cut(rest, "/")
	v, ok := s.verbs[wire.Verb(name)]
	if !ok || v.shared == "" || s.config.Shares == nil || !s.config.Directory().Offers(name) {
		return "", verb{}, "", false
	}
	return wire.Verb(name), v, escaped, true
}

func (e extension) serve(name wire.Verb) func(*Server, context.Context, Request, http.ResponseWriter, *http.Request) (int, error) {
	return func(s *Server, ctx context.Context, r Request, w http.ResponseWriter, _ *http.Request) (int, error) {
		if err := e.decode(&s.config, r.Body); err != nil {
			return 0, err
		}
		a, err := s.config.Handler.Extension(ctx, name, r)
		if err != nil {
			return 0, err
		}
		return reply(w, a, http.StatusOK)
	}
}

// domainPath reads a path that names a provider, as its domain or as a URI of it.
func domainPath(_ *Server, escaped string) (wire.URI, error) {
	domain, err := wire.ParsePathDomain(escaped)
	if err != nil {
		return wire.URI{}, err
	}
	return wire.ParseURI("mimi://" + domain)
}
