package mls

// PieceKey names one stored piece of a group. Kinds and what A, B and C mean:
//
//	group                     what never changes: group id, suite
//	epoch     epoch           GroupContext and secrets of an epoch, the present one or one that is remembered
//	tree      stratum chunk   up to 31 neighbouring nodes of the present tree
//	own       leaf            an own leaf: its private keys
//	path      node            a private key of the path that the pool knows
//	seed      epoch node leaf secrets of the secret tree that have not been used up: of the node, and beside the way from it to the leaf
//	send      epoch leaf kind the sending ratchet of an own leaf; kind 1 handshake, 2 application
//	recv      epoch leaf kind the receiving ratchet of a member
//	proposal  epoch number    a proposal that waits for a commit
//	update    epoch number    the private keys of an own Update proposal that waits for a commit
//	exports    epoch           what the safe exporter has not handed out yet
//	resumption epoch           the resumption PSK of a past epoch
//
// A caller stores the key and must not interpret it.
type PieceKey struct {
	Kind    string
	A, B, C uint64
}

// Piece is one stored piece. Data holds secrets in most kinds: seal it.
type Piece struct {
	Key  PieceKey
	Data Secret
}

// PieceRange names all pieces of a kind whose key has the given A.
type PieceRange struct {
	Kind string
	A    uint64
}

// Changes says what an operation changed in the stored form of a group. The caller writes it in one transaction
// together with what the operation returned, before anything of it is sent: first DeleteRange and Delete, then Put,
// which overwrites. After a failed transaction the group in memory must be dropped and loaded again.
type Changes struct {
	Put         []Piece
	Delete      []PieceKey
	DeleteRange []PieceRange
}

// Empty tells whether nothing changed.
func (c *Changes) Empty() bool { return len(c.Put)+len(c.Delete)+len(c.DeleteRange) == 0 }

// Apply brings a map of pieces up to date: what a database does with Changes, for tests and for callers that keep
// the pieces in memory.
func (c *Changes) Apply(pieces map[PieceKey]Secret) {
	for _, r := range c.DeleteRange {
		for k := range pieces {
			if k.Kind == r.Kind && k.A == r.A {
				delete(pieces, k)
			}
		}
	}
	for _, k := range c.Delete {
		delete(pieces, k)
	}
	for _, p := range c.Put {
		pieces[p.Key] = p.Data
	}
}
