package bot

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// fediverse is a Channels that knows one server, and notes what is asked of it.
type fediverse struct {
	world
	err error
}

func (f *fediverse) StartChat(_ context.Context, by string, handles ...string) error {
	if f.err == nil {
		_ = f.act("chat %s %s", by, strings.Join(handles, " "))
	}
	return f.err
}
func (f *fediverse) OfferChannel(context.Context, string, string, string) error { return f.err }
func (f *fediverse) InviteToChannel(context.Context, string, string, string, string) error {
	return f.err
}
func (f *fediverse) JoinChannel(context.Context, string, string) error          { return f.err }
func (f *fediverse) LeaveChannel(context.Context, string, string, string) error { return f.err }

// TestStartChatFallsBackToActivityPub: start-chat with accounts that no MIMI provider knows begins a conversation with people of ActivityPub servers; where these do not know them
// either, or an address is of MIMI, what MIMI said is told. S000-042.
func TestStartChatFallsBackToActivityPub(t *testing.T) {
	for _, tc := range []struct {
		name, text  string
		fedi        *fediverse
		mimi, ap    string
		reply, lack string
	}{
		{name: "an account", text: "start-chat @eve@fedi.example", fedi: &fediverse{}, ap: "chat @u:hs @eve@fedi.example", reply: "A chat with @eve@fedi.example is being made"},
		{name: "acct:", text: "pm acct:eve@fedi.example", fedi: &fediverse{}, ap: "chat @u:hs acct:eve@fedi.example", reply: "is being made"},
		{name: "several", text: "dm @eve@fedi.example @pia@fedi.example", fedi: &fediverse{}, ap: "chat @u:hs @eve@fedi.example @pia@fedi.example", reply: "is being made"},
		{name: "known to MIMI", text: "start-chat @bob@a.example", fedi: &fediverse{}, mimi: "start @u:hs mimi://a.example/u/bob", reply: "is being made"},
		{name: "an address of MIMI", text: "start-chat mimi://c.example/u/eve", fedi: &fediverse{}, mimi: "start @u:hs mimi://c.example/u/eve", reply: "is being made"},
		{name: "one of them no account", text: "start-chat @eve@fedi.example mimi://c.example/u/x", fedi: &fediverse{}, reply: "nobody by this"},
		{name: "known to nobody", text: "start-chat @eve@fedi.example", fedi: &fediverse{err: errors.New("dial tcp 192.0.2.1:443")}, reply: "nobody by this", lack: "192.0.2.1"},
		{name: "switched off", text: "start-chat @eve@fedi.example", reply: "nobody by this"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, w := newBot(t)
			did := ""
			if tc.fedi != nil {
				b.UseChannels(tc.fedi)
			}
			if err := b.Command(context.Background(), say("@u:hs", tc.text, true)); err != nil {
				t.Fatal(err)
			}
			if tc.fedi != nil {
				did = strings.Join(tc.fedi.did, "; ")
			}
			if got := strings.Join(w.did, "; "); got != tc.mimi || did != tc.ap {
				t.Errorf("MIMI %q, ActivityPub %q", got, did)
			}
			if len(w.sent) != 1 || !strings.Contains(w.sent[0].Body, tc.reply) || tc.lack != "" && strings.Contains(w.sent[0].Body, tc.lack) {
				t.Errorf("%+v", w.sent)
			}
		})
	}
}
