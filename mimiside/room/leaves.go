package room

import (
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Leaves says which leaves belong to whom.
type Leaves struct {
	byUser map[string][]mls.LeafIndex
	byLeaf map[mls.LeafIndex]Identity
}

// LeavesOf reads the members of a group. Leaves whose credential names nobody belong to nobody.
func LeavesOf(members []mls.Member) Leaves {
	l := Leaves{byUser: make(map[string][]mls.LeafIndex, len(members)), byLeaf: make(map[mls.LeafIndex]Identity, len(members))}
	for _, m := range members {
		id, err := IdentityOf(&m.Leaf.Credential)
		if err != nil {
			continue
		}
		l.byLeaf[m.Index] = id
		key := id.User.Key()
		l.byUser[key] = append(l.byUser[key], m.Index)
	}
	return l
}

// Of returns the leaves of a user in ascending order.
func (l Leaves) Of(user wire.IdentifierURI) []mls.LeafIndex { return l.byUser[user.Key()] }

// Who returns the identity of a leaf, false for a leaf that is blank or nobody's.
func (l Leaves) Who(leaf mls.LeafIndex) (Identity, bool) {
	id, ok := l.byLeaf[leaf]
	return id, ok
}

// Active tells whether a user has a client in the group.
func (l Leaves) Active(user wire.IdentifierURI) bool { return len(l.byUser[user.Key()]) > 0 }
