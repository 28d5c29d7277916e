package relay

import (
	"testing"

	"github.com/matrix-mimi/bridge/internal/store"
)

// A request after which nothing is to be written makes no transaction; whatever else there is, is written.
func TestWhatARequestLeavesIsWritten(t *testing.T) {
	for name, c := range map[string]struct {
		fx    effects
		empty bool
	}{
		"nothing":                  {effects{}, true},
		"lists without entries":    {effects{members: map[string]store.Member{}, out: []store.Outbound{}}, true},
		"a secret that is dropped": {effects{secrets: map[string][]byte{"x": nil}}, false},
		"a KeyPackage given out":   {effects{usedKeys: [][]byte{{1}}}, false},
		"a group that is dropped":  {effects{dropGroup: true}, false},
		"an answer to keep":        {effects{answer: &store.StoredAnswer{}}, false},
		"activities to delete":     {effects{dropActivities: []string{"x"}}, false},
	} {
		if got := c.fx.empty(); got != c.empty {
			t.Errorf("%s: %v", name, got)
		}
	}
}
