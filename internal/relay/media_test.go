package relay

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/media"
	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/content"
	"github.com/matrix-mimi/bridge/mimiside/policy"
)

// sides are the file worlds of speaker and listener.
func (w *way) sides() (from, to *fileWorld) {
	if w.name == "follower to hub" {
		return w.b.files, w.a.files
	}
	return w.a.files, w.b.files
}

var onePixel, _ = base64.StdEncoding.DecodeString("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")

// image is the content of an image event.
func image(mxc, body string, more map[string]any) map[string]any {
	c := map[string]any{"msgtype": "m.image", "body": body, "url": mxc, "info": map[string]any{"mimetype": "image/png", "w": 1, "h": 1, "size": len(onePixel), "xyz.amorgan.blurhash": "LEHV6nWB2yk8"}}
	for k, v := range more {
		c[k] = v
	}
	return c
}

func TestImageWithCaptionAndFile(t *testing.T) {
	ways(t, func(t *testing.T, w *way) {
		from, to := w.sides()
		w.hs.emit(w.from, w.who, event.TypeMessage, nil, image(from.add(onePixel), "look at *this*", map[string]any{"filename": "cat.png"}), 0)
		w.hs.say(w.from, w.who, "and then text")
		w.settle()
		seen := w.to.find(t, event.TypeMessage, "look at").object()
		info, _ := event.ParseObject(seen["info"])
		width, _ := info.Int("w")
		w.equal("image", []any{seen.Str("msgtype"), seen.Str("body"), seen.Str("filename"), info.Str("mimetype"), info.Str("xyz.amorgan.blurhash"), width},
			[]any{"m.image", "look at *this*", "cat.png", "image/png", "LEHV6nWB2yk8", 1})
		if got := to.repo[seen.Str("url")]; !bytes.Equal(got, onePixel) {
			t.Errorf("%d octets arrived", len(got))
		}
		texts := w.there.texts(w.to)
		if n := len(texts); n < 2 || !strings.Contains(texts[n-2], "look at") || !strings.Contains(texts[n-1], "and then text") {
			t.Errorf("the order was lost: %q", texts)
		}
		data := bytes.Repeat([]byte("some data "), 30_000)
		w.hs.emit(w.from, w.who, event.TypeMessage, nil, map[string]any{"msgtype": "m.file", "body": "data.bin", "url": from.add(data)}, 0)
		w.settle()
		file := w.to.find(t, event.TypeMessage, "data.bin").object()
		if got := to.repo[file.Str("url")]; file.Str("msgtype") != "m.file" || !bytes.Equal(got, data) {
			t.Errorf("%s: %d octets arrived", file.Str("msgtype"), len(got))
		}
		if w.name == "hub to follower" {
			w.equal("the way", to.asked, []string{"direct", "direct"})
		}
	})
}

// encrypted puts an encrypted file into a repository and returns its description.
func encryptedFile(f *fileWorld, plain []byte) map[string]any {
	key, iv := bytes.Repeat([]byte{3}, 32), make([]byte, 16)
	block, _ := aes.NewCipher(key)
	sealed := bytes.Clone(plain)
	cipher.NewCTR(block, iv).XORKeyStream(sealed, sealed)
	sum := sha256.Sum256(sealed)
	return map[string]any{"url": f.add(sealed), "v": "v2", "iv": base64.RawStdEncoding.EncodeToString(iv),
		"hashes": map[string]string{"sha256": base64.RawStdEncoding.EncodeToString(sum[:])},
		"key":    map[string]any{"alg": "A256CTR", "ext": true, "kty": "oct", "key_ops": []string{"encrypt", "decrypt"}, "k": base64.RawURLEncoding.EncodeToString(key)}}
}

