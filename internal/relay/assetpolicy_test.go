package relay

import (
	"testing"

	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/policy"
)

// A room that the bridge leads says where its files may be and how they are fetched.
func TestAssetPolicyOfOurRooms(t *testing.T) {
	p := newPair(t, warm).begin()
	a := p.b.view(p.portal).policy.Asset
	p.equal("location", a.Location, policy.UploadUnspecified)
	p.equal("hosts", a.UploadDomains, []policy.ProviderAssetUploadDomains{{Provider: "a.example", Destinations: []string{"assets.a.example"}}})
	p.equal("ways", []bool{a.MayDownload(policy.DownloadDirect), a.MayDownload(policy.DownloadHubProxy), a.MayDownload(policy.DownloadOHTTP)}, []bool{true, true, false})
	p.equal("largest", a.MaxVideo, p.a.relay.cfg.Media.Max)
}

// With listed hosts the list follows who takes part, and a file from elsewhere is not fetched.
func TestAssetPolicyWithListedHosts(t *testing.T) {
	p := newPair(t, warm, "c.example")
	p.a.conf.Media.Listed, p.a.conf.Media.OnlyHub = true, true
	p.a.conf.Media.Hosts = map[string][]string{"b.example": {"assets.b.example"}}
	p.a.start()
	p.begin()
	hosts := func() []policy.ProviderAssetUploadDomains { return p.b.view(p.portal).policy.Asset.UploadDomains }
	want := []policy.ProviderAssetUploadDomains{{Provider: "a.example", Destinations: []string{"assets.a.example"}}, {Provider: "b.example", Destinations: []string{"assets.b.example"}}}
	p.equal("hosts", hosts(), want)
	c := p.nodes["c.example"]
	eve := c.hs.mxid("eve")
	c.hs.users[eve] = true
	p.a.hs.invite(p.room, p.alice, p.a.ghost("mimi://c.example/u/eve"))
	p.settle()
	at := c.hs.roomOf(eve, "invite")
	c.hs.join(at, eve)
	p.settle()
	want = append(want, policy.ProviderAssetUploadDomains{Provider: "c.example", Destinations: []string{"c.example"}})
	p.equal("hosts after eve came", hosts(), want)
	if p.b.view(p.portal).policy.Asset.MayDownload(policy.DownloadDirect) {
		t.Error("files may be fetched directly")
	}
	p.b.hs.emit(p.portal, p.bob, event.TypeMessage, nil, image(p.b.files.add(onePixel), "cat.png", nil), 0)
	p.settle()
	seen := p.room.find(t, event.TypeMessage, "cat.png").object()
	p.equal("at A", seen.Str("msgtype"), "m.image")
	p.equal("how C fetched it", c.files.asked, []string{"proxy a.example"})
	// eve's provider keeps files at a host that nobody has told the operator of: it does not send them.
	asked := len(p.b.files.asked)
	c.hs.emit(at, eve, event.TypeMessage, nil, image(c.files.add(onePixel), "dog.png", nil), 0)
	p.settle()
	at.find(t, event.TypeMessage, "Your message was not delivered")
	p.equal("B asked", len(p.b.files.asked), asked)
	p.noTrouble()
}
