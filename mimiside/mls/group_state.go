package mls

import "time"

// epoch is everything about one epoch but the private keys of own leaves.
type epoch struct {
	context GroupContext
	tree    *ratchetTree
}

// pastEpoch is what is remembered of an epoch for late messages.
type pastEpoch struct {
	number uint64
	ended  time.Time
}

// ownLeaf is the private side of one own leaf.
type ownLeaf struct {
	signature     *SignatureKey
	encryptionKey Secret
}

// proposalCache holds the proposals of the present epoch that wait for a commit.
type proposalCache struct{}
