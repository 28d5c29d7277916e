package activitypub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrActivity: an activity that may not be taken. It is permanent.
var ErrActivity = errors.New("activity refused")

// ErrSigner: an activity that another signed than its actor. It is permanent.
var ErrSigner = errors.New("signed by another than its actor")

// maxRecipients bounds the addresses that are read of one activity.
const maxRecipients = 1000

// activityTypes are the activities that are understood, outside and inside MLS.
var activityTypes = []string{
	"Create", "Update", "Delete", "Add", "Remove", "Announce", "Accept", "Reject", "Follow", "Undo", "Like", "EmojiReact", "Read", "Listen",
	"View", "Move", "Leave", "Acknowledge", "Failure", "IntransitiveActivity", "Invite", "Join", "Block", "Flag",
}

// ReceivedActivity is an activity as it came, not to be trusted. Check makes an Activity of it.
type ReceivedActivity struct{ raw Object }

// Activity is an activity whose actor signed the request that brought it.
type Activity struct {
	ID, Type, Actor string
	To              []string // to, cc, bto, bcc and audience, in that order, without Public
	Public          bool
	// ObjectID names the object; Object is set when it was embedded.
	ObjectID string
	Object   Object
	Target   string
	// Commit and Welcome are the MLS bytes beside the object (AIM §5.2), nil when absent.
	Commit, Welcome []byte
	Summary         string
	Raw             Object
}

// ReadActivity parses the body of a POST to an inbox.
func ReadActivity(body []byte) (*ReceivedActivity, error) {
	o, err := ParseObject(body)
	if err != nil {
		return nil, err
	}
	r := &ReceivedActivity{raw: o}
	if r.Type() == "" {
		return nil, fmt.Errorf("%w: type is not known", ErrActivity)
	}
	if !validURL(r.Actor()) {
		return nil, fmt.Errorf("%w: actor is missing", ErrActivity)
	}
	return r, nil
}

// Type is what the activity says it is, "" when that is not known.
func (r *ReceivedActivity) Type() string { return r.raw.typeAmong(activityTypes...) }

// Actor is who the activity says it is from.
func (r *ReceivedActivity) Actor() string { return ref(r.raw["actor"]) }

// ID is the id that the activity gives itself.
func (r *ReceivedActivity) ID() string { return r.raw.Str("id", "@id") }

// Check makes the activity one that may be acted on: its actor is the signer, its id and its object are of the actor's origin.
// hostsGroup tells whether the signer is the channel actor of a group that we are in: then attributedTo of an MLS object is a hint
// about its author, who is known by MLS.
func (r *ReceivedActivity) Check(signer string, hostsGroup bool) (*Activity, error) {
	return r.check(signer, hostsGroup, false)
}

// CheckForwarded checks an activity that a channel actor passed on inside its own Announce. Nothing vouches for its actor but
// the channel's server, so that only its MLS bytes count.
func (r *ReceivedActivity) CheckForwarded() (*Activity, error) { return r.check(r.Actor(), true, true) }

func (r *ReceivedActivity) check(signer string, hostsGroup, forwarded bool) (*Activity, error) {
	o := r.raw
	a := &Activity{ID: r.ID(), Type: r.Type(), Actor: r.Actor(), Target: ref(o["target"]), Summary: o.Str("summary"), Raw: o}
	if a.Actor != signer {
		return nil, fmt.Errorf("%w: %w", ErrActivity, ErrSigner)
	}
	if a.ID != "" && (!validURL(a.ID) || !sameOrigin(a.ID, a.Actor)) {
		return nil, fmt.Errorf("%w: its id is not of its actor's origin", ErrActivity)
	}
	if a.ID == "" && a.Type != "Update" { // AIM figure 9 has an Update without id
		return nil, fmt.Errorf("%w: id is missing", ErrActivity)
	}
	for _, field := range []string{"to", "cc", "bto", "bcc", "audience"} {
		for _, id := range refs(o[field], maxRecipients) {
			switch {
			case isPublic(id):
				a.Public = true
			case !slices.Contains(a.To, id) && len(a.To) < maxRecipients:
				a.To = append(a.To, id)
			}
		}
	}
	if err := a.object(o["object"], hostsGroup); err != nil {
		return nil, err
	}
	var err error
	if a.Commit, err = mlsProperty(o, commitNames...); err != nil {
		return nil, err
	}
	a.Welcome, err = mlsProperty(o, "welcome", "mimi:welcome", "urn:ietf:ns:mimi#welcome")
	return a, err
}

