package store

import (
	"context"
	"fmt"
	"slices"
)

// States of a consent.
const (
	ConsentRequested = "requested"
	ConsentGranted   = "granted"
	ConsentRevoked   = "revoked"
	ConsentCancelled = "cancelled"
)

// Consent says whether a requester may reach an owner. Direction In: the owner is a user of ours.
type Consent struct {
	Direction Direction `db:"direction"`
	Owner     string    `db:"owner"`     // user URI of who is to be reached
	Requester string    `db:"requester"` // user URI of who wants to reach them
	Room      string    `db:"room"`      // room URI, or "" for every room
	State     string    `db:"state"`
	Data      string    `db:"data"`
	ExpiresMS int64     `db:"expires_ms"`
	UpdatedMS int64     `db:"updated_ms"`
}

const consentColumns = `direction, owner, requester, room, state, data, expires_ms, updated_ms`

// Consent returns the consent for a room, or else the one for every room, or ErrNotFound.
func (r *Reader) Consent(ctx context.Context, dir Direction, owner, requester, room string) (Consent, error) {
	return get[Consent](ctx, r, `SELECT `+consentColumns+` FROM consent WHERE direction = $1 AND owner = $2 AND requester = $3 AND room IN ($4, '')
		ORDER BY room DESC LIMIT 1`, dir, owner, requester, room)
}

// ConsentsOf returns all consents that an owner was asked for or gave.
func (r *Reader) ConsentsOf(ctx context.Context, dir Direction, owner string) ([]Consent, error) {
	return list[Consent](ctx, r, `SELECT `+consentColumns+` FROM consent WHERE direction = $1 AND owner = $2 ORDER BY requester, room`, dir, owner)
}

// ConsentsBy returns all consents that a requester asked for or has.
func (r *Reader) ConsentsBy(ctx context.Context, dir Direction, requester string) ([]Consent, error) {
	rows, err := list[Consent](ctx, r, `SELECT `+consentColumns+` FROM consent WHERE requester = $1 ORDER BY direction, owner, room`, requester)
	return slices.DeleteFunc(rows, func(c Consent) bool { return c.Direction != dir }), err
}

// PutConsent writes a consent, one that is there is overwritten.
func (tx *Tx) PutConsent(ctx context.Context, c Consent) error {
	_, err := tx.exec(ctx, `INSERT INTO consent (direction, owner, requester, room, state, data, expires_ms, updated_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (direction, owner, requester, room) DO UPDATE SET state = excluded.state, data = excluded.data, expires_ms = excluded.expires_ms, updated_ms = excluded.updated_ms`,
		c.Direction, c.Owner, c.Requester, c.Room, c.State, c.Data, c.ExpiresMS, c.UpdatedMS)
	return err
}

// DeleteConsents forgets all consents of a user, as owner and as requester, in both directions. What users of ours refused to
// the user stays: else another provider could take a refusal back by its word that the user was deleted.
func (tx *Tx) DeleteConsents(ctx context.Context, user string) error {
	if _, err := tx.exec(ctx, `DELETE FROM consent WHERE direction IN ('in', 'out') AND owner = $1`, user); err != nil {
		return fmt.Errorf("forgetting consents: %w", err)
	}
	if _, err := tx.exec(ctx, `DELETE FROM consent WHERE requester = $1 AND NOT (direction = $2 AND state = $3)`, user, In, ConsentRevoked); err != nil {
		return fmt.Errorf("forgetting consents: %w", err)
	}
	return nil
}
