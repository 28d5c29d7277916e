package relay

import (
	"bytes"
	"testing"

	"github.com/matrix-mimi/bridge/matrixside/event"
)

// TestFilesOverActivityPub: small files travel in the message, large ones in the asset store, names and captions with them, both in their
// order among what is said.
func TestFilesOverActivityPub(t *testing.T) {
	p := newAPPair(t)
	from, to := p.a.files, p.b.files
	p.a.hs.emit(p.at, p.alice, event.TypeMessage, nil, image(from.add(onePixel), "look at this", map[string]any{"filename": "cat.png"}), 0)
	p.a.hs.say(p.at, p.alice, "and then text")
	settleAP(t, p.a, p.b)
	seen := p.bt.find(t, event.TypeMessage, "m.image").object()
	if got := to.repo[seen.Str("url")]; !bytes.Equal(got, onePixel) || seen.Str("filename") != "cat.png" || seen.Str("body") != "look at this" {
		t.Errorf("%d octets arrived: %v", len(got), seen)
	}
	if texts := p.b.hs.texts(p.bt); len(texts) != 2 {
		t.Errorf("%q", texts)
	}
	if len(to.asked) != 0 {
		t.Errorf("%v were asked for", to.asked)
	}
	data := bytes.Repeat([]byte("some data "), 100_000)
	p.a.hs.emit(p.at, p.alice, event.TypeMessage, nil, map[string]any{"msgtype": "m.file", "body": "data.bin", "url": from.add(data)}, 0)
	settleAP(t, p.a, p.b)
	file := p.bt.find(t, event.TypeMessage, "data.bin").object()
	if got := to.repo[file.Str("url")]; file.Str("msgtype") != "m.file" || !bytes.Equal(got, data) || len(to.asked) != 1 {
		t.Errorf("%d octets arrived, asked %v: %v", len(got), to.asked, file)
	}
	p.a.relay.cfg.Media.Max = 100
	p.a.hs.emit(p.at, p.alice, event.TypeMessage, nil, map[string]any{"msgtype": "m.file", "body": "no.bin", "url": from.add(make([]byte, 200)), "info": map[string]any{"size": 200}}, 0)
	settleAP(t, p.a, p.b)
	p.at.find(t, event.TypeMessage, "it is too large")
}
