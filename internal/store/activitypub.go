package store

import "context"

// ClaimedKeyPackage returns the KeyPackage of a user that a requester claimed last and that no Welcome has used, without its private
// part, or ErrNotFound: whoever asks again gets the same one, so that nobody can draw the stock.
func (r *Reader) ClaimedKeyPackage(ctx context.Context, userURI, requester string, minNotAfterMS int64) (KeyPackage, error) {
	kp, err := get[KeyPackage](ctx, r, `SELECT `+keyPackageColumns+` FROM keypackage WHERE user_uri = $1 AND state = 'claimed' AND claimed_by = $2 AND +not_after_ms >= $3
		ORDER BY claimed_ms DESC, ref LIMIT 1`, userURI, requester, minNotAfterMS)
	kp.Private = nil
	return kp, err
}

// EndingKeyPackages are the KeyPackages of users whose URI begins so that can be used and end before a time, without their private parts.
func (r *Reader) EndingKeyPackages(ctx context.Context, prefix string, beforeMS int64, limit int) ([]KeyPackage, error) {
	rows, err := list[KeyPackage](ctx, r, `SELECT `+keyPackageColumns+` FROM keypackage WHERE state IN ('ready', 'claimed') AND not_after_ms < $1 AND user_uri LIKE $2
		ORDER BY not_after_ms, ref LIMIT `+number(limit), beforeMS, prefix+"%")
	for i := range rows {
		rows[i].Private = nil
	}
	return rows, err
}
