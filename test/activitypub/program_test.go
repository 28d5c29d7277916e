package activitypub

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/peer/ca"
	"github.com/matrix-mimi/bridge/test/fakes"
	"github.com/matrix-mimi/bridge/test/fakes/stage"
	"github.com/matrix-mimi/bridge/test/harness"
)

// Domains of the program, of the peer with ts-mls and of Fedify.
const bridgeDomain, emissaryDomain, fedifyDomain = "a.example", "emissary.example", "fedify.example"

// program is the bridge as a child process beside a homeserver, with the face switched on, and the peers at https addresses of their own.
type program struct {
	t      *testing.T
	stage  *stage.Stage
	bridge *stage.Bridge
	hs     *fakes.Homeserver
	ports  map[string]int
	// proxies are settings of the environment that must not matter.
	proxies []string
}

// TestProgram plays the peers against cmd/bridge: TLS on every way, Matrix users on one side, the peers' own programs on the other.
func TestProgram(t *testing.T) {
	bin, err := harness.BuildBridge(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, ports: map[string]int{}}
	addrs := map[string]string{}
	for _, domain := range []string{emissaryDomain, fedifyDomain} {
		if p.ports[domain], err = harness.FreePort(); err != nil {
			t.Fatal(err)
		}
		addrs[domain] = harness.Loopback(p.ports[domain])
	}
	p.stage, err = stage.New(t.Context(), stage.Options{Dir: t.TempDir(), Bin: bin, Bridges: []string{bridgeDomain}, Peers: addrs, ActivityPub: map[string]any{"enabled": true}})
	if err != nil {
		t.Fatal(err)
	}
	p.bridge = p.stage.Bridges[bridgeDomain]
	p.hs = p.bridge.Homeserver
	t.Cleanup(func() {
		if err := p.stage.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the bridge's log ends:\n%s", p.bridge.Process().LogTail(6000))
		}
	})
	// A proxy of the environment is no way to other servers: nothing of what follows goes through it (docs/activitypub.md, "SSRF, private addresses").
	port, asked := private(t)
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"} {
		p.proxies = append(p.proxies, name+"=http://127.0.0.1:"+port)
	}
	if err := p.bridge.Start(t.Context(), p.proxies...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if n := asked.Load(); n != 0 {
			t.Errorf("the proxy of the environment was asked %d times", n)
		}
	})
	t.Run("emissary", p.emissary)
	t.Run("fedify", p.fedify)
}

// peer starts a peer at its domain, with a certificate of the stage's authority.
func (p *program) peer(t *testing.T, dir, domain string) *node {
	t.Helper()
	cert, err := p.stage.CA.Issue(time.Now(), ca.Options{}, domain)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	if err := ca.Write(cert, certFile, keyFile); err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(p.bridge.MIMIAddr())
	if err != nil {
		t.Fatal(err)
	}
	return startNode(t, dir, "PEER_DOMAIN="+domain, fmt.Sprintf("PEER_PORT=%d", p.ports[domain]), "PEER_CERT="+certFile, "PEER_KEY="+keyFile,
		fmt.Sprintf(`PEER_ROUTES={%q:%s}`, bridgeDomain, port), "NODE_EXTRA_CA_CERTS="+filepath.Join(p.bridge.Dir, "ca.pem"))
}

// until waits for something at the homeserver.
func (p *program) until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), nodeTimeout)
	defer cancel()
	if err := p.hs.Wait(ctx, what, holds); err != nil {
		t.Fatal(err)
	}
}

// must lets somebody change a membership.
func (p *program) must(t *testing.T, room, what, user, target string) {
	t.Helper()
	if err := p.hs.Act(room, what, user, target); err != nil {
		t.Fatal(err)
	}
}

// withBot makes a room of a person and the bot.
func (p *program) withBot(t *testing.T, user string) string {
	t.Helper()
	bot := p.hs.MXID("mimibot")
	room := p.hs.Create(user, "bot")
	p.must(t, room, "invite", user, bot)
	p.until(t, "the bot", func() bool { return p.hs.Member(room, bot) == "join" })
	return room
}

// reads waits for a text in a room and returns who wrote it.
func (p *program) reads(t *testing.T, room, text string) (sender string) {
	t.Helper()
	p.until(t, fmt.Sprintf("%q", text), func() bool {
		i := slices.IndexFunc(p.hs.Texts(room), func(m fakes.Text) bool { return strings.Contains(m.Body, text) })
		if i >= 0 {
			sender = p.hs.Texts(room)[i].Sender
		}
		return i >= 0
	})
	return sender
}

