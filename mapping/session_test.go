package mapping

import (
	"testing"

	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/content"
)

// A call that can be joined without a Matrix account is a session for MIMI users, and a text with its address beside Matrix again.
func TestCallIsASession(t *testing.T) {
	a, b := bothSides()
	a.CallURL = "https://call.b.example/room/#/?roomId={room}"
	octets, _, o, err := a.send(evt("$c", "@alice:one", event.TypeCallInvite, `{"call_id":"1"}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	part, ok := o.Message.Body.Body.(content.ExternalPart)
	if !ok || o.Message.Body.Disposition != content.Session || part.URL != "https://call.b.example/room/#/?roomId=%21r:hs" || part.EncAlg != content.NoAEAD {
		t.Fatalf("a call became %+v", o.Message.Body)
	}
	res, _, err := b.receive("mimi://b.example/u/alice", octets, 1700000000000)
	if err != nil || len(res.Events) != 1 {
		t.Fatalf("%d events, %v", len(res.Events), err)
	}
	if got, want := res.Events[0].Message.Body, "Alice started a call on Matrix: https://call.b.example/room/#/?roomId=%21r:hs"; got != want {
		t.Errorf("arrived as %q", got)
	}
}
