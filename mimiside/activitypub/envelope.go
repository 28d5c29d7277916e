package activitypub

import (
	"encoding/base64"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// Envelope says who sends what to whom.
type Envelope struct {
	// ID is the token of the activity's id (Site.ObjectID); that of its object is made of it.
	ID string
	// Actor signs and sends; Author is the member whose MLS bytes they are, "" for Actor itself.
	Actor, Author string
	To            []string
	// Conversation is the id of the collection of the group's activities, or "".
	Conversation string
	Published    time.Time
}

const privateHint = "This is an encrypted message. Your server or app does not show encrypted messages yet."

func (s Site) base(e Envelope, kind string) Object {
	to := make([]any, len(e.To))
	for i, id := range e.To {
		to[i] = id
	}
	o := Object{"@context": inlineContext(), "id": s.ObjectID(e.ID), "type": kind, "actor": e.Actor, "to": to}
	setTime(o, e.Published)
	return o
}

// MLSCreate is the Create of one MLS message (MLS over ActivityPub, "Message delivery"): recipients one by one, the type by the bytes.
func (s Site) MLSCreate(e Envelope, mlsBytes []byte) Object {
	o := s.base(e, "Create")
	object := Object{"id": s.ObjectID(e.ID + "-o"), "type": []any{"Object", kindOf(mlsBytes)}, "attributedTo": firstOf(e.Author, e.Actor), "to": o["to"],
		"mediaType": typeMLS, "encoding": "base64", "content": base64.StdEncoding.EncodeToString(mlsBytes), "summary": privateHint,
		"generator": Object{"type": "Application", "id": s.Instance(), "name": "mimi-bridge"}}
	if e.Conversation != "" {
		object["conversation"], object["context"] = e.Conversation, e.Conversation
	}
	setTime(object, e.Published)
	o["object"] = object
	return o
}

// ChannelCreate announces a channel to somebody who is in its group from the start (AIM figure 6).
func (s Site) ChannelCreate(e Envelope, channel, name string, welcome []byte) Object {
	o := s.base(e, "Create")
	o["summary"] = "A conversation was created"
	o["object"] = Object{"type": "Service", "id": channel, "name": name, "attributedTo": e.Actor}
	o["mimi:welcome"] = base64.StdEncoding.EncodeToString(welcome)
	return o
}

// ChannelMessage is a member's message to a channel (AIM figure 7) in the form that servers of both documents read.
func (s Site) ChannelMessage(e Envelope, channel string, mlsBytes []byte) Object {
	e.To = []string{channel + "/followers"}
	return s.MLSCreate(e, mlsBytes)
}

// ChannelAdd and ChannelRemove change the membership of a channel (AIM figure 8): the commit does the same to its group.
func (s Site) ChannelAdd(e Envelope, channel, member string, commit, welcome []byte) Object {
	o := s.member(e, "Add", channel, member, commit)
	o["welcome"] = base64.StdEncoding.EncodeToString(welcome)
	return o
}

// ChannelRemove is the counterpart of ChannelAdd.
func (s Site) ChannelRemove(e Envelope, channel, member string, commit []byte) Object {
	return s.member(e, "Remove", channel, member, commit)
}

func (s Site) member(e Envelope, kind, channel, member string, commit []byte) Object {
	if len(e.To) == 0 {
		e.To = []string{channel + "/followers"}
	}
	o := s.base(e, kind)
	o["object"], o["target"], o["commit"] = member, channel+"/followers", base64.StdEncoding.EncodeToString(commit)
	return o
}

// ChannelUpdate changes what is known of a channel (AIM figure 9).
func (s Site) ChannelUpdate(e Envelope, channel string, changes Object) Object {
	if len(e.To) == 0 {
		e.To = []string{channel}
	}
	o := s.base(e, "Update")
	object := Object{"type": "Service", "id": channel}
	for k, v := range changes {
		object[k] = v
	}
	o["object"] = object
	return o
}

// Announce passes a member's activity on in the name of the channel, whole (FEP-1b12).
func (s Site) Announce(e Envelope, activity Object) Object {
	o := s.base(e, "Announce")
	inner := Object{}
	for k, v := range activity {
		if k != "@context" {
			inner[k] = v
		}
	}
	o["object"] = inner
	return o
}

// RejectOf tells a member that its activity was not taken: its commit is not of the channel's present epoch.
func (s Site) RejectOf(e Envelope, activity string) Object {
	o := s.base(e, "Reject")
	o["object"] = activity
	return o
}

// ActorUpdate tells that an actor of ours changed (ActivityPub §7.3). actor is its whole document.
func (s Site) ActorUpdate(e Envelope, actor Object) Object {
	o := s.base(e.forAll(), "Update")
	inner := Object{}
	for k, v := range actor {
		if k != "@context" {
			inner[k] = v
		}
	}
	o["@context"], o["object"] = actor["@context"], inner
	return o
}

// ActorDelete tells that an actor of ours is gone (ActivityPub §6.4).
func (s Site) ActorDelete(e Envelope) Object {
	o := s.base(e.forAll(), "Delete")
	o["object"] = e.Actor
	return o
}

// forAll addresses everybody when nobody is named.
func (e Envelope) forAll() Envelope {
	if len(e.To) == 0 {
		e.To = []string{Public}
	}
	return e
}

// KeyPackageCreate publishes a KeyPackage, KeyPackageAdd puts it into the collection, KeyPackageRemove and KeyPackageDelete take
// it back (MLS over ActivityPub, "Key storage").
func (s Site) KeyPackageCreate(e Envelope, object Object) Object {
	e = e.forAll()
	o := s.base(e, "Create")
	object["to"] = o["to"]
	o["object"] = object
	return o
}

// KeyPackageAdd is the second step of a KeyPackage's life.
func (s Site) KeyPackageAdd(e Envelope, id string) Object {
	return s.keyPackageMove(e, "Add", id)
}

// KeyPackageRemove is the third step.
func (s Site) KeyPackageRemove(e Envelope, id string) Object {
	return s.keyPackageMove(e, "Remove", id)
}

func (s Site) keyPackageMove(e Envelope, kind, id string) Object {
	e = e.forAll()
	o := s.base(e, kind)
	o["object"], o["target"] = id, e.Actor+"/keyPackages"
	return o
}

// KeyPackageDelete is the last step.
func (s Site) KeyPackageDelete(e Envelope, id string) Object {
	e = e.forAll()
	o := s.base(e, "Delete")
	o["object"] = id
	return o
}

// GroupInfoObject is the state of a channel's group as an object of its own (MLS over ActivityPub, "GroupInfo").
func (s Site) GroupInfoObject(channel string, info []byte) Object {
	return Object{"@context": inlineContext(), "id": channel + "/groupInfo", "type": []any{"Object", "GroupInfo"}, "attributedTo": channel, "mediaType": typeMLS,
		"encoding": "base64", "content": base64.StdEncoding.EncodeToString(info)}
}

// KeyPackageObject is a KeyPackage as an object of its own: the bare structure, with the name of its suite, as the clients in
// use want it.
func (s Site) KeyPackageObject(actor, id string, public []byte, suite uint16) Object {
	return Object{"id": id, "type": []any{"Object", "KeyPackage"}, "attributedTo": actor, "to": []any{Public}, "mediaType": typeMLS, "encoding": "base64",
		"content": base64.StdEncoding.EncodeToString(public), "ciphersuite": suiteName(mls.Suite(suite)),
		"generator": Object{"type": "Application", "id": s.Instance(), "name": "mimi-bridge"}}
}
