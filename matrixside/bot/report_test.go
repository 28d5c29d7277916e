package bot

import (
	"context"
	"strings"
	"testing"

	"github.com/matrix-mimi/bridge/internal/relay"
)

var (
	_ Reporting  = (*relay.Relay)(nil)
	_ Moderation = (*relay.Relay)(nil)
)

// complaints records what is reported.
type complaints struct {
	*world
	got  []relay.Complaint
	list []relay.Report
}

func (c *complaints) Report(_ context.Context, r relay.Complaint) error {
	c.got = append(c.got, r)
	return c.fail
}
func (c *complaints) Reports(context.Context) ([]relay.Report, error) { return c.list, c.fail }
func (c *complaints) DecideReport(_ context.Context, by, name, what string) error {
	return c.act("%s %s %s", by, what, name)
}

func TestReportCommands(t *testing.T) {
	b, w := newBot(t)
	c := &complaints{world: w, list: []relay.Report{{ID: "abcdef", Text: "mimi://a.example/u/bob"}}}
	b.Register(Reports(c)...)
	run := func(cmd relay.Command) string {
		t.Helper()
		w.sent = nil
		if err := b.Command(context.Background(), cmd); err != nil {
			t.Fatal(err)
		}
		if len(w.sent) == 0 {
			return ""
		}
		return w.sent[0].Body
	}
	reply := say("@u:hs", "report anonymously he insults", false)
	reply.ReplyTo = "$bad"
	run(reply)
	run(say("@u:hs", "report https://matrix.to/#/!x:hs/$other?via=hs spam", true))
	want := []relay.Complaint{
		{RoomID: "!r:hs", By: "@u:hs", Event: "$bad", Command: "$e", Note: "he insults", Anonymous: true},
		{RoomID: "!x:hs", By: "@u:hs", Event: "$other", Note: "spam"},
	}
	for i := range want {
		if i >= len(c.got) || c.got[i] != want[i] {
			t.Errorf("reported %+v, want %+v", c.got, want)
			break
		}
	}
	for text, want := range map[string]string{"report": "Reply with it", "report https://matrix.to/#/!x:hs nothing": "Reply with it", "reports": "do not know"} {
		if got := run(say("@u:hs", text, false)); !strings.Contains(got, want) {
			t.Errorf("%q: %q", text, got)
		}
	}
	for err, want := range map[error]string{relay.ErrNotFound: "did not come over MIMI", relay.ErrOwnMessage: "your homeserver", relay.ErrBusy: "Try again later", relay.ErrNoRoom: "no such room"} {
		w.fail = err
		if got := run(reply); !strings.Contains(got, want) {
			t.Errorf("%v: %q", err, got)
		}
	}
	w.fail = nil
	if got := run(say("@admin:hs", "reports", true)); !strings.Contains(got, "abcdef: mimi://a.example/u/bob") {
		t.Errorf("list: %q", got)
	}
	run(say("@admin:hs", "reports BAN ABCDEF", true))
	run(say("@admin:hs", "reports redact", true))
	if got := strings.Join(w.did, ";"); got != "@admin:hs ban abcdef;@admin:hs redact " {
		t.Errorf("did %s", got)
	}
	if got := run(say("@admin:hs", "reports burn abcdef", true)); !strings.Contains(got, "redact") {
		t.Errorf("unknown: %q", got)
	}
	w.fail = relay.ErrWhichReport
	if got := run(say("@admin:hs", "reports close", true)); !strings.Contains(got, "more than one") {
		t.Errorf("which: %q", got)
	}
}

// moderators records what moderators ask for.
type moderators struct{ *world }

func (m moderators) RolesOf(context.Context, string) ([]relay.RoleInfo, error) {
	return []relay.RoleInfo{{Index: 11, Name: "moderator", Description: "Keeps order", Users: []string{"mimi://a.example/u/bob"}}}, m.fail
}
func (m moderators) Moderate(_ context.Context, room, by, what, target, role, ev string) error {
	return m.act("%s %s %s %s %q", room, by, what, target, role)
}

func TestModerationCommands(t *testing.T) {
	b, w := newBot(t)
	b.Register(Moderate(moderators{w})...)
	for text, want := range map[string]string{
		"kick @bob:hs":                           `!r:hs @u:hs kick @bob:hs ""`,
		"ban mimi://a.example/u/bob":             `!r:hs @u:hs ban mimi://a.example/u/bob ""`,
		"unban @bob@a.example":                   `!r:hs @u:hs unban mimi://a.example/u/bob ""`,
		"role mimi://a.example/u/bob group head": `!r:hs @u:hs role mimi://a.example/u/bob "group head"`,
	} {
		w.did = nil
		if err := b.Command(context.Background(), say("@u:hs", text, false)); err != nil || strings.Join(w.did, ";") != want {
			t.Errorf("%q: %q, %v", text, w.did, err)
		}
	}
	w.sent = nil
	if err := b.Command(context.Background(), say("@u:hs", "roles", false)); err != nil || !strings.Contains(w.sent[0].Body, "11 moderator: Keeps order (1 people)") {
		t.Errorf("%+v %v", w.sent, err)
	}
}
