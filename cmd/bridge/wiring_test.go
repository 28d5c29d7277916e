package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/config"
	"github.com/matrix-mimi/bridge/internal/outbox"
	"github.com/matrix-mimi/bridge/internal/store"
	matrix "github.com/matrix-mimi/bridge/matrixside/client"
	mimi "github.com/matrix-mimi/bridge/mimiside/client"
	"github.com/matrix-mimi/bridge/mimiside/peer"
	"github.com/matrix-mimi/bridge/mimiside/peer/ca"
	"github.com/matrix-mimi/bridge/mimiside/wire"
	"github.com/matrix-mimi/bridge/test/harness"
)

// What a provider's answer means for a row: a wrong sort loses a message or
// repeats a refused one for days.
func TestAnswersOfProvidersAreSorted(t *testing.T) {
	accepted := (&wire.SubmitMessageResponse{StatusCode: wire.SubmitAccepted, AcceptedTimestamp: 1234}).Marshal()
	tooOld := (&wire.SubmitMessageResponse{StatusCode: wire.SubmitEpochTooOld, CurrentEpoch: 9}).Marshal()
	for name, c := range map[string]struct {
		verb wire.Verb
		res  mimi.Result
		err  error
		want outbox.Class
		ms   int64
	}{
		"accepted":          {wire.VerbSubmitMessage, mimi.Result{Status: 200, Body: accepted}, nil, outbox.Done, 1234},
		"epoch too old":     {wire.VerbSubmitMessage, mimi.Result{Status: 200, Body: tooOld}, nil, outbox.Refused, 0},
		"garbage":           {wire.VerbSubmitMessage, mimi.Result{Status: 200, Body: []byte("<html>")}, nil, outbox.Refused, 0},
		"verdict on commit": {wire.VerbUpdate, mimi.Result{Status: 200, Body: []byte{1}}, nil, outbox.Done, 0},
		"notify taken":      {wire.VerbNotify, mimi.Result{Status: 201}, nil, outbox.Done, 0},
		"busy":              {wire.VerbNotify, mimi.Result{Status: 429, RetryAfter: time.Minute}, nil, outbox.Retry, 0},
		"broken":            {wire.VerbNotify, mimi.Result{Status: 502}, nil, outbox.Retry, 0},
		"forbidden":         {wire.VerbNotify, mimi.Result{Status: 403}, nil, outbox.Refused, 0},
		"away":              {wire.VerbNotify, mimi.Result{}, &mimi.Error{Op: "notify", Temporary: true, Err: errors.New("refused")}, outbox.Retry, 0},
		"bad certificate":   {wire.VerbNotify, mimi.Result{}, &mimi.Error{Op: "notify", Err: peer.ErrCertificate}, outbox.Retry, 0},
		"blocked":           {wire.VerbNotify, mimi.Result{}, &mimi.Error{Op: "notify", Err: peer.ErrBlocked}, outbox.Refused, 0},
		"no endpoint":       {wire.VerbNotify, mimi.Result{}, &mimi.Error{Op: "notify", Err: mimi.ErrNoEndpoint}, outbox.Refused, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := mimiSender{request: func(_ context.Context, domain, verb, target string, body []byte) (mimi.Result, error) {
				if domain != "two.example" || verb != string(c.verb) || target != "mimi://two.example/r/1" || !strings.HasPrefix("ab", string(body)) {
					t.Errorf("asked %s %s %s %q", domain, verb, target, body)
				}
				return c.res, c.err
			}}
			rows := []store.Outbound{{Dest: "mimi:two.example", Verb: string(c.verb), Target: "mimi://two.example/r/1", Data: []byte("a")}}
			if c.verb == wire.VerbNotify {
				rows = append(rows, store.Outbound{Data: []byte("b")})
			}
			got := s.Send(t.Context(), rows)
			if got.Class != c.want || got.AcceptedMS != c.ms || got.RetryAfter != c.res.RetryAfter {
				t.Errorf("%+v, want %s", got, c.want)
			}
		})
	}
	unknown := mimiSender{request: mimiRequester{}.request}.Send(t.Context(), []store.Outbound{{Dest: "mimi:two.example", Verb: "dance"}})
	if unknown.Class != outbox.Refused {
		t.Errorf("an unknown verb: %+v", unknown)
	}
	if join := (mimiSender{}).join; join(store.Outbound{Verb: "update"}) || join(store.Outbound{Verb: "submitMessage"}) || !join(store.Outbound{Verb: "notify"}) {
		t.Error("only notify rows may share a request")
	}
}

// Only a request that its receiver knows again may be repeated: a change of membership has no transaction id.
func TestWhatMayBeRepeated(t *testing.T) {
	for verb, want := range map[string]bool{"send": true, "redact": true, "join": false, "leave": false, "invite": false, "kick": false, "ban": false, "state": false, "create_room": false} {
		if matrixRepeats(store.Outbound{Verb: verb, TxnKey: "k"}) != want {
			t.Errorf("%s at the homeserver: %v", verb, !want)
		}
	}
	for verb, want := range map[string]bool{"notify": true, "submitMessage": true, "update": false, "keyMaterial": false, "groupInfo": false} {
		if mimiRepeats(store.Outbound{Verb: verb}) != want {
			t.Errorf("%s at a provider: %v", verb, !want)
		}
	}
}

