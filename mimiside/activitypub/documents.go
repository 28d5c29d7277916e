package activitypub

import "time"

// Profile is a user of ours as the world sees it.
type Profile struct {
	// Name is the escaped name in the address; Username is what people write before the @.
	Name, Username string
	// Acct is the canonical acct: URI, MIMI the mimi:// URI, MXID the Matrix id.
	Acct, MIMI, MXID string
	DisplayName      string
	// Icon is the address of a picture that everybody can get, or "".
	Icon      string
	PublicPEM string
	Created   time.Time
}

// RoomProfile is a room that ActivityPub people can take part in.
type RoomProfile struct {
	Token, Name, Topic string
	// Alias is the local part of the acct: URI of the room.
	Alias string
	// URI is the mimi:// URI, MatrixURI a matrix: URI or "".
	URI, MatrixURI string
	Icon           string
	Creator        string // id of the actor that made it, or ""
	GroupID        string
	PublicPEM      string
	Created        time.Time
}

func publicKey(actor, pem string) Object {
	return Object{"id": KeyID(actor), "owner": actor, "publicKeyPem": pem}
}

func generator() Object {
	return Object{"type": "Application", "name": "mimi-bridge", "implements": []any{
		Object{"href": implementsRFC9421, "name": "RFC 9421: HTTP Message Signatures"}, Object{"href": implementsMIMI, "name": "MIMI"},
	}}
}

// actorBase is what all actors of ours have.
func (s Site) actorBase(id, kind, pem string) Object {
	return Object{
		"@context": actorContext(), "id": id, "type": kind, "inbox": id + "/inbox", "outbox": id + "/outbox", "followers": id + "/followers",
		"endpoints": Object{"sharedInbox": s.SharedInbox()}, "publicKey": publicKey(id, pem), "generator": generator(),
	}
}

// Person is the actor document of a user.
func (s Site) Person(p Profile) Object {
	id := s.User(p.Name)
	o := s.actorBase(id, "Person", p.PublicPEM)
	o["preferredUsername"], o["name"] = p.Username, firstOf(p.DisplayName, p.Username)
	o["keyPackages"], o["messages"], o["following"] = id+"/keyPackages", id+"/messages", id+"/following"
	o["manuallyApprovesFollowers"], o["discoverable"] = true, false
	also := []any{}
	for _, uri := range []string{p.Acct, p.MIMI} {
		if uri != "" {
			also = append(also, uri)
		}
	}
	if p.MXID != "" {
		o["url"] = "https://matrix.to/#/" + p.MXID
		also = append(also, o["url"])
	}
	o["alsoKnownAs"] = also
	setIcon(o, p.Icon)
	setTime(o, p.Created)
	return o
}

// Service is the actor document of a room.
func (s Site) Service(r RoomProfile) Object {
	id := s.Room(r.Token)
	o := s.actorBase(id, "Service", r.PublicPEM)
	o["type"] = []any{"Service"}
	o["preferredUsername"], o["name"] = r.Alias, firstOf(r.Name, r.Alias)
	if r.Topic != "" {
		o["summary"] = r.Topic
	}
	if r.Creator != "" {
		o["attributedTo"] = r.Creator
	}
	urls := []any{}
	for _, u := range []string{r.URI, r.MatrixURI} {
		if u != "" {
			urls = append(urls, u)
		}
	}
	o["url"], o["groupId"], o["groupInfo"] = urls, r.GroupID, id+"/groupInfo"
	setIcon(o, r.Icon)
	setTime(o, r.Created)
	return o
}

// InstanceActor is the actor that signs our GETs. Everybody may read it, signed or not, so that two servers that both ask for
// signatures do not wait for each other.
func (s Site) InstanceActor(pem string) Object {
	o := s.actorBase(s.Instance(), "Application", pem)
	o["preferredUsername"], o["name"] = s.Host(), s.Host()
	delete(o, "followers")
	return o
}

func setIcon(o Object, address string) {
	if address != "" {
		o["icon"] = Object{"type": "Image", "url": address}
	}
}

func setTime(o Object, t time.Time) {
	if !t.IsZero() {
		o["published"] = t.UTC().Format(time.RFC3339)
	}
}

func firstOf(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}

// Collection is the first document of a collection with pages: how many items it has, and where they begin.
func Collection(id string, total int) Object {
	return Object{"@context": inlineContext(), "id": id, "type": "OrderedCollection", "totalItems": total, "first": id + "?page=1"}
}

// Page is one page of a collection; next is the address of the next one, or "".
func Page(id, address string, items []any, next string) Object {
	o := Object{"@context": inlineContext(), "id": address, "type": "OrderedCollectionPage", "partOf": id, "orderedItems": items}
	if next != "" {
		o["next"] = next
	}
	return o
}

// EmptyCollection is a collection whose items are nobody's business: only the number shows, and only where it is given.
func EmptyCollection(id string, total int) Object {
	return Object{"@context": inlineContext(), "id": id, "type": "OrderedCollection", "totalItems": total, "orderedItems": []any{}}
}

// NodeInfoLinks is the answer of /.well-known/nodeinfo (NodeInfo §5).
func (s Site) NodeInfoLinks() Object {
	return Object{"links": []any{Object{"rel": "http://nodeinfo.diaspora.software/ns/schema/2.1", "href": s.Base + pathNodeInfo}}}
}

// NodeInfo describes the server (NodeInfo 2.1). It names no user and counts none that did not take part.
func (s Site) NodeInfo(version string, users int) Object {
	return Object{
		"version": "2.1", "software": Object{"name": "mimi-bridge", "version": version}, "protocols": []any{"activitypub"},
		"services": Object{"inbound": []any{}, "outbound": []any{}}, "openRegistrations": false,
		"usage": Object{"users": Object{"total": users}}, "metadata": Object{"implements": []any{"mls", "mimi", "matrix"}},
	}
}
