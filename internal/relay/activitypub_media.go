package relay

import (
	"encoding/json"

	"github.com/matrix-mimi/bridge/internal/media"
	"github.com/matrix-mimi/bridge/internal/store"
	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
)

// apInline is up to how many octets a file travels inside a message to ActivityPub actors. Their servers take 1 MiB for an activity, of which base64 inside
// of base64 leaves about 590 KB. Larger ones stand encrypted in the asset store, and the message has their address and key.
const apInline = 400 << 10

// putInline puts the files into a message that travel in it; their rows are of no use any more.
func (x *apStep) putInline(i *ap.Item, assets []store.Asset) {
	for n := range i.Attachments {
		file := &i.Attachments[n]
		if !media.IsInline(file.URL) {
			continue
		}
		for _, a := range assets {
			var up media.Uploaded
			if a.ID == file.URL && json.Unmarshal(a.Key, &up) == nil {
				file.Data, file.URL, file.External = up.Inline, "", nil
				x.fx.dropAssets = append(x.fx.dropAssets, a.ID)
			}
		}
	}
}
