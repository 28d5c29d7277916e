package client

import (
	"testing"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/matrixside/event"
)

func TestDirectChatIsAddedOnce(t *testing.T) {
	const get, put = "GET /user/@bob:hs/account_data/m.direct", "PUT /user/@bob:hs/account_data/m.direct"
	mark := event.NewRequest(event.MarkDirect{User: "@bob:hs", With: []id.UserID{"@mimi_alice:hs", "@odd:hs"}})
	for name, c := range map[string]struct {
		status    int
		had, want string
	}{
		"none":   {404, `{"errcode":"M_NOT_FOUND"}`, `{"@mimi_alice:hs":["!r:hs"],"@odd:hs":["!r:hs"]}`},
		"others": {200, `{"@mimi_alice:hs":["!o:hs"],"@x:hs":["!x:hs"],"@odd:hs":7}`, `{"@mimi_alice:hs":["!o:hs","!r:hs"],"@odd:hs":7,"@x:hs":["!x:hs"]}`},
		"there":  {200, `{"@mimi_alice:hs":["!r:hs"],"@odd:hs":["!r:hs"]}`, ""},
	} {
		f := newFake(t).on(get, c.status, c.had).on(put, 200, `{}`)
		res := newClient(t, f).Do(t.Context(), Row{Request: mark, Room: "!r:hs", Txn: "t"})
		if res.Class != Done {
			t.Errorf("%s: %v %v", name, res.Class, res.Err)
		}
		if got := f.bodies[put]; got != c.want {
			t.Errorf("%s: wrote %s, want %s", name, got, c.want)
		}
	}
}