func TestEncryptedFileIsOpenedAndChecked(t *testing.T) {
	ways(t, func(t *testing.T, w *way) {
		from, to := w.sides()
		file := encryptedFile(from, onePixel)
		c := image("", "secret.png", map[string]any{"file": file})
		delete(c, "url")
		w.hs.emit(w.from, w.who, event.TypeMessage, nil, c, 0)
		w.settle()
		if got := to.repo[w.to.find(t, event.TypeMessage, "secret.png").object().Str("url")]; !bytes.Equal(got, onePixel) {
			t.Errorf("%d octets arrived", len(got))
		}
		from.repo[file["url"].(string)][0] ^= 1
		c["body"] = "spoiled.png"
		w.hs.emit(w.from, w.who, event.TypeMessage, nil, c, 0)
		w.settle()
		w.from.find(t, event.TypeMessage, "it is damaged")
		for _, text := range w.there.texts(w.to) {
			if strings.Contains(text, "spoiled.png") {
				t.Error("a damaged file was announced")
			}
		}
	})
}

func TestFileThatChangedOnTheWayIsNotShown(t *testing.T) {
	ways(t, func(t *testing.T, w *way) {
		from, to := w.sides()
		from.spoil = true
		w.hs.emit(w.from, w.who, event.TypeMessage, nil, image(from.add(onePixel), "cat.png", nil), 0)
		w.settle()
		w.to.find(t, event.TypeMessage, "[cat.png] could not be fetched (it is damaged")
		if len(to.repo) != 0 {
			t.Error("something was uploaded")
		}
		// Mended, it comes when somebody asks.
		from.spoil = false
		notice := w.to.find(t, event.TypeMessage, "could not be fetched")
		for _, n := range w.nodes {
			if n.hs == w.there {
				if err := n.relay.Retry(context.Background(), w.to.id, notice.id); err != nil {
					t.Fatal(err)
				}
			}
		}
		w.settle()
		if got := to.repo[w.to.find(t, event.TypeMessage, "m.image").object().Str("url")]; !bytes.Equal(got, onePixel) {
			t.Errorf("%d octets arrived", len(got))
		}
		// The notice has gone, and nobody takes that for a deletion of the message.
		if got := w.to.find(t, event.TypeRedaction, "").object().Str("redacts"); got != notice.id {
			t.Errorf("%s is redacted, want the notice %s", got, notice.id)
		}
		if slices.ContainsFunc(w.from.timeline, func(ev hsEvent) bool { return ev.typ == event.TypeRedaction }) {
			t.Error("the message was deleted where it came from")
		}
	})
}

// What a file is found to be counts, not what its sender calls it.
func TestFileThatIsNoPicture(t *testing.T) {
	ways(t, func(t *testing.T, w *way) {
		from, _ := w.sides()
		w.hs.emit(w.from, w.who, event.TypeMessage, nil, image(from.add([]byte("<!DOCTYPE html><script>alert(1)</script>")), "cat.png", nil), 0)
		w.settle()
		seen := w.to.find(t, event.TypeMessage, "cat.png").object()
		info := seen.Obj("info")
		w.equal("kind", []string{seen.Str("msgtype"), info.Str("mimetype")}, []string{"m.file", "text/html"})
	})
}

// What is deleted while it is being shown anew goes as well: the notice had its place.
func TestDeletionOfAFileThatIsShownAnew(t *testing.T) {
	ways(t, func(t *testing.T, w *way) {
		from, _ := w.sides()
		from.spoil = true
		own := w.hs.emit(w.from, w.who, event.TypeMessage, nil, image(from.add(onePixel), "cat.png", nil), 0)
		w.settle()
		notice := w.to.find(t, event.TypeMessage, "could not be fetched")
		from.spoil = false
		w.there.down = true
		for _, n := range w.nodes {
			if n.hs == w.there {
				if err := n.relay.Retry(context.Background(), w.to.id, notice.id); err != nil {
					t.Fatal(err)
				}
			}
		}
		w.settle()
		w.hs.redact(w.from, w.who, own)
		w.settle()
		w.there.down = false
		w.pass(time.Minute)
		shown := w.to.find(t, event.TypeMessage, "m.image")
		if got := w.to.find(t, event.TypeRedaction, "").object().Str("redacts"); got != shown.id {
			t.Errorf("%s is redacted, want %s", got, shown.id)
		}
	})
}

