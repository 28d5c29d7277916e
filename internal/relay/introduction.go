package relay

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Introductions (docs/extensions.md): a user of ours hands out a code; who presents it with a request for consent needs not be
// asked about. A code that is not good is as none.

const (
	// maxIntroductions bounds the codes of one user.
	maxIntroductions = 50
	// introductionsAnHour bounds the requests that one user of ours sends to introduce itself.
	introductionsAnHour = 20
)

// CreateIntroduction makes an introduction of a Matrix user for one person or many; lasts 0 is without end. It returns what
// is to be handed out, and the id by which it can be ended.
func (r *Relay) CreateIntroduction(ctx context.Context, mxid string, many bool, lasts time.Duration) (text, id string, err error) {
	if lasts < 0 || lasts > maxLinkLasts || lasts > 0 && lasts < time.Minute {
		return "", "", errors.New("an introduction lasts at least a minute and at most a year, or has no end")
	}
	uri, err := r.Naming.UserURI(mxid)
	if err != nil {
		return "", "", err
	}
	code, err := wire.NewCode(r.Rand)
	if err != nil {
		return "", "", err
	}
	if id, err = wire.NewCode(r.Rand); err != nil {
		return "", "", err
	}
	hash := sha256.Sum256([]byte(code))
	i := store.Introduction{MXID: mxid, ID: id[:6], Hash: hash[:], Many: many, UntilMS: store.Never, CreatedMS: r.Clock().UnixMilli()}
	if lasts > 0 {
		i.UntilMS = r.Clock().Add(lasts).UnixMilli()
	}
	had, err := r.Introductions(ctx, mxid)
	if err != nil {
		return "", "", err
	}
	if len(had) >= maxIntroductions {
		return "", "", errors.New("there are as many introductions as there can be: revoke some first")
	}
	// The user itself is a user of MIMI from now on: it may be asked for.
	if _, err := r.client(ctx, mxid); err != nil {
		return "", "", err
	}
	err = r.Store.Tx(ctx, func(tx *store.Tx) error { return tx.AddIntroduction(ctx, i) })
	return wire.Introduction{User: uri, Code: code}.String(), i.ID, err
}

// Introductions lists the introductions of a Matrix user that can be used.
func (r *Relay) Introductions(ctx context.Context, mxid string) ([]store.Introduction, error) {
	all, err := r.Store.Introductions(ctx, mxid)
	var out []store.Introduction
	for _, i := range all {
		if i.UntilMS > r.Clock().UnixMilli() && (i.Many || i.Uses == 0) {
			out = append(out, i)
		}
	}
	return out, err
}

// RevokeIntroduction ends an introduction. What was granted by it stays.
func (r *Relay) RevokeIntroduction(ctx context.Context, mxid, id string) error {
	return r.Store.Tx(ctx, func(tx *store.Tx) error {
		there, err := tx.DropIntroduction(ctx, mxid, id)
		if err == nil && !there {
			err = errors.New("there is no such introduction")
		}
		return err
	})
}

// introduced tells whether a request for consent carries a code that its target gave out, and uses it up.
func (r *Relay) introduced(ctx context.Context, mxid string, e *wire.ConsentEntry) (good bool, err error) {
	code := e.Introduction()
	if code == "" || e.Operation != wire.ConsentRequest {
		return false, nil
	}
	hash := sha256.Sum256([]byte(code))
	err = r.Store.Tx(ctx, func(tx *store.Tx) error {
		good, err = tx.UseIntroduction(ctx, mxid, hash[:], e.RequesterURI.Key(), r.Clock().UnixMilli())
		return err
	})
	return good, err
}

// Introduce asks a user of another provider for consent on behalf of a Matrix user, by an introduction. That the other agrees is
// told in the chat with the bot; that it does not is not told.
func (r *Relay) Introduce(ctx context.Context, mxid, text string) (user string, err error) {
	i, err := wire.ParseIntroduction(text)
	switch {
	case err != nil:
		return "", errors.New("it is no introduction: they look like mimi://a.example/u/alice?introduction=…")
	case r.Naming.Own(i.User):
		return "", errors.New("it is a user of this bridge")
	case r.blockedUser(string(i.User)):
		return "", errors.New("its provider is not spoken with")
	}
	if err := r.allow(ctx, "introduce", mxid, introductionsAnHour); err != nil {
		return "", errors.New("you have introduced yourself too often: wait an hour")
	}
	return string(i.User), r.consentWork(ctx, consentWork{Do: consentIntroduce, User: mxid, Other: string(i.User), Code: i.Code}, nil)
}

// introduce sends the request.
func (s *step) introduce(w consentWork) error {
	if _, err := s.client(s.ctx, w.User); err != nil {
		return err
	}
	uri, err := s.Naming.UserURI(w.User)
	if err != nil {
		return err
	}
	target := wire.IdentifierURI(w.Other)
	e := &wire.ConsentEntry{Operation: wire.ConsentRequest, RequesterURI: uri, TargetURI: target}
	e.SetIntroduction(w.Code)
	s.mimi(target.Domain(), verbRequestConsent, e.Marshal()).Target = w.Other
	s.fx.consents = append(s.fx.consents, store.Consent{Direction: store.Out, Owner: target.Key(), Requester: uri.Key(), State: store.ConsentRequested,
		UpdatedMS: s.nowMS()})
	return nil
}
