package activitypub

// Addresses of the specifications, as they stand in documents.
const (
	activityStreams = "https://www.w3.org/ns/activitystreams"
	// Public stands for everybody (ActivityPub §5.6). It is always written in full.
	Public = activityStreams + "#Public"
	// implementsRFC9421 and implementsMIMI are values of generator.implements (FEP-844e).
	implementsRFC9421 = "https://datatracker.ietf.org/doc/html/rfc9421"
	implementsMIMI    = "urn:ietf:ns:mimi"
)

// Media types of activities.
const (
	TypeActivity = "application/activity+json"
	typeLD       = `application/ld+json; profile="https://www.w3.org/ns/activitystreams"`
	typeJRD      = "application/jrd+json"
	typeMLS      = "message/mls"
)

// isPublic tells whether an address stands for everybody, in any of its spellings.
func isPublic(s string) bool { return s == Public || s == "as:Public" || s == "Public" }

// inlineContext is the @context of what we send: the terms of both dialects inline. The addresses of the two vocabularies
// must not stand there: a server that fetches contexts cannot fetch them, and then refuses the activity.
func inlineContext() []any {
	return []any{activityStreams, Object{
		"mls": "https://purl.archive.org/socialweb/mls#", "mimi": "urn:ietf:ns:mimi#",
		"PublicMessage": "mls:PublicMessage", "PrivateMessage": "mls:PrivateMessage", "Welcome": "mls:Welcome",
		"GroupInfo": "mls:GroupInfo", "KeyPackage": "mls:KeyPackage",
		"encoding": "mls:encoding", "ciphersuite": "mls:ciphersuite",
		"keyPackages":  Object{"@id": "mls:keyPackages", "@type": "@id"},
		"messages":     Object{"@id": "mls:messages", "@type": "@id"},
		"conversation": Object{"@id": "mls:conversation", "@type": "@id"},
		"commit":       "mimi:commit", "welcome": "mimi:welcome",
	}}
}

// actorContext adds the terms of actors.
func actorContext() []any {
	return append(inlineContext(), "https://w3id.org/security/v1", Object{
		"manuallyApprovesFollowers": "as:manuallyApprovesFollowers", "groupId": "mimi:groupId", "groupInfo": Object{"@id": "mimi:groupInfo", "@type": "@id"},
		"alsoKnownAs":  Object{"@id": "as:alsoKnownAs", "@type": "@id"},
		"discoverable": "http://joinmastodon.org/ns#discoverable",
		"implements":   Object{"@id": "https://w3id.org/fep/844e#implements", "@type": "@id", "@container": "@set"},
	})
}

// withContext puts the @context on an activity that is sent as a document of its own.
func withContext(o Object) Object {
	out := Object{"@context": inlineContext()}
	for k, v := range o {
		out[k] = v
	}
	return out
}
