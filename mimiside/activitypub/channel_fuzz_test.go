package activitypub

import (
	"encoding/base64"
	"testing"
)

// FuzzChannelActivity: whatever stands in an activity for a channel, reading it ends, names a channel only by an address, and keeps its bounds.
func FuzzChannelActivity(f *testing.F) {
	site := Site{Base: "https://a.example"}
	e := Envelope{ID: "x", Actor: "https://a.example/ap/u/alice"}
	channel := site.Room("r")
	for _, o := range []Object{
		site.ChannelAdd(e, channel, "https://b.example/u/bob", []byte{0, 1, 0, 1}, []byte{0, 1, 0, 3}), site.ChannelRemove(e, channel, e.Actor, []byte{0, 1}),
		site.ChannelUpdate(e, channel, Object{"name": "n", "summary": "s", "icon": Object{"type": "Image", "url": "https://a.example/i"}}),
		site.ChannelCreate(e, channel, "n", []byte{0, 1, 0, 3}), site.Follow(e, channel), site.Announce(e, site.Follow(e, channel)), site.AcceptOf(e, "https://a.example/1"),
	} {
		f.Add(o.Marshal())
	}
	f.Add([]byte(`{"type":"Add","actor":"https://a.example/u","target":"/followers","commit":"` + base64.StdEncoding.EncodeToString(make([]byte, 9)) + `"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := ReadActivity(body)
		if err != nil {
			return
		}
		_ = addsToChannel(r, channel)
		for _, group := range r.HandshakesOf() {
			if len(group) > len(body) {
				t.Fatal("a group of nowhere")
			}
		}
		for _, check := range []func() (*Activity, error){func() (*Activity, error) { return r.Check(r.Actor(), true) }, r.CheckForwarded} {
			a, err := check()
			if err != nil {
				continue
			}
			if id := a.ChannelOf(); id != "" && a.Type != "Follow" && !validURL(id) {
				t.Fatalf("%q is a channel", id)
			}
			c, err := ReadChannelChange(a.Object)
			if err != nil {
				continue
			}
			for _, s := range []*string{c.Name, c.Summary, c.Icon} {
				if s != nil && len(*s) > max(maxChannelText, maxURL) {
					t.Fatal("the bounds are not kept")
				}
			}
		}
	})
}
