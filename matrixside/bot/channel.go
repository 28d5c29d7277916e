package bot

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/matrix-mimi/bridge/internal/relay"
	"github.com/matrix-mimi/bridge/matrixside/event"
)

// Channels is what commands do with channels of the ActivityPub world. internal/relay implements it.
type Channels interface {
	// StartChat begins a conversation with accounts of other servers, or finds the one that there is.
	StartChat(ctx context.Context, by string, handles ...string) error
	// OfferChannel makes a Matrix room a channel.
	OfferChannel(ctx context.Context, roomID, by, eventID string) error
	// InviteToChannel adds somebody, @user@domain or acct:user@domain, to the channel that a Matrix room is; relay.ErrNoChannel when it is none.
	InviteToChannel(ctx context.Context, roomID, by, handle, eventID string) error
	// JoinChannel asks a channel of another server to let a Matrix user in; LeaveChannel takes one out.
	JoinChannel(ctx context.Context, by, handle string) error
	LeaveChannel(ctx context.Context, roomID, by, eventID string) error
}

// channelTime bounds what a command waits for other servers.
const channelTime = 30 * time.Second

// UseChannels lets commands take accounts of ActivityPub servers, and adds the commands for channels.
func (b *Bot) UseChannels(c Channels) {
	b.channels = c
	b.Register(offerChannel, leaveChannel)
}

// account tells whether an address is @user@domain or acct:user@domain.
func account(s string) bool {
	return strings.HasPrefix(s, "acct:") || strings.Count(s, "@") == 2 && strings.HasPrefix(s, "@") || strings.Count(s, "@") == 1 && s[0] != '@' && !strings.Contains(s, "/")
}

// inChannel does something for an account where the ActivityPub face is on. done is false when the address, or the room, is of MIMI.
func (e *Event) inChannel(ctx context.Context, address string, do func(context.Context, Channels) error) (done bool, err error) {
	if e.Bot.channels == nil || !account(address) {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, channelTime)
	defer cancel()
	err = do(ctx, e.Bot.channels)
	if errors.Is(err, relay.ErrNoChannel) {
		return false, nil
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return true, Tell("The server of %s does not answer.", Quote(address))
	}
	return true, explain(err)
}

var offerChannel = &Handler{Name: "channel", Help: "makes this room a channel, so that people of ActivityPub servers can be invited and find it", Needs: User, InRoom: true, Do: func(ctx context.Context, e *Event) error {
	if err := e.mayAct(ctx, "join rooms to others", func(p event.PowerLevels) int64 { return stateLevel(p) }); err != nil {
		return err
	}
	return explain(e.Bot.channels.OfferChannel(ctx, e.RoomID, e.Sender, e.EventID))
}}

var leaveChannel = &Handler{Name: "leave-channel", Help: "takes you out of the channel of another server that this room shows", Needs: User, InRoom: true, Do: func(ctx context.Context, e *Event) error {
	err := e.Bot.channels.LeaveChannel(ctx, e.RoomID, e.Sender, e.EventID)
	if errors.Is(err, relay.ErrNoChannel) {
		return Tell("This room is not a channel.")
	}
	return explain(err)
}}
