package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/matrix-mimi/bridge/internal/killpoint"
	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/puppets"
)

// fillStock makes the KeyPackages that a user lacks.
func (r *Relay) fillStock(ctx context.Context, mxid string) error {
	client, err := r.client(ctx, mxid)
	if err != nil {
		return err
	}
	now := r.Clock()
	// One that is past two thirds of its life does not count any more: a new one takes its place.
	fresh := now.Add(puppets.Lifetime / 3).UnixMilli()
	rows, err := r.Store.KeyPackageStock(ctx, client.UserURI, fresh)
	if err != nil {
		return err
	}
	have := puppets.StockState{}
	for _, row := range rows {
		if row.Suite == int64(client.Key.Suite()) {
			have.Ready, have.LastResort = int(row.Ready), row.LastResort > 0
		}
	}
	plan := puppets.PlanStock(have, r.cfg.Stock)
	if plan.Empty() {
		return nil
	}
	made, err := r.makeKeyPackages(client, plan)
	if err != nil {
		return err
	}
	return r.Store.Tx(ctx, func(tx *store.Tx) error {
		killpoint.Hit("K35")
		return tx.AddKeyPackages(ctx, made...)
	})
}

func (r *Relay) makeKeyPackages(client puppets.Client, plan puppets.StockPlan) ([]store.KeyPackage, error) {
	var made []store.KeyPackage
	for n := range plan.Ready + 1 {
		last := n == plan.Ready
		if last && !plan.LastResort {
			break
		}
		row, err := r.makeKeyPackage(client, last)
		if err != nil {
			return nil, err
		}
		made = append(made, row)
	}
	return made, nil
}

func (r *Relay) makeKeyPackage(client puppets.Client, last bool) (store.KeyPackage, error) {
	now := r.Clock()
	kp, err := puppets.NewKeyPackage(r.Rand, now, client, last)
	if err != nil {
		return store.KeyPackage{}, err
	}
	return store.KeyPackage{Ref: kp.Public.Ref(), UserURI: client.UserURI, ClientURI: client.ClientURI, Suite: int64(client.Key.Suite()),
		LastResort: last, Public: kp.Public.Marshal(), Private: kp.Private.Marshal(),
		NotAfterMS: int64(kp.Public.Leaf.Lifetime.NotAfter) * 1000, CreatedMS: now.UnixMilli()}, nil
}

// claimMargin is how long a KeyPackage must still be valid when it is handed out, in milliseconds: its leaf, and the certificate in
// it, must last until the leaf is renewed for the first time.
func (r *Relay) claimMargin() int64 {
	return min(r.cfg.Renew+24*time.Hour, puppets.Lifetime/2).Milliseconds()
}

// maxOtherCredential is how many KeyPackages are passed over because they show another kind of credential than is given out now.
const maxOtherCredential = 64

// claimOne hands out one KeyPackage of a user of ours, in the given transaction (T13). The stock is filled up afterwards; when
// it is empty the last resort is given, and when there is not even that, one is made on the spot.
func (r *Relay) claimOne(ctx context.Context, tx *store.Tx, client puppets.Client, suites []mls.Suite, peer, roomURI string) (*mls.KeyPackage, error) {
	var want []int64
	for _, s := range suites {
		if s == client.Key.Suite() {
			want = append(want, int64(s))
		}
	}
	if len(want) == 0 {
		return nil, errNothingCompatible
	}
	now := r.Clock().UnixMilli()
	for range maxOtherCredential {
		row, err := tx.ClaimKeyPackage(ctx, client.UserURI, want, peer, roomURI, now, now+r.claimMargin())
		if errors.Is(err, store.ErrNotFound) {
			break
		}
		if err != nil {
			return nil, err
		}
		kp, err := mls.UnmarshalKeyPackage(row.Public)
		if err != nil {
			return nil, fmt.Errorf("read a KeyPackage of %s: %w", client.UserURI, err)
		}
		if kp.Leaf.Credential.Type == client.Credential.Type {
			killpoint.Hit("K36")
			return kp, nil
		}
		if row.LastResort {
			break // it stays; the stock has nothing better
		}
	}
	return r.claimFresh(ctx, tx, client, peer, roomURI)
}

// claimFresh makes a KeyPackage and hands it out.
func (r *Relay) claimFresh(ctx context.Context, tx *store.Tx, client puppets.Client, peer, roomURI string) (*mls.KeyPackage, error) {
	fresh, err := r.makeKeyPackage(client, false)
	if err != nil {
		return nil, err
	}
	if err := tx.AddKeyPackages(ctx, fresh); err != nil {
		return nil, err
	}
	now := r.Clock().UnixMilli()
	row, err := tx.ClaimKeyPackage(ctx, client.UserURI, []int64{fresh.Suite}, peer, roomURI, now, now+r.claimMargin())
	if err != nil {
		return nil, err
	}
	killpoint.Hit("K36")
	return mls.UnmarshalKeyPackage(row.Public)
}

var errNothingCompatible = errors.New("no ciphersuite in common")
