package dialogue

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// kind is a kind of file that people send.
type kind struct {
	word, mimetype string
	msgtype        event.MessageType
	thumbnail      bool
	width          int
	duration       int // milliseconds
	blurhash       string
	voice          bool
}

var kinds = []kind{
	{word: "image", mimetype: "image/png", msgtype: event.MsgImage, width: 64, blurhash: "LEHV6nWB2yk8", thumbnail: true},
	{word: "video", mimetype: "video/mp4", msgtype: event.MsgVideo, width: 320, duration: 1500, blurhash: "L00000fQfQfQ", thumbnail: true},
	{word: "audio", mimetype: "audio/mpeg", msgtype: event.MsgAudio, duration: 2500},
	{word: "voice", mimetype: "audio/ogg", msgtype: event.MsgAudio, duration: 3500, voice: true},
	{word: "sticker", mimetype: "image/png", width: 64},
}

// octets are the content of a file, which follows from its kind and name: a
// picture where it must be one.
func (k *kind) octets(name string) ([]byte, error) {
	sum := sha256.Sum256([]byte(k.word + name))
	if k.mimetype != "image/png" {
		return bytes.Repeat(sum[:], 3000), nil
	}
	return picture(64, color.RGBA{R: sum[0], G: sum[1], B: sum[2], A: 255})
}

func picture(size int, c color.RGBA) ([]byte, error) {
	m := image.NewRGBA(image.Rect(0, 0, size, size))
	for i := range size * size {
		m.SetRGBA(i%size, i/size, c)
	}
	var b bytes.Buffer
	err := png.Encode(&b, m)
	return b.Bytes(), err
}

// addMedia adds what people send and see of files, and what happens to the
// files of bridges.
func addMedia() {
	for i := range kinds {
		k := &kinds[i]
		say("sends "+k.word+" STR", "uploads a file of that kind and name, and sends it with all that clients say of it", func(ctx context.Context, r *runner, p *Person, a []string) error {
			return r.sendMedia(ctx, p, k, a[0], "")
		})
		say("sees "+k.word+" STR from WHO", "gets such a file with all that was said of it, and downloads it", func(ctx context.Context, r *runner, p *Person, a []string) error {
			return r.seeMedia(ctx, p, k, a[0], "", a[1])
		})
		if k.msgtype == "" {
			continue
		}
		say("sends "+k.word+" STR captioned STR", "the same with a caption", func(ctx context.Context, r *runner, p *Person, a []string) error {
			return r.sendMedia(ctx, p, k, a[0], a[1])
		})
		say("sees "+k.word+" STR captioned STR from WHO", "the same with a caption", func(ctx context.Context, r *runner, p *Person, a []string) error {
			return r.seeMedia(ctx, p, k, a[0], a[1], a[2])
		})
	}
	say("gives the room the picture STR", "uploads a picture that follows from that name and makes it the room's", func(ctx context.Context, _ *runner, p *Person, a []string) error {
		return p.setPicture(ctx, a[0])
	})
	say("sees the picture STR", "finds the room with that picture, and downloads it", func(ctx context.Context, _ *runner, p *Person, a []string) error {
		return p.seePicture(ctx, a[0])
	})
	machine("bridge", "loses its files", "its store of files is out of reach", func(_ context.Context, r *runner, name string) error {
		dir := filepath.Join(r.world.bridges[name].dir, "assets")
		return os.Rename(dir, dir+".lost")
	})
	machine("bridge", "finds its files", "its store of files is there again", func(_ context.Context, r *runner, name string) error {
		dir := filepath.Join(r.world.bridges[name].dir, "assets")
		return errors.Join(os.RemoveAll(dir), os.Rename(dir+".lost", dir))
	})
	for _, does := range []string{"spoils", "mends"} {
		machine("bridge", does+" its files", "each file in its store is changed, or is as it was", func(_ context.Context, r *runner, name string) error {
			return invert(filepath.Join(r.world.bridges[name].dir, "assets"))
		})
	}
	machineWith("bridge", "keeps NUM files", "its store of files comes to hold so many", func(ctx context.Context, r *runner, name string, a []string) error {
		return untilFiles(ctx, filepath.Join(r.world.bridges[name].dir, "assets"), a[0])
	})
}

// portrait is what pictures of rooms are made of.
var portrait = kind{word: "picture", mimetype: "image/png"}

func (p *Person) setPicture(ctx context.Context, name string) error {
	data, err := portrait.octets(name)
	if err != nil {
		return err
	}
	up, err := p.UploadBytes(ctx, data, portrait.mimetype)
	if err != nil {
		return err
	}
	return p.state(ctx, event.StateRoomAvatar, &event.RoomAvatarEventContent{URL: up.ContentURI.CUString()})
}

// seePicture looks at each picture that the room gets until it is the one.
func (p *Person) seePicture(ctx context.Context, name string) error {
	want, err := portrait.octets(name)
	if err != nil {
		return err
	}
	var address, other id.ContentURIString
	for {
		err := p.inRoom(ctx, "the picture "+name, func(v *RoomView) bool {
			e := v.State[event.StateRoomAvatar][""]
			if e != nil {
				address = e.Content.AsRoomAvatar().URL
			}
			return address != other
		})
		if err != nil {
			return err
		}
		if err = p.hasFile(ctx, address, want); err == nil || ctx.Err() != nil {
			return err
		}
		other = address
	}
}