// emissary: a Matrix user begins a chat by asking the bot, both talk, also after a restart of the bridge; then the peer begins one with another user, who
// is invited. S001-001, S001-023.
func (p *program) emissary(t *testing.T) {
	peer := p.peer(t, "emissary", emissaryDomain)
	started := peer.ask("start", nil)
	bob, handle := started["actor"].(string), started["handle"].(string)
	alice := p.hs.Register("alice")
	aliceActor := "https://" + bridgeDomain + "/ap/u/alice"
	p.hs.Say(p.withBot(t, alice), alice, "fediverse "+handle)
	m := peer.event("welcome")
	members := []string{}
	for _, v := range m["members"].([]any) {
		members = append(members, v.(string))
	}
	slices.Sort(members)
	if !slices.Equal(members, []string{aliceActor, bob}) {
		t.Fatal(members)
	}
	group, _ := m["group"].(string)
	portal := p.invited(t, alice)
	p.hs.Say(portal, alice, "hello Bob")
	if m := peer.event("said"); m["from"] != aliceActor || m["group"] != group || !strings.Contains(fmt.Sprint(field(m, "activity", "object", "content")), "hello Bob") {
		t.Fatal(jsonOf(m))
	}
	taken := func(sent map[string]any) {
		t.Helper()
		for _, code := range sent["statuses"].([]any) {
			if code.(float64) != 202 {
				t.Fatal(sent)
			}
		}
	}
	as := func(actor, group, text string) {
		t.Helper()
		n := fmt.Sprintf("uri:uuid:%x", time.Now().UnixNano())
		taken(peer.ask("send", map[string]any{"group": group, "activity": map[string]any{"type": "Create", "id": n + "-a", "actor": actor,
			"object": map[string]any{"type": "Note", "id": n, "attributedTo": actor, "content": text}}}))
	}
	say := func(group, text string) { t.Helper(); as(bob, group, text) }
	say(group, "hello Alice <script>1</script>")
	if ghost := p.reads(t, portal, "hello Alice"); !strings.HasPrefix(ghost, "@acct_") || p.hs.Member(portal, ghost) != "join" {
		t.Fatal(ghost)
	}
	// What comes again, alone or in another activity, is not said again; and nobody speaks as another.
	taken(peer.ask("again", nil))
	as(aliceActor, group, "I am Alice")
	say(group, "that was all")
	p.reads(t, portal, "that was all")
	bodies := ""
	for _, m := range p.hs.Texts(portal) {
		bodies += m.Body + "\n"
	}
	if strings.Count(bodies, "hello Alice") != 1 || strings.Contains(bodies, "script") || strings.Contains(bodies, "I am Alice") {
		t.Fatal(bodies)
	}
	p.restart(t)
	say(group, "still there?")
	p.reads(t, portal, "still there?")
	p.hs.Say(portal, alice, "still here")
	if m := peer.event("said"); !strings.Contains(fmt.Sprint(field(m, "activity", "object", "content")), "still here") {
		t.Fatal(jsonOf(m))
	}
	erin := p.hs.Register("erin")
	erinActor := "https://" + bridgeDomain + "/ap/u/erin"
	made := peer.ask("create", map[string]any{"actors": []string{erinActor}})
	if list := made["statuses"].([]any); len(list) != 1 || list[0] != float64(202) {
		t.Fatal(made)
	}
	theirs := made["group"].(string)
	room := p.invited(t, erin)
	say(theirs, "hello Erin")
	p.reads(t, room, "hello Erin")
	p.hs.Say(room, erin, "thank you")
	if m := peer.event("said"); m["from"] != erinActor || m["group"] != theirs {
		t.Fatal(jsonOf(m))
	}
}

// invited waits until somebody is invited to a room and accepts.
func (p *program) invited(t *testing.T, user string) (room string) {
	t.Helper()
	p.until(t, "an invitation of "+user, func() bool { room = p.hs.RoomOf(user, "invite"); return room != "" })
	p.must(t, room, "join", user, user)
	return room
}

// fedify: its server finds our user by WebFinger and reads the actor by a signed GET, delivers with good and bad signatures, asks to follow a channel and takes
// the answer; the bot says that nobody there can be written to encrypted.
func (p *program) fedify(t *testing.T) {
	peer := p.peer(t, "fedify", fedifyDomain)
	peer.event("ready")
	dave := p.hs.Register("dave")
	dm := p.withBot(t, dave)
	p.hs.Say(dm, dave, "fediverse @fedi@"+fedifyDomain)
	p.reads(t, dm, "cannot take encrypted messages")
	actor := "https://" + bridgeDomain + "/ap/u/dave"
	if m := peer.ask("lookup", map[string]any{"what": "@dave@" + bridgeDomain, "signed": true}); m["type"] != "Person" || m["actor"] != actor || m["inbox"] != actor+"/inbox" {
		t.Fatal(jsonOf(m))
	}
	peer.ask("send", map[string]any{"to": actor, "inbox": actor + "/inbox", "content": "in the clear"})
	p.signatures(t, peer, actor)
	p.follows(t, peer, dave)
	p.restart(t, "MIMIBRIDGE_ACTIVITYPUB__BLOCKED_DOMAINS=[example.org, "+fedifyDomain+"]")
	body, _ := json.Marshal(map[string]any{"type": "Like", "id": "https://" + fedifyDomain + "/l", "actor": "https://" + fedifyDomain + "/u/fedi", "object": actor})
	if m := peer.ask("raw", map[string]any{"inbox": actor + "/inbox", "body": string(body), "scheme": "rfc9421"}); m["status"] != 403.0 {
		t.Fatal("a blocked server: ", m)
	}
	p.hs.Say(dm, dave, "fediverse @fedi@"+fedifyDomain)
	p.reads(t, dm, "the server is blocked")
}

