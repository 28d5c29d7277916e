package activitypub

import (
	"context"
	"errors"
)

// Errors of a Backend, and what the other server is told.
var (
	// ErrNotFound: there is no such thing here, or nothing that the reader may know of (404).
	ErrNotFound = errors.New("not found")
	// ErrDeleted: there was such an actor, and there will be none again (410).
	ErrDeleted = errors.New("deleted")
	// ErrForbidden: the reader may not see it (403).
	ErrForbidden = errors.New("not for the reader")
	// ErrEpoch: the commit is not of the channel's present epoch (409; AIM §5.2.3).
	ErrEpoch = errors.New("the commit is of another epoch")
)

// Offer is a KeyPackage of a user of ours.
type Offer struct {
	Token  string // its name in addresses
	Public []byte // the bare structure
	Suite  uint16
}

// Box is a list of activities.
type Box string

// The boxes.
const (
	BoxOut          Box = "out"          // what an actor of ours sent
	BoxIn           Box = "in"           // the MLS activities that an actor of ours received: messages
	BoxConversation Box = "conversation" // the activities of one group
)

// Listing is one page of a box, newest first.
type Listing struct {
	Items []Object
	Total int    // only where no items are asked for
	Next  string // what Before is for the next page, "" at the end
}

// Delivered is an activity for actors of ours that may be acted on.
type Delivered struct {
	Activity *Activity
	// Inbox is the actor of ours whose inbox was used, "" for the shared one.
	Inbox string
	// Body are the octets that came.
	Body []byte
	// MLS are the MLS bytes that the activity carries as its object, nil when there are none.
	MLS *MLSObject
	// Forwarded is the activity of a member that a channel passed on in its Announce, nil otherwise; MLS is then of that one.
	Forwarded *Activity
}

// Backend is what the face needs to know and keep. All methods may be called at once. Errors other than the package's are temporary.
type Backend interface {
	// Find tells whom of ours the resource of a WebFinger query names: acct:, the id of an actor, mimi://, matrix:. ErrNotFound.
	Find(ctx context.Context, resource string) (Found, error)
	// User, Room and Instance return what is published of an actor. ErrNotFound, ErrDeleted.
	User(ctx context.Context, name string) (Profile, error)
	Room(ctx context.Context, token string) (RoomProfile, error)
	Instance(ctx context.Context) (pem string, err error)
	// Users is how many users take part.
	Users(ctx context.Context) (int, error)
	// Claim hands a KeyPackage of a user to a requester: the same one as long as that is not used, another one to everybody else, the last
	// resort when there is no other. ErrNotFound.
	Claim(ctx context.Context, name, requester string) (Offer, error)
	// Offered returns a KeyPackage that was claimed by the requester. ErrNotFound.
	Offered(ctx context.Context, name, token, requester string) (Offer, error)
	// Members are the ids of the actors in a room. ErrNotFound.
	Members(ctx context.Context, token string) ([]string, error)
	// GroupInfo is the state of the group of a room, as an MLSMessage with the tree in it, for its members. ErrNotFound.
	GroupInfo(ctx context.Context, token string) ([]byte, error)
	// List returns a page of a box as far as the reader ("" for anybody) may see it; with the limit 0 how many there are, instead.
	List(ctx context.Context, box Box, owner, reader, before string, limit int) (Listing, error)
	// Object returns an activity or object that we sent, if the reader was an addressee. ErrNotFound.
	Object(ctx context.Context, id, reader string) (Object, error)
	// HostsGroup tells whether an actor of another server is the channel of a group that we are in.
	HostsGroup(ctx context.Context, actor string) (bool, error)
	// Leaving tells whether ours are about to leave a group because people of blocked servers are in it, and have not got out yet: then its handshakes
	// are taken from there as well.
	Leaving(ctx context.Context, group []byte) (bool, error)
	// Receive stores an activity before it is answered for. fresh is false when it was here before, by its id or by its MLS bytes. ErrNotFound
	// when it is for nobody of ours, ErrEpoch, ErrForbidden.
	Receive(ctx context.Context, d Delivered) (fresh bool, err error)
}
