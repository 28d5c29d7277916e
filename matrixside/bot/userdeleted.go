package bot

import (
	"context"
	"errors"
	"strings"

	"github.com/matrix-mimi/bridge/internal/relay"
)

var userDeleted = &Handler{Name: "user-deleted", Usage: "<@user:server>", Help: "tells other providers that a Matrix user does not exist any more; say it after the homeserver deactivated the account",
	Needs: Admin, MinArgs: 1, Do: func(ctx context.Context, e *Event) error {
		mxid := e.Args[0]
		if !strings.HasPrefix(mxid, "@") || !strings.Contains(mxid, ":") {
			return Tell("%s is no Matrix user: write @user:server.", Quote(mxid))
		}
		err := e.Bot.cfg.Actions.DeleteUser(ctx, mxid)
		if errors.Is(err, relay.ErrNobody) {
			return Tell("%s never took part in rooms of the bridge.", Quote(mxid))
		}
		if err != nil {
			return explain(err)
		}
		return e.Reply("%s leaves all rooms of the bridge, and the providers that know them are told.", Quote(mxid))
	}}
