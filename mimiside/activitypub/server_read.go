package activitypub

import (
	"net/http"
	"slices"
)

// pageSize is how many activities a page has.
const pageSize = 20

// user serves the actor of a user and what belongs to it.
func (s *Server) user(w http.ResponseWriter, r *http.Request, name, sub string) (signer string, err error) {
	id := s.cfg.Site.User(name)
	p, err := s.cfg.Backend.User(r.Context(), name)
	if err != nil {
		return "", err
	}
	switch sub {
	case "inbox":
		return s.inbox(w, r, id)
	case "":
		o := s.cfg.Site.Person(p)
		if page, _ := o["url"].(string); wantsHTML(r) && page != "" {
			http.Redirect(w, r, page, http.StatusSeeOther)
			return "", nil
		}
		return "", s.write(w, o, TypeActivity)
	case "followers", "following":
		return "", s.write(w, EmptyCollection(id+"/"+sub, 0), TypeActivity)
	case "outbox":
		return s.list(w, r, BoxOut, id, id+"/outbox")
	case "messages":
		signer, err = s.signer(r, nil)
		if err == nil && signer != id {
			err = ErrForbidden
		}
		if err != nil {
			return signer, err
		}
		return s.list(w, r, BoxIn, id, id+"/messages")
	case "keyPackages":
		return s.keyPackages(w, r, name)
	}
	if token, ok := cutPrefix(sub, "keyPackages/"); ok {
		return s.keyPackage(w, r, name, token)
	}
	return "", ErrNotFound
}

func cutPrefix(s, prefix string) (string, bool) {
	if len(s) > len(prefix) && s[:len(prefix)] == prefix {
		return s[len(prefix):], true
	}
	return "", false
}

// requester is who asks for KeyPackages; nobody gets any without a signature.
func (s *Server) requester(r *http.Request) (string, error) {
	signer, err := s.signer(r, nil)
	if err == nil && signer == "" {
		err = ErrNoSignature
	}
	return signer, err
}

// keyPackages is the collection as the requester may see it: one KeyPackage, meant for it alone. S001-035, S000-053.
func (s *Server) keyPackages(w http.ResponseWriter, r *http.Request, name string) (string, error) {
	signer, err := s.requester(r)
	if err != nil {
		return signer, err
	}
	if s.perPair.Take(signer+" "+name) != nil || s.perPackage.Take(name) != nil {
		return signer, ErrTooMany
	}
	offer, err := s.cfg.Backend.Claim(r.Context(), name, signer)
	if err != nil {
		return signer, err
	}
	id := s.cfg.Site.User(name)
	o := EmptyCollection(id+"/keyPackages", 1)
	o["orderedItems"] = []any{s.packageObject(id, offer)}
	w.Header().Set("Cache-Control", "private, no-store")
	return signer, s.write(w, o, TypeActivity)
}

func (s *Server) packageObject(actor string, offer Offer) Object {
	return s.cfg.Site.KeyPackageObject(actor, actor+"/keyPackages/"+offer.Token, offer.Public, offer.Suite)
}

// keyPackage is one KeyPackage by its id, for whoever claimed it. S001-043.
func (s *Server) keyPackage(w http.ResponseWriter, r *http.Request, name, token string) (string, error) {
	signer, err := s.requester(r)
	if err != nil {
		return signer, err
	}
	offer, err := s.cfg.Backend.Offered(r.Context(), name, token, signer)
	if err != nil {
		return signer, err
	}
	o := s.packageObject(s.cfg.Site.User(name), offer)
	o["@context"] = inlineContext()
	w.Header().Set("Cache-Control", "private, no-store")
	return signer, s.write(w, o, TypeActivity)
}

