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
	ID id.DeviceID
	// Token is "" for a device that has no session: it acts with the as_token.
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

// MakeDevice makes a device of the bot without a session, of that id or of a
// new one if it is "", at homeservers where appservices do that instead of
// logging in (MSC4190). A device that is there stays as it is.
func (c *Client) MakeDevice(ctx context.Context, device id.DeviceID) (Device, error) {
	cli := c.As("")
	if err := cli.CreateDeviceMSC4190(ctx, device, "MIMI bridge"); err != nil {
		return Device{}, fmt.Errorf("make device of bot: %w", classify(nil, nil, err).asError())
	}
	return Device{ID: cli.DeviceID}, nil
}

// DeviceClient is a mautrix client of a device of the bot, for /sync and
// encryption. It has no overall timeout.
func (c *Client) DeviceClient(d Device) *mautrix.Client {
	if d.Token == "" {
		cli := c.As("")
		cli.DeviceID, cli.SetAppServiceDeviceID, cli.Client = d.ID, true, c.stream
		return cli
	}
	return &mautrix.Client{
		HomeserverURL: c.base, UserID: c.cfg.Bot, DeviceID: d.ID, AccessToken: d.Token, UserAgent: c.cfg.UserAgent,
		Client: c.stream, Log: zerolog.Nop(), ResponseSizeLimit: maxResponse,
	}
}
