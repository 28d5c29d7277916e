// Package killpoint has the named places at which the crash tests (test/crash) kill the process. Built without the
// tag "killpoint" a Hit does nothing and is not there at run time.
//
// With the tag, MIMI_KILLPOINT=K11:3 kills the process at the third hit of K11. Without a number it is
// the first. MIMI_KILLPOINT_LOG names a file to which each hit is added as a line, so that a harness
// learns which places a run passes.
package killpoint

// Environment variables that are read at start.
const (
	Env    = "MIMI_KILLPOINT"
	EnvLog = "MIMI_KILLPOINT_LOG"
)

// Names are all places that exist. A place is passed when what is said of it has happened.
var Names = []string{
	// From Matrix to MIMI; K10 to K14 are passed by every request but those to the homeserver.
	"K1",  // a transaction of the homeserver was read
	"K2",  // its events are written, not committed
	"K3",  // committed, not answered
	"K4",  // answered
	"K5",  // a worker has the input
	"K6",  // the room is loaded, nothing encrypted
	"K7",  // encrypted, nothing written
	"K8",  // ratchet, link, bytes and input done are written, not committed
	"K9",  // committed
	"K10", // the lane is claimed, nothing sent
	"K11", // sent; the answer is there and not looked at
	"K12", // the answer is known, nothing written
	"K13", // the row is closed, not committed
	"K14", // committed

	// From MIMI to Matrix; K20 to K22 are requests to the homeserver.
	"K15", // the body of a fan-out was read
	"K16", // stored, not committed
	"K17", // committed, not answered
	"K18", // decrypted, nothing written
	"K19", // written, not committed
	"K20", // committed, not sent to the homeserver
	"K21", // sent; the answer is there and not looked at
	"K22", // the answer is known, the event id not stored

	// Commits.
	"K23", // staged, not stored
	"K24", // stored, not sent
	"K25", // sent; the answer is there and not looked at
	"K26", // accepted, not merged
	"K27", // merged, not committed
	"K28", // as the hub: committed, the Welcome not sent
	"K29", // lost, not discarded
	"K30", // another member's is merged, not committed

	// As the hub.
	"K31", // the epoch has moved on in memory
	"K32", // written, not committed
	"K33", // committed, not answered
	"K34", // one follower was served, others not

	// KeyPackages.
	"K35", // made, nothing written
	"K36", // one is claimed, not committed
	"K37", // the group of a Welcome is written, not committed

	// Submission in bulk.
	"K38", // messages stored, not committed
	"K39", // committed, not answered
	"K40", // verdicts stored, not committed
	"K41", // committed, not answered
}