// room serves the actor of a room and what belongs to it.
func (s *Server) room(w http.ResponseWriter, r *http.Request, token, sub string) (signer string, err error) {
	id := s.cfg.Site.Room(token)
	p, err := s.cfg.Backend.Room(r.Context(), token)
	if err != nil {
		return "", err
	}
	switch sub {
	case "inbox":
		return s.inbox(w, r, id)
	case "":
		return "", s.write(w, s.cfg.Site.Service(p), TypeActivity)
	case "outbox":
		return s.list(w, r, BoxOut, id, id+"/outbox")
	case "followers":
		return s.members(w, r, token, id+"/followers")
	case "groupInfo":
		return s.groupInfo(w, r, token, id)
	}
	return "", ErrNotFound
}

// member demands that a member of a room asks, and returns all its members.
func (s *Server) member(r *http.Request, token string) (signer string, members []string, err error) {
	if signer, err = s.requester(r); err != nil {
		return signer, nil, err
	}
	if members, err = s.cfg.Backend.Members(r.Context(), token); err != nil {
		return signer, nil, err
	}
	if !slices.Contains(members, signer) {
		return signer, nil, ErrForbidden
	}
	return signer, members, nil
}

// groupInfo is the state of the group of a room, for its members: by it a client that lost its own comes back (RFC 9420 §11.2.1). S000-059, S000-085.
func (s *Server) groupInfo(w http.ResponseWriter, r *http.Request, token, id string) (string, error) {
	signer, _, err := s.member(r, token)
	if err != nil {
		return signer, err
	}
	info, err := s.cfg.Backend.GroupInfo(r.Context(), token)
	if err != nil {
		return signer, err
	}
	w.Header().Set("Cache-Control", "private, no-store")
	return signer, s.write(w, s.cfg.Site.GroupInfoObject(id, info), TypeActivity)
}

// members is the followers collection of a room, for its members. S000-057.
func (s *Server) members(w http.ResponseWriter, r *http.Request, token, id string) (string, error) {
	signer, list, err := s.member(r, token)
	if err != nil {
		return signer, err
	}
	o := EmptyCollection(id, len(list))
	items := make([]any, len(list))
	for i, m := range list {
		items[i] = m
	}
	o["orderedItems"] = items
	return signer, s.write(w, o, TypeActivity)
}

// list serves a box: how many activities, and with ?page one page of them. S000-037, S000-039, S000-040.
func (s *Server) list(w http.ResponseWriter, r *http.Request, box Box, owner, id string) (string, error) {
	signer, err := s.signer(r, nil)
	if err != nil {
		return signer, err
	}
	q := r.URL.Query()
	limit := 0 // how many there are
	if q.Has("page") {
		limit = pageSize
	}
	l, err := s.cfg.Backend.List(r.Context(), box, owner, signer, q.Get("before"), limit)
	if err != nil {
		return signer, err
	}
	if !q.Has("page") {
		return signer, s.write(w, Collection(id, l.Total), TypeActivity)
	}
	items := make([]any, len(l.Items))
	for i := range l.Items {
		delete(l.Items[i], "@context")
		items[i] = l.Items[i]
	}
	next := ""
	if l.Next != "" {
		next = id + "?page=1&before=" + l.Next
	}
	return signer, s.write(w, Page(id, s.cfg.Site.Base+r.URL.RequestURI(), items, next), TypeActivity)
}

// object serves an activity or an object that we sent, to its addressees.
func (s *Server) object(w http.ResponseWriter, r *http.Request, token, sub string) (string, error) {
	if sub != "" {
		return "", ErrNotFound
	}
	signer, err := s.signer(r, nil)
	if err != nil {
		return signer, err
	}
	o, err := s.cfg.Backend.Object(r.Context(), s.cfg.Site.ObjectID(token), signer)
	if err != nil {
		return signer, err
	}
	return signer, s.write(w, withContext(o), TypeActivity)
}

// conversation serves the activities of a group to those who were addressed.
func (s *Server) conversation(w http.ResponseWriter, r *http.Request, token, sub string) (string, error) {
	if sub != "" {
		return "", ErrNotFound
	}
	if _, err := s.requester(r); err != nil {
		return "", err
	}
	id := s.cfg.Site.Conversation(token)
	return s.list(w, r, BoxConversation, id, id)
}
