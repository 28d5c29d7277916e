package relay

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// hubKeys are the provider's own keys: the signature key by which it is an external sender and franking agent of the
// groups that it is the hub of, one a suite, and the secret key of its franks (draft-ietf-mimi-protocol-06 §5.4.1, §5.6).
type hubKeys struct {
	credential mls.Credential
	signature  map[mls.Suite]*mls.SignatureKey
	frank      mls.Secret
}

const (
	secretFrank = "hub.frank"
	frankSize   = 32 // octets of the key of franks
)

func secretSignature(s mls.Suite) string { return fmt.Sprintf("hub.signature.%04x", uint16(s)) }

// loadHubKeys reads the keys and makes those that are missing.
func (r *Relay) loadHubKeys(ctx context.Context) error {
	k := &hubKeys{credential: mls.BasicCredential([]byte(r.Naming.ProviderURI())), signature: map[mls.Suite]*mls.SignatureKey{}}
	for _, suite := range mls.Suites() {
		raw, err := r.secret(ctx, secretSignature(suite), func() ([]byte, error) {
			key, err := mls.GenerateSignatureKey(r.Rand, suite)
			if err != nil {
				return nil, err
			}
			return key.Marshal(), nil
		})
		if err != nil {
			return fmt.Errorf("load the hub's keys: %w", err)
		}
		if k.signature[suite], err = mls.UnmarshalSignatureKey(raw); err != nil {
			return fmt.Errorf("load the hub's keys: %w", err)
		}
	}
	frank, err := r.secret(ctx, secretFrank, func() ([]byte, error) {
		b := make([]byte, frankSize)
		_, err := io.ReadFull(r.Rand, b)
		return b, err
	})
	if err != nil {
		return fmt.Errorf("load the hub's keys: %w", err)
	}
	k.frank = frank
	r.hub = k
	return nil
}

// secret returns a secret by name and makes it when there is none. Two processes that start together end with the same.
func (r *Relay) secret(ctx context.Context, name string, make func() ([]byte, error)) (secret []byte, err error) {
	if secret, err = r.Store.Secret(ctx, name); !errors.Is(err, store.ErrNotFound) {
		return secret, err
	}
	err = r.Store.Tx(ctx, func(tx *store.Tx) error {
		if secret, err = tx.Secret(ctx, name); !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if secret, err = make(); err != nil {
			return err
		}
		return tx.SetSecret(ctx, name, secret, r.Clock().UnixMilli())
	})
	return secret, err
}