func TestFilesThatTheRoomDoesNotTake(t *testing.T) {
	ways(t, func(t *testing.T, w *way) {
		from, _ := w.sides()
		for _, n := range w.nodes {
			n.relay.cfg.Media.Max = 100
		}
		w.hs.emit(w.from, w.who, event.TypeMessage, nil, map[string]any{"msgtype": "m.file", "body": "said.bin", "url": from.add(make([]byte, 200)), "info": map[string]any{"size": 200}}, 0)
		w.hs.emit(w.from, w.who, event.TypeMessage, nil, map[string]any{"msgtype": "m.file", "body": "unsaid.bin", "url": from.add(make([]byte, 201))}, 0)
		w.settle()
		n := 0
		for _, text := range w.hs.texts(w.from) {
			if strings.Contains(text, "too large") {
				n++
			}
		}
		if n != 2 || from.assets() != 0 {
			t.Errorf("%d refusals, %d assets", n, from.assets())
		}
		// Their clients are told that it is the file, and that to try again is of no use.
		n = 0
		for _, ev := range w.from.timeline {
			if ev.typ == event.TypeSendStatus && strings.Contains(string(ev.content), "com.beeper.unsupported_event") && strings.Contains(string(ev.content), event.StatusFail) {
				n++
			}
		}
		if n != 2 {
			t.Errorf("%d status events of 2 say that it is the file", n)
		}
	})
}

// What a policy of the room forbids is refused by both sides.
func TestAssetPolicyIsEnforced(t *testing.T) {
	p := newPair(t, warm).begin()
	s := &step{Relay: p.a.relay, ctx: context.Background(), now: p.now, room: p.a.view(p.room)}
	png, _ := content.ParseMediaType("image/png")
	s.room.policy.Asset = policy.AssetPolicy{Location: policy.UploadLocalProvider, MaxImage: 1000, MaxAttachment: 10,
		UploadDomains:   []policy.ProviderAssetUploadDomains{{Provider: p.b.domain, Destinations: []string{"files." + p.b.domain}}},
		DownloadPrivacy: policy.DownloadPrivacy{Allowed: []policy.DownloadPrivacyType{policy.DownloadHubProxy}, Default: policy.DownloadHubProxy},
		ForbiddenTypes:  []content.MediaType{png}}
	for _, c := range []struct {
		mimetype string
		size     int64
		d        content.Disposition
		want     string
	}{{"image/png", 10, content.Inline, "files of type image/png are not allowed here"}, {"image/jpeg", 1001, content.Inline, "it is too large"},
		{"image/jpeg", 1000, content.Inline, ""}, {"image/jpeg", 11, content.Attachment, "it is too large"}} {
		why, _ := s.fileRight(c.mimetype, c.size, c.d)
		p.equal(c.mimetype, why, c.want)
	}
	in := incomingFrom("mimi://" + p.b.domain + "/u/bob")
	s.room.head.Kind, s.room.head.Hub = store.RoomFollower, "hub.example"
	for host, want := range map[string]string{"files." + p.b.domain: "", "evil.example": "its host is not one of the room's"} {
		job := &media.Fetch{External: &content.ExternalPart{URL: "https://" + host + "/x"}}
		p.equal(host, s.fetchWay(in, job), want)
		if want == "" && (job.Hub != "hub.example" || job.Direct) {
			t.Errorf("fetched by %+v", job)
		}
	}
	for _, bad := range []string{"http://files.b.example/x", "https://127.0.0.1/x", "https://files.b.example:8080/x", "file:///etc/passwd"} {
		if s.fetchWay(in, &media.Fetch{External: &content.ExternalPart{URL: bad}}) == "" {
			t.Errorf("%s would be fetched", bad)
		}
	}
	s.room.policy.Asset.DownloadPrivacy = policy.DownloadPrivacy{Allowed: []policy.DownloadPrivacyType{policy.DownloadOHTTP}}
	p.equal("no way", s.fetchWay(in, &media.Fetch{External: &content.ExternalPart{URL: "https://files." + p.b.domain + "/x"}}), "the room allows no way to fetch it")
}