// restart ends the bridge and starts it again; env is for this run.
func (p *program) restart(t *testing.T, env ...string) {
	t.Helper()
	if err := p.bridge.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := p.bridge.Start(t.Context(), append(slices.Clone(p.proxies), env...)...); err != nil {
		t.Fatal(err)
	}
}

// follows: Fedify finds a channel by the address that the bot tells, asks to be let in, and takes the answer that the program signs: the room is for the invited.
func (p *program) follows(t *testing.T, peer *node, user string) {
	room := p.withBot(t, user)
	other := p.hs.Register("frank") // else it were a room with the bot alone
	p.must(t, room, "invite", user, other)
	p.must(t, room, "join", other, other)
	p.hs.Say(room, user, "!mimi channel")
	const words = "find it as @"
	p.reads(t, room, words)
	_, rest, _ := strings.Cut(p.hs.LastText(room), words)
	account, _, _ := strings.Cut(rest, "@")
	m := peer.ask("lookup", map[string]any{"what": "@" + account + "@" + bridgeDomain, "signed": true})
	if m["type"] != "Service" || m["shared"] != "https://"+bridgeDomain+"/ap/inbox" {
		t.Fatal(jsonOf(m))
	}
	asked := peer.ask("follow", map[string]any{"to": m["actor"], "inbox": m["inbox"]})
	no := peer.event("activity")
	if no["type"] != "Reject" || no["actor"] != m["actor"] || !strings.Contains(no["body"].(string), asked["activity"].(string)) {
		t.Fatal(jsonOf(no))
	}
	// Also where everybody may come in: who has no KeyPackages cannot.
	p.hs.Set(room, user, "m.room.join_rules", map[string]any{"join_rule": "public"})
	asked = peer.ask("follow", map[string]any{"to": m["actor"], "inbox": m["inbox"]})
	no = peer.event("activity")
	if no["type"] != "Reject" || !strings.Contains(no["body"].(string), asked["activity"].(string)) {
		t.Fatal(jsonOf(no))
	}
}

// private listens where the program must not go, and counts who comes.
func private(t *testing.T) (port string, came *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	came = &atomic.Int64{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			came.Add(1)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port, came
}

// signatures posts bodies that Fedify signs, and looks what the program answers.
func (p *program) signatures(t *testing.T, peer *node, actor string) {
	port, came := private(t)
	n := 0
	body := func(id, who string) string {
		n++
		b, _ := json.Marshal(map[string]any{"@context": "https://www.w3.org/ns/activitystreams", "type": "Create", "id": fmt.Sprintf("%s/%d", id, n), "actor": who, "to": actor,
			"object": map[string]any{"type": "Note", "id": fmt.Sprintf("%s/n%d", id, n), "attributedTo": who, "content": "hello"}})
		return string(b)
	}
	const origin = "https://" + fedifyDomain
	own := func() string { return body(origin+"/a", origin+"/u/fedi") }
	again := own()
	for _, tc := range []struct {
		name string
		code int
		args map[string]any
	}{
		{"good", 202, map[string]any{"body": again}},
		{"the same again", 202, map[string]any{"body": again}},
		{"50 minutes old", 202, map[string]any{"body": own(), "age": 3000}},
		{"unsigned", 401, map[string]any{"body": own(), "unsigned": true}},
		{"another body than signed", 401, map[string]any{"body": own(), "instead": own()}},
		{"2 hours old", 401, map[string]any{"body": own(), "age": 7200}},
		{"10 minutes ahead", 401, map[string]any{"body": own(), "age": -600}},
		{"in the name of another server's actor", 401, map[string]any{"body": body(origin+"/a", "https://"+emissaryDomain+"/@bob")}},
		{"with the id of another server", 400, map[string]any{"body": body("https://"+emissaryDomain+"/a", origin+"/u/fedi")}},
		{"a key at an address", 401, map[string]any{"body": own(), "key": "https://127.0.0.1:" + port + "/u/x#main-key"}},
		{"a key in the bridge's own network", 401, map[string]any{"body": own(), "key": "https://localhost:" + port + "/u/x#main-key"}},
		{"a key over http", 401, map[string]any{"body": own(), "key": "http://localhost:" + port + "/u/x#main-key"}},
	} {
		for _, scheme := range []string{"draft-cavage-http-signatures-12", "rfc9421"} {
			t.Run(tc.name+" "+scheme, func(t *testing.T) {
				args := map[string]any{"inbox": actor + "/inbox", "scheme": scheme}
				for k, v := range tc.args {
					args[k] = v
				}
				if code := peer.ask("raw", args)["status"]; code != float64(tc.code) {
					t.Errorf("status %v, want %d", code, tc.code)
				}
			})
		}
	}
	if came.Load() != 0 {
		t.Error("the program went where it must not")
	}
	// The operator sees what was refused.
	res, err := http.Get(p.bridge.AdminURL() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	metrics, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(metrics), `activitypub_refused_total{status="401"} 16`) {
		t.Error("the refusals are not counted")
	}
}