func TestMatrixRowsGetTheRoomAtTheLastMoment(t *testing.T) {
	room := ""
	s := matrixSender{
		room: func(context.Context, store.RoomID) (string, error) {
			if room == "" {
				return "", errors.New("no database")
			}
			return room, nil
		},
		do: func(_ context.Context, row matrix.Row) matrix.Result {
			if row.Room != "!r:hs.example" || row.Txn != "k.1" || row.Verb != "send" || string(row.Args) != "{}" {
				t.Errorf("%+v", row)
			}
			return matrix.Result{Class: matrix.Done, Status: 200, Body: []byte(`{"event_id":"$e"}`)}
		},
	}
	rows := []store.Outbound{{Dest: "matrix", Verb: "send", Data: []byte("{}"), TxnKey: "k.1"}}
	if got := s.Send(t.Context(), rows); got.Class != outbox.Retry {
		t.Errorf("without a database: %+v", got)
	}
	known := []store.Outbound{rows[0]}
	known[0].MatrixRoomID = "!r:hs.example"
	if got := s.Send(t.Context(), known); got.Class != outbox.Done {
		t.Errorf("handed over with its room: %+v", got)
	}
	known[0].Repeated = true
	if got := s.Send(t.Context(), known); got.Class != outbox.Retry {
		t.Errorf("again, without a database: %+v", got)
	}
	room = "!r:hs.example"
	if got := s.Send(t.Context(), rows); got.Class != outbox.Done || got.EventID != "$e" {
		t.Errorf("%+v", got)
	}
}

// The operator's word on peers reaches the book, and a certificate that was
// renewed is used after a reload.
func TestProviderFollowsTheSettings(t *testing.T) {
	dir, cfgFile, _ := site(t)
	pin := fmt.Sprintf("%064x", 7)
	cfg, err := config.Load(cfgFile, []string{
		"MIMIBRIDGE_MIMI__PEERS={two.example: {address: '127.0.0.1:1', roots: file, ca_file: ca.pem, require_client_usage: true}, three.example: {roots: pinned, pins: ['" + pin + "']}, bad.example: {blocked: true}}",
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := newProvider(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if r := p.book.Of("two.example"); r.Roots == nil || r.EKU != peer.EKUClientAuth || r.Blocked || r.Limits.Connections != 20 {
		t.Errorf("%+v", r)
	}
	if r := p.book.Of("three.example"); len(r.Pins) != 1 || r.Roots != nil {
		t.Errorf("%+v", r)
	}
	if !p.book.Of("bad.example").Blocked || p.book.Of("other.example").Blocked {
		t.Error("blocked is wrong")
	}
	if got := addressOverrides(cfg); len(got) != 1 || got["two.example"] != "127.0.0.1:1" {
		t.Error(got)
	}
	before := p.certificateExpiry()
	certify(t, dir, ca.Options{NotAfter: time.Now().Add(48 * time.Hour)})
	if err := p.reload(cfg); err != nil {
		t.Fatal(err)
	}
	if after := p.certificateExpiry(); after > 48*3600 || after == before {
		t.Errorf("after the reload the certificate ends in %v s, before in %v s", after, before)
	}
	if err := os.WriteFile(filepath.Join(dir, "cert.pem"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.reload(cfg); err == nil || p.certificateExpiry() < 47*3600 {
		t.Errorf("a broken file gives %v and leaves %v s", err, p.certificateExpiry())
	}
}

func TestDirectoryNamesEveryEndpoint(t *testing.T) {
	cfg := config.Default()
	cfg.MIMI.Domain = "mimi.example"
	d, err := directory(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range append(wire.Verbs(), wire.ExtensionVerbs()...) {
		if _, ok := d.Endpoint(v); !ok {
			t.Errorf("no %s", v)
		}
	}
	if d.Bridge == nil || len(d.Bridge.Suites) != 5 {
		t.Errorf("%+v", d.Bridge)
	}
	cfg.MIMI.Extensions = false
	if d, err = directory(&cfg); err != nil || d.Bridge != nil {
		t.Error("extensions are published though switched off", err)
	}
}

func TestServeHTTPLetsRequestsFinish(t *testing.T) {
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	addr := harness.Loopback(port)
	entered, finish := make(chan struct{}), make(chan struct{})
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-finish
		w.WriteHeader(http.StatusTeapot)
	})}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serveHTTP(ctx, srv, ln) }()
	status := make(chan int, 1)
	go func() {
		resp, err := http.Get("http://" + addr)
		if err != nil {
			status <- 0
			return
		}
		resp.Body.Close()
		status <- resp.StatusCode
	}()
	<-entered
	stop()
	close(finish)
	if got := <-status; got != http.StatusTeapot {
		t.Errorf("the request in progress got %d", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
