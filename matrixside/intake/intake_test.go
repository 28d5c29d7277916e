package intake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"
)

const hsToken = "hs-token-planted"

// memory is a sink that keeps transactions as the store does.
type memory struct {
	mu       sync.Mutex
	fail     error
	txns     []*Transaction
	seen     map[string]bool
	position string
}

func (m *memory) Store(_ context.Context, t *Transaction) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return false, m.fail
	}
	if m.seen == nil {
		m.seen = map[string]bool{}
	}
	key := fmt.Sprintf("%s/%s/%x", t.Source, t.ID, t.Hash)
	if m.seen[key] {
		return true, nil
	}
	m.seen[key] = true
	if t.Next != "" {
		m.position = t.Next
	}
	m.txns = append(m.txns, t)
	return false, nil
}

func (m *memory) Position(context.Context) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.position, nil
}

func put(h http.Handler, path, token, body string) *httptest.ResponseRecorder {
	return ask(h, http.MethodPut, path, token, body)
}

func ask(h http.Handler, method, path, token, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func newHandler(t *testing.T, m *memory, q Queries) *Handler {
	t.Helper()
	h, err := NewHandler(Config{Token: hsToken, Sink: m, Queries: q, MaxBody: 4096, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

const txnBody = `{"events":[
 {"event_id":"$a","room_id":"!r:hs","sender":"@u:hs","type":"m.room.message","content":{"msgtype":"m.text","body":"x"}},
 {"event_id":"bad","room_id":"!r:hs","sender":"@u:hs","type":"m.room.message","content":{}},
 {"event_id":"$a","room_id":"!r:hs","sender":"@u:hs","type":"m.room.message","content":{"msgtype":"m.text","body":"x"}},
 17],
 "ephemeral":[{"type":"m.typing","room_id":"!r:hs","content":{"user_ids":["@u:hs"]}},{"type":"m.presence","content":{}}],
 "to_device":[{"type":"m.room_key","sender":"@u:hs","to_user_id":"@bot:hs","to_device_id":"D","content":{}}]}`

func TestTransactionIsStoredBeforeItIsAcknowledged(t *testing.T) {
	m := &memory{fail: errors.New("disk full")}
	h := newHandler(t, m, nil)
	if w := put(h, "/_matrix/app/v1/transactions/1", hsToken, txnBody); w.Code != http.StatusServiceUnavailable {
		t.Fatalf("store failed, answer %d", w.Code)
	}
	m.fail = nil
	if w := put(h, "/_matrix/app/v1/transactions/1", hsToken, txnBody); w.Code != http.StatusOK || w.Body.String() != "{}" {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	tx := m.txns[0]
	if len(tx.Events) != 1 || tx.Events[0].ID != "$a" || len(tx.Refused) != 2 || tx.Refused[0].ID != "bad" || len(tx.Ephemeral) != 1 || len(tx.ToDevice) != 1 || tx.Source != Appservice || tx.ID != "1" {
		t.Fatalf("%+v", tx)
	}
}

// The same transaction again is acknowledged and not stored; the same id with
// other content is new, as from a homeserver that was set up again.
func TestTransactionDuplicates(t *testing.T) {
	m := &memory{}
	var results []string
	h, _ := NewHandler(Config{Token: hsToken, Sink: m, Log: zerolog.Nop(), Observe: func(r string, _ *Transaction, _ time.Duration) { results = append(results, r) }})
	put(h, "/_matrix/app/v1/transactions/1", hsToken, txnBody)
	put(h, "/transactions/1?access_token="+hsToken, "", txnBody)
	put(h, "/_matrix/app/v1/transactions/1", hsToken, `{"events":[]}`)
	if want := []string{"stored", "duplicate", "stored"}; !reflect.DeepEqual(results, want) || len(m.txns) != 2 {
		t.Fatalf("%v, %d stored", results, len(m.txns))
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name, method, path, token, body string
		want                            int
	}{
		{"no token", "PUT", "/_matrix/app/v1/transactions/1", "", txnBody, 401},
		{"wrong token", "PUT", "/_matrix/app/v1/transactions/1", "hs-token-plantee", txnBody, 403},
		{"prefix of the token", "PUT", "/_matrix/app/v1/transactions/1", hsToken[:5], txnBody, 403},
		{"wrong token in query", "PUT", "/transactions/1?access_token=x", "", txnBody, 403},
		{"no id", "PUT", "/_matrix/app/v1/transactions/", hsToken, txnBody, 400},
		{"long id", "PUT", "/_matrix/app/v1/transactions/" + strings.Repeat("x", 2000), hsToken, txnBody, 400},
		{"method", "POST", "/_matrix/app/v1/transactions/1", hsToken, txnBody, 405},
		{"not JSON", "PUT", "/_matrix/app/v1/transactions/1", hsToken, `{`, 400},
		{"no object", "PUT", "/_matrix/app/v1/transactions/1", hsToken, `[]`, 400},
		{"too large", "PUT", "/_matrix/app/v1/transactions/1", hsToken, `{"events":["` + strings.Repeat("x", 5000) + `"]}`, 413},
		{"too deep", "PUT", "/_matrix/app/v1/transactions/1", hsToken, `{"events":[` + strings.Repeat("[", 600) + strings.Repeat("]", 600) + `]}`, 400},
		{"unknown path", "GET", "/_matrix/app/v1/else", hsToken, "", 404},
		{"user query without answerer", "GET", "/_matrix/app/v1/users/%40a%3Ahs", hsToken, "", 404},
		{"user query without token", "GET", "/_matrix/app/v1/users/%40a%3Ahs", "", "", 401},
	} {
		m := &memory{}
		w := ask(newHandler(t, m, nil), c.method, c.path, c.token, c.body)
		if w.Code != c.want || len(m.txns) != 0 {
			t.Errorf("%s: %d, want %d; %d stored", c.name, w.Code, c.want, len(m.txns))
		}
		var e struct {
			Code string `json:"errcode"`
		}
		if json.Unmarshal(w.Body.Bytes(), &e) != nil || !strings.HasPrefix(e.Code, "M_") {
			t.Errorf("%s: %s", c.name, w.Body)
		}
	}
}

type oracle struct{ fields map[string]string }

func (o *oracle) UserExists(_ context.Context, u id.UserID) (bool, error) {
	if u == "@broken:hs" {
		return false, errors.New("broken")
	}
	return u == "@mimi_a=2fb:hs", nil
}
func (o *oracle) AliasExists(_ context.Context, a id.RoomAlias) (bool, error) {
	return a == "#mimi_r:hs", nil
}
func (o *oracle) Protocol(_ context.Context, p string) (Protocol, bool) {
	return Protocol{UserFields: []string{"domain"}}, p == "mimi"
}
func (o *oracle) Users(_ context.Context, p string, f map[string]string) ([]ThirdPartyUser, error) {
	o.fields = f
	return []ThirdPartyUser{{UserID: "@mimi_a:hs", Protocol: p}}, nil
}
func (o *oracle) Locations(context.Context, string, map[string]string) ([]ThirdPartyLocation, error) {
	return nil, nil
}
func (o *oracle) UserByID(_ context.Context, u id.UserID) ([]ThirdPartyUser, error) {
	return []ThirdPartyUser{{UserID: u}}, nil
}
func (o *oracle) LocationByAlias(context.Context, id.RoomAlias) ([]ThirdPartyLocation, error) {
	return nil, nil
}

func TestQueries(t *testing.T) {
	o := &oracle{}
	pinged := ""
	h, _ := NewHandler(Config{Token: hsToken, Sink: &memory{}, Queries: o, Pinged: func(s string) { pinged = s }, Log: zerolog.Nop()})
	for _, c := range []struct {
		path string
		code int
		has  string
	}{
		{"/_matrix/app/v1/users/" + url.PathEscape("@mimi_a=2fb:hs"), 200, "{}"},
		{"/users/" + url.PathEscape("@mimi_a=2fb:hs"), 200, "{}"},
		{"/_matrix/app/v1/users/@none:hs", 404, "M_NOT_FOUND"},
		{"/_matrix/app/v1/users/@broken:hs", 500, "M_UNKNOWN"},
		{"/_matrix/app/v1/users/nonsense", 404, "M_NOT_FOUND"},
		{"/_matrix/app/v1/rooms/" + url.PathEscape("#mimi_r:hs"), 200, "{}"},
		{"/_matrix/app/v1/rooms/" + url.PathEscape("#other:hs"), 404, "M_NOT_FOUND"},
		{"/_matrix/app/v1/thirdparty/protocol/mimi", 200, `"user_fields":["domain"]`},
		{"/_matrix/app/unstable/thirdparty/protocol/irc", 404, "M_NOT_FOUND"},
		{"/_matrix/app/v1/thirdparty/user/mimi?domain=a.example&access_token=x", 200, "@mimi_a:hs"},
		{"/_matrix/app/v1/thirdparty/user?userid=%40mimi_a%3Ahs", 200, "@mimi_a:hs"},
		{"/_matrix/app/v1/thirdparty/location/mimi?x=y", 200, "[]"},
		{"/_matrix/app/v1/thirdparty/location?alias=%23mimi_r%3Ahs", 200, "[]"},
		{"/_matrix/app/v1/thirdparty/location?alias=x", 404, "M_UNRECOGNIZED"},
	} {
		w := ask(h, "GET", c.path, hsToken, "")
		if w.Code != c.code || !strings.Contains(w.Body.String(), c.has) {
			t.Errorf("%s: %d %s, want %d %s", c.path, w.Code, w.Body, c.code, c.has)
		}
	}
	if !reflect.DeepEqual(o.fields, map[string]string{"domain": "a.example"}) {
		t.Errorf("fields %v", o.fields)
	}
	if w := ask(h, "POST", "/_matrix/app/v1/ping", hsToken, `{"transaction_id":"p1"}`); w.Code != 200 || pinged != "p1" {
		t.Errorf("ping: %d %q", w.Code, pinged)
	}
}

func TestNeedsSync(t *testing.T) {
	for _, c := range []struct {
		w    Wants
		name string
		ping bool
		want bool
	}{
		{Auto, "Dendrite", false, true}, {Auto, "Synapse", true, false}, {Auto, "", true, false}, {Auto, "", false, true},
		{Always, "Synapse", true, true}, {Never, "Dendrite", false, false},
	} {
		if NeedsSync(c.w, c.name, c.ping) != c.want {
			t.Errorf("%+v", c)
		}
	}
}

// syncServer answers /sync from a list and /messages once, or as pages says.
type syncServer struct {
	mu      sync.Mutex
	answers []string
	sinces  []string
	pages   func(from, to string) string
}

func (s *syncServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.HasSuffix(r.URL.Path, "/messages") {
		if q := r.URL.Query(); s.pages != nil {
			_, _ = io.WriteString(w, s.pages(q.Get("from"), q.Get("to")))
			return
		}
		_, _ = io.WriteString(w, `{"chunk":[{"event_id":"$gap2","type":"m.room.redaction","sender":"@u:hs","redacts":"$y","content":{}},{"event_id":"$gap1","type":"m.room.redaction","sender":"@u:hs","redacts":"$x","content":{}}]}`)
		return
	}
	s.sinces = append(s.sinces, r.URL.Query().Get("since"))
	if len(s.answers) == 0 {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	_, _ = io.WriteString(w, s.answers[0])
	s.answers = s.answers[1:]
}

func newLoop(t *testing.T, s *syncServer, m *memory) *Loop {
	t.Helper()
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	cli, err := mautrix.NewClient(srv.URL, "@bot:hs", "x")
	if err != nil {
		t.Fatal(err)
	}
	cli.DeviceID, cli.Log = "DEV", zerolog.Nop()
	l, err := NewLoop(SyncConfig{Client: cli, Sink: m, Positions: m, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestSyncGivesTheSameInput(t *testing.T) {
	s := &syncServer{answers: []string{
		`{"next_batch":"s1","device_one_time_keys_count":{"signed_curve25519":0},"rooms":{"join":{"!r:hs":{"timeline":{"events":[{"event_id":"$old","type":"m.room.redaction","sender":"@u:hs","redacts":"$z","content":{}}]}}}},
		  "to_device":{"events":[{"type":"m.room_key","sender":"@u:hs","content":{}}]}}`,
		`{"next_batch":"s2","device_one_time_keys_count":{"signed_curve25519":49},"device_lists":{"changed":["@u:hs"]},"rooms":{"join":{"!r:hs":{
		  "timeline":{"events":[{"event_id":"$red","type":"m.room.redaction","sender":"@u:hs","content":{"redacts":"$z"}}],"limited":true,"prev_batch":"p"},
		  "ephemeral":{"events":[{"type":"m.typing","content":{"user_ids":["@u:hs"]}},{"type":"m.receipt","content":{"$e":{"m.read":{"@u:hs":{"ts":1}}}}}]}}}}}`,
		`{"next_batch":"s2"}`,
	}}
	m := &memory{}
	l := newLoop(t, s, m)
	for range 3 {
		if _, err := l.Round(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
	}
	if !reflect.DeepEqual(s.sinces, []string{"", "s1", "s2"}) || len(m.txns) != 2 {
		t.Fatalf("asked since %v, stored %d", s.sinces, len(m.txns))
	}
	first, second := m.txns[0], m.txns[1]
	if len(first.Events) != 0 || len(first.ToDevice) != 1 || first.ToDevice[0].ToDevice != "DEV" || first.ToDevice[0].ToUser != "@bot:hs" || first.KeyCounts != nil {
		t.Errorf("first: %+v", first)
	}
	var ids []string
	for _, e := range second.Events {
		ids = append(ids, string(e.ID)+">"+string(e.Redacts)+"@"+string(e.Room))
	}
	if want := []string{"$gap1>$x@!r:hs", "$gap2>$y@!r:hs", "$red>$z@!r:hs"}; !reflect.DeepEqual(ids, want) {
		t.Errorf("events %v, want %v", ids, want)
	}
	if len(second.Ephemeral) != 2 || second.Ephemeral[0].Room != "!r:hs" || second.DeviceLists == nil || string(second.KeyCounts) != `{"@bot:hs":{"DEV":{"signed_curve25519":49}}}` {
		t.Errorf("second: %+v", second)
	}
}

// A gap is read to its end, over pages of which nothing is left; not further, and not for ever.
func TestGapIsReadOverEmptyPages(t *testing.T) {
	const red = `{"event_id":"$gap","type":"m.room.redaction","sender":"@u:hs","redacts":"$x","content":{}}`
	page := func(chunk, end string) string { return `{"chunk":[` + chunk + `],"start":"p","end":"` + end + `"}` }
	for name, c := range map[string]struct {
		pages map[string]string // by where they begin
		asked int
		found bool
	}{
		"empty, and then more":    {map[string]string{"p": page("", "q"), "q": page("", "r"), "r": page(red, "s1")}, 3, true},
		"empty without an end":    {map[string]string{"p": `{"chunk":[],"start":"p"}`}, 1, false},
		"an end that stands":      {map[string]string{"p": page(red, "q"), "q": page("", "q")}, 2, true},
		"the end of the gap":      {map[string]string{"p": page(red, "s1")}, 1, true},
		"Dendrite's last page":    {map[string]string{"p": page(red, "q"), "q": page("", "t0_0")}, 2, true},
		"empty pages in a circle": {map[string]string{"p": page("", "q"), "q": page("", "p")}, maxGapPages, false},
	} {
		t.Run(name, func(t *testing.T) {
			s, asked := &syncServer{answers: []string{`{"next_batch":"s1"}`, `{"next_batch":"s2","rooms":{"join":{"!r:hs":{"timeline":{"events":[],"limited":true,"prev_batch":"p"}}}}}`}}, 0
			s.pages = func(from, to string) string {
				asked++
				if to != "s1" {
					t.Errorf("read up to %q", to)
				}
				if c.pages[from] == "" {
					t.Errorf("asked from %q", from)
				}
				return c.pages[from]
			}
			m := &memory{}
			l := newLoop(t, s, m)
			for range 2 {
				if _, err := l.Round(t.Context(), 0); err != nil {
					t.Fatal(err)
				}
			}
			if last := m.txns[len(m.txns)-1]; asked != c.asked || (len(last.Events) == 1) != c.found || m.position != "s2" {
				t.Errorf("asked %d times, found %+v, now at %s", asked, last.Events, m.position)
			}
		})
	}
}

// A position is left behind only when what came before it is stored.
func TestSyncDoesNotRunAheadOfTheStore(t *testing.T) {
	s := &syncServer{answers: []string{`{"next_batch":"s1"}`, `{"next_batch":"s2","to_device":{"events":[{"type":"t","sender":"@u:hs","content":{}}]}}`, `{"next_batch":"s2","to_device":{"events":[{"type":"t","sender":"@u:hs","content":{}}]}}`}}
	m := &memory{}
	l := newLoop(t, s, m)
	if _, err := l.Round(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	m.fail = errors.New("disk full")
	if _, err := l.Round(t.Context(), 0); err == nil {
		t.Fatal("no error")
	}
	m.fail = nil
	if _, err := l.Round(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(s.sinces, []string{"", "s1", "s1"}) || m.position != "s2" {
		t.Fatalf("%v, now at %q", s.sinces, m.position)
	}
}

func TestSyncLoopBacksOffAndStops(t *testing.T) {
	m := &memory{}
	l := newLoop(t, &syncServer{}, m)
	ctx, cancel := context.WithCancel(t.Context())
	var waits []time.Duration
	l.cfg.Wait = func(_ context.Context, d time.Duration) error {
		if waits = append(waits, d); len(waits) == 8 {
			cancel()
		}
		return nil
	}
	if err := l.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	want := []time.Duration{1, 2, 4, 8, 16, 32, 60, 60}
	for i := range want {
		if waits[i] != want[i]*time.Second {
			t.Fatalf("waits %v", waits)
		}
	}
}
