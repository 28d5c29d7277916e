// Package killpoint has the named places at which the crash tests kill the process
// (specs/reliability.md §5). Built without the tag "killpoint" a Hit does nothing and is not there at
// run time.
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

// Names are all places that exist, in the order of specs/reliability.md §5. Those of submission in bulk: K38 messages stored, not
// committed; K39 committed, not answered; K40 verdicts stored, not committed; K41 committed, not answered.
var Names = []string{
	"K1", "K2", "K3", "K4", "K5", "K6", "K7", "K8", "K9", "K10", "K11", "K12", "K13", "K14", "K15", "K16", "K17", "K18", "K19",
	"K20", "K21", "K22", "K23", "K24", "K25", "K26", "K27", "K28", "K29", "K30", "K31", "K32", "K33", "K34", "K35", "K36", "K37",
	"K38", "K39", "K40", "K41",
}
