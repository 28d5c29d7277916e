package event

import (
	"encoding/json"

	"maunium.net/go/mautrix/id"
)

// MaxReactionKey is the largest key of a reaction that is read, in octets.
const MaxReactionKey = 512

// Relation is what an event says about other events (Matrix spec,
// "Forming relationships between events"). At most one of Replaces, Annotates,
// Thread and References is set; ReplyTo may stand beside Thread.
type Relation struct {
	// ReplyTo is the event that is answered (`m.in_reply_to`).
	ReplyTo id.EventID
	// Replaces is the event that is edited (`m.replace`).
	Replaces id.EventID
	// Annotates is the event that is reacted to with Key (`m.annotation`).
	Annotates id.EventID
	Key       string
	// Thread is the root of the thread (`m.thread`). ThreadFallback says that
	// ReplyTo is only there for clients that know no threads.
	Thread         id.EventID
	ThreadFallback bool
	// References is the event of an `m.reference`.
	References id.EventID
}

// IsZero reports whether the event relates to nothing.
func (r Relation) IsZero() bool { return r == Relation{} }

// ParseRelation reads `m.relates_to` of a content. Relations that are not
// understood or point to no valid event are as if absent.
func ParseRelation(content Object) Relation {
	o := content.Obj("m.relates_to")
	if o == nil {
		return Relation{}
	}
	var r Relation
	r.ReplyTo = eventID(o.Obj("m.in_reply_to"), "event_id")
	target := eventID(o, "event_id")
	if target == "" {
		return r
	}
	switch o.Str("rel_type") {
	case "m.replace":
		r = Relation{Replaces: target}
	case "m.annotation":
		key := o.Str("key")
		if key == "" || len(key) > MaxReactionKey {
			return Relation{}
		}
		r = Relation{Annotates: target, Key: key}
	case "m.thread":
		r.Thread = target
		r.ThreadFallback = r.ReplyTo != "" && o.Bool("is_falling_back")
	case "m.reference":
		r.References = target
	}
	return r
}

func eventID(o Object, key string) id.EventID {
	e := id.EventID(o.Str(key))
	if !ValidEventID(e) && !IsPending(e) {
		return ""
	}
	return e
}

// Encode returns the value of `m.relates_to`, or nil when there is nothing to
// say.
func (r Relation) Encode() json.RawMessage {
	type ref struct {
		EventID id.EventID `json:"event_id"`
	}
	var w struct {
		RelType     string     `json:"rel_type,omitempty"`
		EventID     id.EventID `json:"event_id,omitempty"`
		Key         string     `json:"key,omitempty"`
		FallingBack bool       `json:"is_falling_back,omitempty"`
		InReplyTo   *ref       `json:"m.in_reply_to,omitempty"`
	}
	switch {
	case r.Replaces != "":
		w.RelType, w.EventID = "m.replace", r.Replaces
	case r.Annotates != "":
		w.RelType, w.EventID, w.Key = "m.annotation", r.Annotates, r.Key
	case r.Thread != "":
		w.RelType, w.EventID, w.FallingBack = "m.thread", r.Thread, r.ThreadFallback && r.ReplyTo != ""
	case r.References != "":
		w.RelType, w.EventID = "m.reference", r.References
	case r.ReplyTo == "":
		return nil
	}
	if r.ReplyTo != "" && r.Replaces == "" && r.Annotates == "" {
		w.InReplyTo = &ref{r.ReplyTo}
	}
	return mustJSON(w)
}