// invert turns the first octet of each file of a store around, or back.
func invert(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err == nil && len(files) == 0 {
		err = errors.New("the store has no files")
	}
	for _, name := range files {
		data, bad := os.ReadFile(name)
		if bad == nil && len(data) > 0 {
			data[0] ^= 0xff
			bad = os.WriteFile(name, data, 0o600)
		}
		err = errors.Join(err, bad)
	}
	return err
}

// untilFiles waits until a store of files holds so many.
func untilFiles(ctx context.Context, dir, want string) error {
	for {
		files, err := filepath.Glob(filepath.Join(dir, "*", "*"))
		if err != nil {
			return err
		}
		if strconv.Itoa(len(files)) == want {
			return nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%d files are there: %w", len(files), ctx.Err())
		}
	}
}

func (r *runner) sendMedia(ctx context.Context, p *Person, k *kind, name, caption string) error {
	data, err := k.octets(name)
	if err != nil {
		return err
	}
	up, err := p.UploadBytes(ctx, data, k.mimetype)
	if err != nil {
		return err
	}
	c := &event.MessageEventContent{MsgType: k.msgtype, Body: name, URL: up.ContentURI.CUString(), Info: &event.FileInfo{MimeType: k.mimetype,
		Size: len(data), Width: k.width, Height: k.width, Duration: k.duration, Blurhash: k.blurhash}}
	if caption != "" {
		c.Body, c.FileName = caption, name
	}
	if k.voice {
		c.MSC3245Voice = &event.MSC3245Voice{}
		c.MSC1767Audio = &event.MSC1767Audio{Duration: k.duration, Waveform: []int{1, 500, 1000}}
	}
	if k.thumbnail {
		small, err := picture(8, color.RGBA{G: 200, A: 255})
		if err != nil {
			return err
		}
		thumb, err := p.UploadBytes(ctx, small, "image/png")
		if err != nil {
			return err
		}
		c.Info.ThumbnailURL = thumb.ContentURI.CUString()
		c.Info.ThumbnailInfo = &event.FileInfo{MimeType: "image/png", Size: len(small), Width: 8, Height: 8}
	}
	if k.msgtype == "" {
		return r.sendSticker(ctx, p, name, c)
	}
	return r.send(ctx, p, c.Body, c)
}

func (r *runner) sendSticker(ctx context.Context, p *Person, name string, c *event.MessageEventContent) error {
	room, err := p.room("")
	if err != nil {
		return err
	}
	_, err = p.SendMessageEvent(ctx, room, event.EventSticker, c)
	return err
}

func (r *runner) seeMedia(ctx context.Context, p *Person, k *kind, name, caption, from string) error {
	want := event.EventMessage
	if k.msgtype == "" {
		want = event.EventSticker
	}
	text := name
	if caption != "" {
		text = caption
	}
	seen, err := r.see(ctx, p, from, k.word+" "+name, func(e *Seen) bool {
		c, ok := e.Content.Parsed.(*event.MessageEventContent)
		return ok && e.Type == want && c.MsgType == k.msgtype && c.Body == text && (k.msgtype == "" || c.GetFileName() == name)
	})
	if err != nil {
		return err
	}
	c := seen.Content.AsMessage()
	data, err := k.octets(name)
	if err != nil {
		return err
	}
	if err := p.hasFile(ctx, c.URL, data); err != nil {
		return fmt.Errorf("%s %q: %w", k.word, name, err)
	}
	return k.check(ctx, p, c, len(data))
}

// check compares what was said of a file.
func (k *kind) check(ctx context.Context, p *Person, c *event.MessageEventContent, size int) error {
	if c.Info == nil {
		return fmt.Errorf("nothing is said of the %s", k.word)
	}
	i := c.Info
	got := fmt.Sprint(i.MimeType, i.Size, i.Width, i.Height, i.Duration, i.Blurhash+i.AnoaBlurhash, c.MSC3245Voice != nil)
	if want := fmt.Sprint(k.mimetype, size, k.width, k.width, k.duration, k.blurhash, k.voice); got != want {
		return fmt.Errorf("of the %s is said %s, not %s", k.word, got, want)
	}
	if !k.thumbnail {
		return nil
	}
	small, err := picture(8, color.RGBA{G: 200, A: 255})
	if err != nil {
		return err
	}
	if err := p.hasFile(ctx, i.ThumbnailURL, small); err != nil {
		return fmt.Errorf("thumbnail of the %s: %w", k.word, err)
	}
	return nil
}

// hasFile downloads a file, with the person's own token, and compares it.
func (p *Person) hasFile(ctx context.Context, address id.ContentURIString, want []byte) error {
	uri, err := address.Parse()
	if err != nil {
		return fmt.Errorf("the file's address %q: %w", address, err)
	}
	data, err := p.DownloadBytes(ctx, uri)
	if err != nil {
		return err
	}
	if !bytes.Equal(data, want) {
		return fmt.Errorf("%s octets came, other than the %s that were sent: %.40q", strconv.Itoa(len(data)), strconv.Itoa(len(want)), strings.ToValidUTF8(string(data), "?"))
	}
	return nil
}
