package client

import (
	"context"
	"fmt"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"github.com/rs/zerolog"
)

// Device is a session of the bot with a token of its own. Reading /sync and
// receiving to-device messages needs one.
type Device struct {
	ID    id.DeviceID
	Token string
}

// LoginBot opens a session of the bot as the device of that id, or as a new one
// if it is "" (m.login.application_service).
func (c *Client) LoginBot(ctx context.Context, device id.DeviceID) (Device, error) {
	cli := c.As("")
	cli.SetAppServiceUserID = false
	resp, err := cli.Login(ctx, &mautrix.ReqLogin{
		Type:       mautrix.AuthTypeAppservice,
		Identifier: mautrix.UserIdentifier{Type: mautrix.IdentifierTypeUser, User: string(c.cfg.Bot)},
		DeviceID:   device, InitialDeviceDisplayName: "MIMI bridge",
	})
	if err != nil {
		return Device{}, fmt.Errorf("log in bot: %w", classify(nil, nil, err).asError())
	}
	return Device{ID: resp.DeviceID, Token: resp.AccessToken}, nil
}

// DeviceClient is a mautrix client of a session of the bot, for /sync and
// encryption. It has no overall timeout.
func (c *Client) DeviceClient(d Device) *mautrix.Client {
	return &mautrix.Client{
		HomeserverURL: c.base, UserID: c.cfg.Bot, DeviceID: d.ID, AccessToken: d.Token, UserAgent: c.cfg.UserAgent,
		Client: c.stream, Log: zerolog.Nop(), ResponseSizeLimit: maxResponse,
	}
}
