package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/relay"
	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/matrixside/intake"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// finger answers WebFinger for the users of the bridge (RFC 7033): their acct: and
// mimi: URIs. Whom nobody knows and who may not take part look the same.
type finger struct {
	find func(ctx context.Context, resource string) (mapping.Subject, bool, error)
}

// jrd is the part of RFC 7033 §4.4 that is said.
type jrd struct {
	Subject string    `json:"subject"`
	Aliases []string  `json:"aliases"`
	Links   []jrdLink `json:"links"`
}

type jrdLink struct {
	Rel  string `json:"rel"`
	Href string `json:"href"`
}

// relMIMI is the relation of the link to a user's MIMI URI.
const relMIMI = "https://github.com/matrix-mimi/bridge/rel/mimi-user"

func (f finger) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	resource := r.URL.Query().Get("resource")
	if resource == "" {
		http.Error(w, "resource is missing", http.StatusBadRequest)
		return
	}
	subject, ok, err := f.find(r.Context(), resource)
	switch {
	case err != nil:
		http.Error(w, "try again later", http.StatusServiceUnavailable)
		return
	case !ok:
		http.Error(w, "nobody is known by this name", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/jrd+json")
	w.Header().Set("Access-Control-Allow-Origin", "*") // RFC 7033 §5
	_ = json.NewEncoder(w).Encode(jrd{Subject: subject.Acct, Aliases: []string{string(subject.URI)},
		Links: []jrdLink{{Rel: relMIMI, Href: string(subject.URI)}}})
}

// queries answers the homeserver's lookups. It implements intake.Queries.
type queries struct {
	relay  *relay.Relay
	naming mapping.Naming
	// noted finds a ghost that a room knows, make registers it.
	noted func(ctx context.Context, mxid string) (store.Ghost, error)
	make  func(ctx context.Context, ghost id.UserID) error
}

// protocolMIMI is the name of the network in third-party lookups.
const protocolMIMI = "mimi"

// UserExists implements intake.Queries: ghosts are made when they are needed, not because somebody asks for one. One that was
// invited is needed: without a profile Dendrite lets nobody take the invitation back.
func (q queries) UserExists(ctx context.Context, user id.UserID) (bool, error) {
	_, err := q.noted(ctx, string(user))
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err == nil {
		err = q.make(ctx, user)
	}
	return err == nil, err
}

// AliasExists implements intake.Queries: portals are made by invitations.
func (q queries) AliasExists(context.Context, id.RoomAlias) (bool, error) { return false, nil }

// Protocol implements intake.Queries.
func (q queries) Protocol(_ context.Context, protocol string) (intake.Protocol, bool) {
	if protocol != protocolMIMI {
		return intake.Protocol{}, false
	}
	return intake.Protocol{
		UserFields:     []string{"domain", "query", "type"},
		LocationFields: []string{},
		FieldTypes: map[string]intake.FieldType{
			"domain": {Regexp: `[a-z0-9.:-]+`, Placeholder: "a.example"},
			"query":  {Regexp: `.+`, Placeholder: "alice"},
			"type":   {Regexp: `handle|nick|email|phone|name|any`, Placeholder: "handle"},
		},
		Instances: []intake.ThirdPartyInstances{{Desc: "MIMI", NetworkID: protocolMIMI, Fields: map[string]string{}}},
	}, true
}

// Users implements intake.Queries by an identifierQuery. No ghost is made for
// what is found.
func (q queries) Users(ctx context.Context, protocol string, fields map[string]string) ([]intake.ThirdPartyUser, error) {
	if protocol != protocolMIMI || fields["domain"] == "" || fields["query"] == "" {
		return nil, nil
	}
	found, err := q.relay.Search(ctx, fields["domain"], fields["type"], fields["query"])
	if err != nil {
		return nil, nil // the other provider cannot be asked: nobody is found there
	}
	var out []intake.ThirdPartyUser
	for _, f := range found {
		if u, ok := q.user(f.URI, f.Name); ok {
			out = append(out, u)
		}
	}
	return out, nil
}

func (q queries) user(uri, name string) (intake.ThirdPartyUser, bool) {
	ghost, _, err := q.naming.GhostMXID(wire.IdentifierURI(uri))
	if err != nil {
		return intake.ThirdPartyUser{}, false
	}
	fields := map[string]string{"domain": wire.IdentifierURI(uri).Domain(), "uri": uri}
	if name = strings.TrimSpace(name); name != "" {
		fields["name"] = name
	}
	return intake.ThirdPartyUser{UserID: id.UserID(ghost), Protocol: protocolMIMI, Fields: fields}, true
}

// Locations implements intake.Queries: rooms are not searched for.
func (q queries) Locations(context.Context, string, map[string]string) ([]intake.ThirdPartyLocation, error) {
	return nil, nil
}

// UserByID implements intake.Queries.
func (q queries) UserByID(_ context.Context, user id.UserID) ([]intake.ThirdPartyUser, error) {
	uri, err := q.naming.ParseGhostMXID(string(user))
	if err != nil {
		return nil, nil
	}
	u, ok := q.user(string(uri), "")
	if !ok {
		return nil, nil
	}
	return []intake.ThirdPartyUser{u}, nil
}

// LocationByAlias implements intake.Queries.
func (q queries) LocationByAlias(context.Context, id.RoomAlias) ([]intake.ThirdPartyLocation, error) {
	return nil, nil
}
