package follower

import (
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// private makes an MLSMessage that looks like a PrivateMessage of the epoch.
func private(group string, epoch uint64) wire.Message {
	m := mls.PrivateMessage{GroupID: []byte(group), Epoch: epoch, ContentType: mls.ContentApplication}
	return wire.NewMessage(m.Message())
}

func TestPlaceOf(t *testing.T) {
	for _, c := range []struct {
		m    wire.Message
		want Place
	}{
		{private("g", 7), Now},
		{private("g", 8), Later},
		{private("g", 6), Past},
		{private("h", 7), Foreign},
	} {
		if got := PlaceOf(c.m, []byte("g"), 7); got != c.want {
			t.Errorf("epoch %d of %q: place %d, want %d", c.m.Epoch(), c.m.GroupID(), got, c.want)
		}
	}
}

func TestBounds(t *testing.T) {
	b := DefaultBounds
	for name, c := range map[string]struct {
		ahead uint64
		rows  int
		size  int64
		want  Verdict
	}{
		"next epoch":      {1, 0, 0, Wait},
		"two ahead":       {2, 999, 0, Wait},
		"three ahead":     {3, 0, 0, Resync},
		"too many wait":   {1, 1000, 0, Resync},
		"too large a lot": {1, 10, 16 << 20, Resync},
	} {
		if got := b.Admit(7, 7+c.ahead, c.rows, c.size); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
	since := time.Unix(100, 0)
	if b.Expired(since, since.Add(59*time.Second)) || !b.Expired(since, since.Add(time.Minute)) {
		t.Error("items wait a minute")
	}
}

// Only evidence decides what becomes of a commit of ours (docs/flow.md, T7 to T9).
func TestFateOfPendingCommit(t *testing.T) {
	p := Pending{BaseEpoch: 7, CommitHash: []byte("hash"), Transcript: []byte("transcript")}
	for code, want := range map[wire.UpdateResponseCode]Fate{wire.UpdateSuccess: Merge, wire.UpdateWrongEpoch: Ask,
		wire.UpdateNotAllowed: Refused, wire.UpdateInvalidProposal: Refused} {
		if got := p.OnAnswer(&wire.UpdateRoomResponse{ResponseCode: code}); got != want {
			t.Errorf("answer %d: fate %d, want %d", code, got, want)
		}
	}
	for _, c := range []struct {
		epoch uint64
		hash  string
		want  Fate
	}{{7, "hash", Merge}, {7, "other", Lost}, {6, "hash", Keep}, {8, "other", Keep}} {
		if got := p.OnCommit(c.epoch, []byte(c.hash)); got != c.want {
			t.Errorf("commit %q of epoch %d: fate %d, want %d", c.hash, c.epoch, got, c.want)
		}
	}
	for _, c := range []struct {
		epoch      uint64
		transcript string
		want       Fate
	}{{7, "x", Keep}, {8, "transcript", Merge}, {8, "other", Lost}, {9, "transcript", Behind}} {
		if got := p.OnGroupInfo(&mls.GroupContext{Epoch: c.epoch, ConfirmedTranscriptHash: []byte(c.transcript)}); got != c.want {
			t.Errorf("GroupInfo %q of epoch %d: fate %d, want %d", c.transcript, c.epoch, got, c.want)
		}
	}
}

func TestOnSubmit(t *testing.T) {
	old := &wire.SubmitMessageResponse{StatusCode: wire.SubmitEpochTooOld}
	for _, c := range []struct {
		a     *wire.SubmitMessageResponse
		tries int
		want  Resend
	}{
		{&wire.SubmitMessageResponse{StatusCode: wire.SubmitAccepted}, 1, Delivered},
		{old, 1, Again}, {old, MaxResends - 1, Again}, {old, MaxResends, Failed},
		{&wire.SubmitMessageResponse{StatusCode: wire.SubmitNotAllowed}, 1, Failed},
	} {
		if got := OnSubmit(c.a, c.tries); got != c.want {
			t.Errorf("answer %d at try %d: %d, want %d", c.a.StatusCode, c.tries, got, c.want)
		}
	}
}
