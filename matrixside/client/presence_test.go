package client

import (
	"context"
	"testing"
)

func TestSetPresence(t *testing.T) {
	f := ghostly(newFake(t)).on("PUT /presence/@mimi_a:hs/status", 200, `{}`)
	c := newClient(t, f)
	if err := c.SetPresence(context.Background(), "@mimi_a:hs", "online", "at work"); err != nil {
		t.Fatal(err)
	}
	if got := f.bodies["PUT /presence/@mimi_a:hs/status"]; got != `{"presence":"online","status_msg":"at work"}` {
		t.Errorf("sent %s", got)
	}
	if err := c.SetPresence(context.Background(), "@mimi_a:hs", "offline", ""); err != nil {
		t.Fatal(err)
	}
}