func TestRedactionDeletesTheAsset(t *testing.T) {
	ways(t, func(t *testing.T, w *way) {
		from, _ := w.sides()
		own := w.hs.emit(w.from, w.who, event.TypeMessage, nil, image(from.add(onePixel), "cat.png", nil), 0)
		w.settle()
		if n := from.assets(); n != 1 {
			t.Fatalf("%d assets", n)
		}
		w.hs.redact(w.from, w.who, own)
		w.settle()
		if n := from.assets(); n != 0 {
			t.Errorf("%d assets are left", n)
		}
	})
}

// Messages keep their place behind a file, and overtake one that takes too long.
func TestMessagesWaitBehindAFileForAWhile(t *testing.T) {
	ways(t, func(t *testing.T, w *way) {
		from, to := w.sides()
		from.slow = true
		w.hs.emit(w.from, w.who, event.TypeMessage, nil, image(from.add(onePixel), "slow.png", nil), 0)
		w.hs.say(w.from, w.who, "after the file")
		w.pass(10 * time.Second)
		for _, text := range w.there.texts(w.to) {
			if strings.Contains(text, "after the file") {
				t.Fatal("the text overtook the file")
			}
		}
		w.pass(40 * time.Second)
		w.to.find(t, event.TypeMessage, "after the file")
		from.slow = false
		to.slow = true
		w.pass(10 * time.Second)
		w.hs.say(w.from, w.who, "last words")
		w.pass(10 * time.Second)
		if strings.Contains(fmt.Sprint(w.there.texts(w.to)), "last words") {
			t.Fatal("the text overtook the file that is fetched")
		}
		w.pass(40 * time.Second)
		w.to.find(t, event.TypeMessage, "last words")
		to.slow = false
		w.pass(20 * time.Second)
		if got := to.repo[w.to.find(t, event.TypeMessage, "m.image").object().Str("url")]; !bytes.Equal(got, onePixel) {
			t.Errorf("%d octets arrived in the end", len(got))
		}
	})
}

func TestFileThatCannotBeReadIsGivenUp(t *testing.T) {
	ways(t, func(t *testing.T, w *way) {
		from, to := w.sides()
		from.down = true
		own := w.hs.emit(w.from, w.who, event.TypeMessage, nil, image(from.add(onePixel), "cat.png", nil), 0)
		w.pass(15 * time.Minute)
		w.from.find(t, event.TypeMessage, "its server does not answer")
		w.from.find(t, event.TypeSendStatus, "m.foreign_network_error")
		w.from.find(t, event.TypeSendStatus, event.StatusRetriable)
		from.down = false
		for _, n := range w.nodes {
			if n.hs == w.hs {
				if err := n.relay.Retry(context.Background(), w.from.id, own); err != nil {
					t.Fatal(err)
				}
			}
		}
		w.settle()
		if got := to.repo[w.to.find(t, event.TypeMessage, "cat.png").object().Str("url")]; !bytes.Equal(got, onePixel) {
			t.Errorf("%d octets arrived", len(got))
		}
	})
}

func incomingFrom(uri string) *mapping.Incoming { return &mapping.Incoming{SenderURI: uri} }

// A file whose time is over is not fetched: the room is told (docs/mapping.md §7.4).
func TestFileWhoseTimeIsOver(t *testing.T) {
	p := newPair(t, warm).begin()
	asked := len(p.a.files.asked)
	p.sendContent(content.Part{Disposition: content.Attachment, Body: content.ExternalPart{ContentType: "image/png", URL: "https://assets.b.example/x", Filename: "late.png",
		Expires: uint32(p.now.Add(-time.Second).Unix())}}, nil)
	p.last("the room", p.a.hs.texts(p.room), "notice "+local(p.bobAtA)+": [late.png] could not be fetched (it has expired)")
	p.equal("requests", len(p.a.files.asked), asked)
	p.noTrouble()
}
