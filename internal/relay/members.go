package relay

import (
	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// memberTable is who is in a room, on both sides. It is our own account of Matrix memberships: some homeservers do not say
// what a membership was before.
type memberTable struct {
	byMXID map[string]store.Member
	byURI  map[string]string // URI key → mxid
}

func newMemberTable(rows []store.Member) *memberTable {
	t := &memberTable{byMXID: make(map[string]store.Member, len(rows)), byURI: make(map[string]string, len(rows))}
	for _, m := range rows {
		t.put(m)
	}
	return t
}

func (t *memberTable) put(m store.Member) {
	t.byMXID[m.MXID] = m
	if m.URI != "" {
		t.byURI[wire.IdentifierURI(m.URI).Key()] = m.MXID
	}
}

// of returns the member with a Matrix id; one that is not known is new and never was in the room.
func (t *memberTable) of(mxid string) (store.Member, bool) {
	m, ok := t.byMXID[mxid]
	if !ok {
		m = store.Member{MXID: mxid, Leaf: -1}
	}
	return m, ok
}

// ofURI returns the member with a MIMI user URI.
func (t *memberTable) ofURI(uri string) (store.Member, bool) {
	mxid, ok := t.byURI[wire.IdentifierURI(uri).Key()]
	if !ok {
		return store.Member{}, false
	}
	m, ok := t.byMXID[mxid]
	return m, ok
}

// joined tells whether a Matrix user is in the Matrix room.
func (t *memberTable) joined(mxid string) bool {
	m, ok := t.byMXID[mxid]
	return ok && m.Membership == string(event.Join)
}
