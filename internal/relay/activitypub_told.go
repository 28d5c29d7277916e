package relay

import (
	"context"
	"errors"
	"strings"

	"github.com/matrix-mimi/bridge/mapping"
	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
)

// toldError is an error in words for people; what it came of is in the log and can be asked for.
type toldError struct {
	text  string
	cause error
}

// Error implements error.
func (e *toldError) Error() string { return e.text }

// Unwrap lets the cause be tested for.
func (e *toldError) Unwrap() error { return e.cause }

// tell makes an error one that may be shown to whoever gave a command: what other servers answered, addresses and the like are of no use to them.
func (a *ActivityPub) tell(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, ErrNoRoom) || errors.Is(err, ErrNoChannel) {
		return err
	}
	text := ""
	switch {
	case errors.Is(err, ErrRefused):
		text = strings.TrimPrefix(err.Error(), ErrRefused.Error()+": ")
	case errors.Is(err, mapping.ErrIdentifier):
		text = strings.TrimPrefix(err.Error(), mapping.ErrIdentifier.Error()+": ")
	case errors.Is(err, errBusyKey):
		text = "another chat with them is being made: try again in a minute"
	case errors.Is(err, ap.ErrBlocked):
		text = "the server is blocked"
	case errors.Is(err, ap.ErrGone), errors.Is(err, ap.ErrWebFinger):
		text = "nobody there goes by that name"
	case errors.Is(err, ap.ErrUnfit), errors.Is(err, ap.ErrActor), errors.Is(err, ap.ErrJSON):
		text = "their server answers what is not understood here"
	case errors.Is(err, ap.ErrFetch), errors.Is(err, context.DeadlineExceeded):
		text = "their server does not answer"
	default:
		text = "something went wrong here: try again later"
	}
	a.Log.Info().Err(err).Msg("a command for ActivityPub was not carried out")
	return &toldError{text, err}
}
