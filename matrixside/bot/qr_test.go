package bot

import (
	"bytes"
	"context"
	"image/png"
	"strings"
	"testing"

	"github.com/matrix-mimi/bridge/matrixside/event"
)

func TestQR(t *testing.T) {
	b, w := newBot(t)
	var sent []byte
	b.Register(QR(func(_ context.Context, data []byte, contentType, name string) (string, error) {
		sent = data
		return "mxc://hs/" + contentType + name, nil
	}))
	for _, text := range []string{"qr mimi://hub.example/r/x?join=abc", "qr javascript:x", "qr mimi://" + strings.Repeat("x", maxQR)} {
		if err := b.Command(context.Background(), say("@u:hs", text, true)); err != nil {
			t.Fatal(err)
		}
	}
	img, err := png.Decode(bytes.NewReader(sent))
	if err != nil {
		t.Fatal(err)
	}
	m := w.sent[0]
	if m.MsgType != event.MsgImage || m.Media.URL != "mxc://hs/image/pnglink.png" || m.Media.Width != int64(img.Bounds().Dx()) || m.Media.Size != int64(len(sent)) {
		t.Errorf("sent %+v of %v", m.Media, img.Bounds())
	}
	if len(w.sent) != 3 || !strings.Contains(w.sent[1].Body, "no link that I show") || !strings.Contains(w.sent[2].Body, "no link that I show") {
		t.Errorf("sent %+v", w.sent)
	}
}
