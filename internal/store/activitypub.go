package store

import "context"

// ClaimedKeyPackage returns the KeyPackage of a user that a requester claimed last and that no Welcome has used, without its private
// part, or ErrNotFound: whoever asks again gets the same one, so that nobody can draw the stock.
func (r *Reader) ClaimedKeyPackage(ctx context.Context, userURI, requester string, minNotAfterMS int64) (KeyPackage, error) {
	kp, err := get[KeyPackage](ctx, r, `SELECT `+keyPackageColumns+` FROM keypackage WHERE user_uri = $1 AND state = 'claimed' AND claimed_by = $2 AND not_after_ms >= $3
		ORDER BY claimed_ms DESC, ref LIMIT 1`, userURI, requester, minNotAfterMS)
	kp.Private = nil
	return kp, err
}
