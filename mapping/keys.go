package mapping

import "github.com/matrix-mimi/bridge/mimiside/content"

// Private-use extensions (draft-ietf-mimi-content-08, Extension Fields: text
// keys are private). Only another bridge to Matrix reads them; what it reads is
// checked against the content and is never trusted to say something else.
var (
	// keyMsgType holds the `msgtype` of a message that MIMI has no kind for:
	// m.notice, m.emote, m.sticker, m.location.
	keyMsgType = content.TextKey("org.matrix.msgtype")
	// keyEmote holds what was put before the text of an m.emote.
	keyEmote = content.TextKey("org.matrix.emote_prefix")
	// keyGeo holds the geo: URI of an m.location.
	keyGeo = content.TextKey("org.matrix.geo_uri")
	// keyInfo holds what is known of a file beyond the external part, as JSON.
	keyInfo = content.TextKey("org.matrix.info")
	// keyHTML holds the HTML of a text whose formatting Markdown cannot express.
	// It counts only if it gives the very Markdown of the message.
	keyHTML = content.TextKey("org.matrix.formatted_body")
)

// maxPrivate is the largest text of a private extension in octets: the value
// with its head must fit content.MaxExtensionValue.
const maxPrivate = content.MaxExtensionValue - 5

// setPrivate stores text if it fits and is not empty.
func setPrivate(e content.Extensions, key content.Key, text string) {
	if text != "" && len(text) <= maxPrivate {
		e.SetText(key, text)
	}
}

func private(e content.Extensions, key content.Key) string {
	text, _ := e.Text(key)
	return text
}
