package bot

import (
	"context"
	"fmt"
	"strings"

	"maunium.net/go/mautrix/id"
	"rsc.io/qr"

	"github.com/matrix-mimi/bridge/matrixside/client"
	"github.com/matrix-mimi/bridge/matrixside/event"
)

// Upload stores a file in the homeserver's media repository and returns its mxc
// address.
type Upload func(ctx context.Context, data []byte, contentType, name string) (mxc string, err error)

// maxQR bounds what is put into a QR code, in octets: more could not be read from a screen.
const maxQR = 1024

// QR makes the command that shows a link or address as a picture.
func QR(upload Upload) *Handler {
	return &Handler{Name: "qr", Usage: "<link>", Help: "shows a join link, or another MIMI address, as a QR code", Needs: User, MinArgs: 1,
		Do: func(ctx context.Context, e *Event) error {
			link := strings.Trim(e.Args[0], "<>")
			if !strings.HasPrefix(link, "mimi://") && !strings.HasPrefix(link, "https://") || len(link) > maxQR {
				return Tell("%s is no link that I show. They begin with `mimi://`.", Quote(link))
			}
			code, err := qr.Encode(link, qr.M)
			if err != nil {
				return Tell("%s does not fit into a QR code.", Quote(link))
			}
			mxc, err := upload(ctx, code.PNG(), "image/png", "link.png")
			if err != nil {
				if client.ClassOf(err) == client.Refused {
					return Tell("The homeserver does not take the picture.")
				}
				return err
			}
			size := int64((code.Size + 8) * code.Scale)
			m := event.Message{MsgType: event.MsgImage, Body: "link.png", Mentions: &event.Mentions{},
				Media: &event.Media{URL: mxc, Filename: "link.png", Mimetype: "image/png", Size: int64(len(code.PNG())), Width: size, Height: size}}
			res := e.Bot.cfg.Matrix.Do(ctx, client.Row{Request: event.NewRequest(event.Send{Type: event.TypeMessage, Content: m.Encode()}),
				Room: id.RoomID(e.RoomID), Txn: "command." + e.EventID + ".qr"})
			if res.Class == client.Done || res.Class == client.Refused {
				return nil
			}
			return fmt.Errorf("send a QR code: %w", res.Err)
		}}
}