// fetchObject gets the object of a Create that only names it: it must be of the actor's own server, which is asked for it (docs/activitypub.md). Errors that are
// not ErrActivity are temporary.
func (a *Activity) fetchObject(ctx context.Context, g *Gate, hostsGroup bool) error {
	if a.Type != "Create" || a.Object != nil {
		return nil
	}
	if !sameOrigin(a.ObjectID, a.Actor) {
		return fmt.Errorf("%w: its object is not of its actor's origin", ErrActivity)
	}
	done, err := g.lookups.Begin(ctx, a.ObjectID)
	if err != nil {
		return err
	}
	defer done()
	d, err := g.people.fetch.Document(ctx, a.ObjectID)
	if errors.Is(err, ErrGone) || errors.Is(err, ErrUnfit) {
		return fmt.Errorf("%w: its object cannot be had: %w", ErrActivity, err)
	}
	if err != nil {
		return err
	}
	return a.object(d.Object, hostsGroup)
}

// object reads the object of an activity: an embedded node whose author is the actor, or a URL.
func (a *Activity) object(v any, hostsGroup bool) error {
	if list, ok := v.([]any); ok && len(list) == 1 {
		v = list[0]
	}
	switch v := v.(type) {
	case string:
		a.ObjectID = v
	case Object:
		a.Object, a.ObjectID = v, v.Str("id", "@id")
		if a.Type != "Create" && a.Type != "Update" {
			return nil
		}
		if a.ObjectID != "" && !sameOrigin(a.ObjectID, a.Actor) && !(a.Type == "Update" && a.Object.typeAmong(channelTypes...) != "") {
			return fmt.Errorf("%w: its object is not of its actor's origin", ErrActivity)
		}
		by := ref(v["attributedTo"])
		if by != "" && by != a.Actor && !(hostsGroup && IsMLSObject(v)) && !sameOrigin(by, a.Actor) {
			return fmt.Errorf("%w: its object is attributed to another origin", ErrActivity)
		}
	case nil:
		if a.Type != "IntransitiveActivity" {
			return fmt.Errorf("%w: object is missing", ErrActivity)
		}
	default:
		return fmt.Errorf("%w: object is malformed", ErrActivity)
	}
	return nil
}

// commitNames are the spellings of the property with a commit.
var commitNames = []string{"commit", "mimi:commit", "urn:ietf:ns:mimi#commit"}

// mlsProperty reads MLS bytes that stand beside the object: base64, or an object that carries them.
func mlsProperty(o Object, names ...string) ([]byte, error) {
	v := o.get(names...)
	text := ""
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		text = v
	case Object:
		text = v.Str("content", "@value")
	}
	if text == "" {
		return nil, nil // the figures of AIM leave it empty
	}
	b, err := DecodeBase64(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %v", ErrActivity, names[0], err)
	}
	if _, _, err := ParseMLS(b); err != nil {
		return nil, fmt.Errorf("%w: %s: %v", ErrActivity, names[0], err)
	}
	return b, nil
}

// channelTypes are the types of actors that a channel may have.
var channelTypes = []string{"Service", "Group", "Application", "Organization"}

// validURL tells whether a string is an absolute http(s) URL of acceptable length, of characters that are seen.
func validURL(s string) bool {
	return len(s) <= maxURL && originOf(s) != "" && visible(s) && !strings.ContainsAny(s, "\"<>")
}
