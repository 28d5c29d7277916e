package relay

import (
	"context"
	"errors"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// The draft's refusal of a joining code does not say why. Who has the code, which nobody guesses, may ask (docs/extensions.md).

// whyCode is why a code is refused when the hub does not say.
const whyCode = "the link or code does not let you in: it may be used up, revoked or expired, or its passphrase is wrong or missing"

// whyLink says in people's words how a link stands.
var whyLink = map[wire.LinkStatus]string{
	wire.LinkUsed:       "the link is used up",
	wire.LinkRevoked:    "the link was revoked",
	wire.LinkExpired:    "the link has expired",
	wire.LinkPassphrase: "the passphrase is wrong or missing",
	wire.LinkLocked:     "too many wrong passphrases were tried with this link: wait an hour",
}

// LinkStatus answers who wants to know why a joining code was refused. An attempt at a passphrase counts as one.
func (r *Relay) LinkStatus(ctx context.Context, peer string, path wire.IdentifierURI, body []byte) (Reply, error) {
	q, err := wire.UnmarshalLinkStatusRequest(body)
	if err != nil {
		return Reply{}, err
	}
	answer := wire.LinkStatusResponse{}
	id, err := r.hubRoomFor(ctx, path, peer, func(s *step) bool { return s.linkOf(q.JoiningCode) != nil })
	if errors.Is(err, ErrNotFound) {
		return Reply{Body: answer.Marshal()}, nil
	}
	if err != nil {
		return Reply{}, err
	}
	if err := r.allow(ctx, "linkStatus", peer+" "+path.Key(), r.cfg.GroupInfos); err != nil {
		return Reply{}, err
	}
	_, err = r.runStep(ctx, id, nil, store.Settle{}, func(s *step) error {
		_, answer.Status = s.judgeCode(q.JoiningCode)
		return nil
	})
	return Reply{Body: answer.Marshal()}, err
}

// codeRefused: the hub does not take the code by which a user of ours wanted to join. It is asked why, where that can be.
func (s *step) codeRefused() error {
	v := s.room
	j := v.st.Join
	if !s.mayShare(v.head.Hub, verbLinkStatus) {
		return s.joinFailed(whyCode)
	}
	code, err := s.codeOf(j)
	if err != nil {
		return err
	}
	o := s.aside(v.head.Hub, verbLinkStatus, (&wire.LinkStatusRequest{JoiningCode: code}).Marshal())
	o.Target = v.head.URI
	ask(o, refLinkStatus+":"+j.By, 0)
	return nil
}

// onLinkStatus: the hub says why it does not take a code, or not.
func (s *step) onLinkStatus(a *store.Answer, by string) error {
	j := s.room.st.Join
	if j == nil || j.By != by {
		return nil
	}
	why := whyCode
	if answer, err := wire.UnmarshalLinkStatusResponse(a.Body); a.Class == "done" && err == nil && whyLink[answer.Status] != "" {
		why = whyLink[answer.Status]
	}
	return s.joinFailed(why)
}
