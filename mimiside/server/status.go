package server

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/peer"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Words that a peer is told, and that failures are counted under. There are no others, so that no detail leaks.
const (
	WordNoCertificate  = "no_certificate"
	WordBadCertificate = "bad_certificate"
	WordFromMissing    = "from_missing"
	WordFromMismatch   = "from_mismatch"
	WordBlocked        = "blocked"
	WordForbidden      = "forbidden"
	WordNotShared      = "not_shared" // an extension that the peer's directory does not offer
	WordMalformed      = "malformed"
	WordBadPath        = "bad_path"
	WordNotFound       = "not_found"
	WordMethod         = "method_not_allowed"
	WordTimeout        = "timeout"
	WordTooLarge       = "too_large"
	WordBusy           = "too_many_requests"
	WordTemporary      = "temporary"
	WordInternal       = "internal"
)

// defaultRetry is the Retry-After of a 503 or 429 whose cause names none.
const defaultRetry = 5 * time.Second

// failure is an HTTP status with its word.
type failure struct {
	status int
	word   string
	retry  time.Duration
}

// errTooLarge: the body is over its limit.
var errTooLarge = errors.New("body too large")

// errSlow: the body did not arrive in time.
var errSlow = errors.New("body too slow")

// classes maps errors to statuses; the first that fits counts.
var classes = []struct {
	err    error
	status int
	word   string
}{
	{peer.ErrNoCertificate, http.StatusForbidden, WordNoCertificate},
	{peer.ErrCertificate, http.StatusForbidden, WordBadCertificate},
	{peer.ErrFromMissing, http.StatusForbidden, WordFromMissing},
	{peer.ErrFromMismatch, http.StatusForbidden, WordFromMismatch},
	{peer.ErrBlocked, http.StatusForbidden, WordBlocked},
	{errNotShared, http.StatusForbidden, WordNotShared},
	{errTooLarge, http.StatusRequestEntityTooLarge, WordTooLarge},
	{errSlow, http.StatusRequestTimeout, WordTimeout},
	{ErrBusy, http.StatusTooManyRequests, WordBusy},
	{peer.ErrBusy, http.StatusTooManyRequests, WordBusy},
	{ErrNotFound, http.StatusNotFound, WordNotFound},
	{ErrForbidden, http.StatusForbidden, WordForbidden},
	{wire.ErrForbidden, http.StatusForbidden, WordForbidden},
	{wire.ErrSignature, http.StatusForbidden, WordForbidden},
	{wire.ErrMalformed, http.StatusBadRequest, WordMalformed},
	{wire.ErrURI, http.StatusBadRequest, WordBadPath},
	{ErrTemporary, http.StatusServiceUnavailable, WordTemporary},
	{context.DeadlineExceeded, http.StatusServiceUnavailable, WordTemporary},
	{context.Canceled, http.StatusServiceUnavailable, WordTemporary},
}

func failureOf(err error) failure {
	f := failure{status: http.StatusInternalServerError, word: WordInternal}
	for _, c := range classes {
		if errors.Is(err, c.err) {
			f = failure{status: c.status, word: c.word}
			break
		}
	}
	if f.status != http.StatusTooManyRequests && f.status != http.StatusServiceUnavailable {
		return f
	}
	f.retry = defaultRetry
	var after *RetryAfter
	var busy *peer.Busy
	if errors.As(err, &after) {
		f.retry = after.After
	} else if errors.As(err, &busy) {
		f.retry = busy.RetryAfter
	}
	return f
}

// StatusOf returns the HTTP status that a Handler's error becomes, and the word beside it.
func StatusOf(err error) (status int, word string) {
	f := failureOf(err)
	return f.status, f.word
}

// write sends a failure: its word and nothing else.
func (f failure) write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if f.retry > 0 {
		h.Set("Retry-After", retryAfter(f.retry))
	}
	w.WriteHeader(f.status)
	_, _ = w.Write([]byte(f.word + "\n"))
}

// retryAfter writes a duration in whole seconds, rounded up, at least one.
func retryAfter(d time.Duration) string {
	return strconv.FormatInt(max(int64((d+time.Second-1)/time.Second), 1), 10)
}
