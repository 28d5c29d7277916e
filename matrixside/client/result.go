package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"maunium.net/go/mautrix"

	"github.com/matrix-mimi/bridge/matrixside/event"
)

// Class is what a result means for the row that asked.
type Class int

const (
	// Retry: nothing is known to have happened, the same request may be made again.
	Retry Class = iota
	// Done: the homeserver did it, or it was so already.
	Done
	// Refused: the homeserver will not do it, now or later.
	Refused
)

// String is the word used in logs and metrics.
func (c Class) String() string {
	switch c {
	case Done:
		return "done"
	case Refused:
		return "refused"
	}
	return "retry"
}

// Result is the outcome of a request.
type Result struct {
	Class Class
	// Status is the HTTP status, 0 when there was no answer.
	Status int
	// Code is the Matrix error code, "" if there was none.
	Code string
	// Body is the JSON answer when done, e.g. {"event_id":"$…"}.
	Body json.RawMessage
	// RetryAfter is how long the homeserver asks to wait; 0 if it did not.
	RetryAfter time.Duration
	// Err says what was tried and what went wrong. It holds no secrets.
	Err error
}

// EventID is the identifier in the answer of send, redact and state, "" if
// there is none.
func (r Result) EventID() string { return r.field("event_id") }

// RoomID is the identifier in the answer of create_room and join, "" if there
// is none.
func (r Result) RoomID() string { return r.field("room_id") }

func (r Result) field(name string) string {
	o, err := event.ParseObject(r.Body)
	if err != nil {
		return ""
	}
	return o.Str(name)
}

func done(body any) Result {
	b, err := json.Marshal(body)
	if err != nil {
		b = []byte("{}")
	}
	return Result{Class: Done, Status: http.StatusOK, Body: b}
}

func refused(code string, err error) Result { return Result{Class: Refused, Code: code, Err: err} }

func retry(err error) Result { return Result{Class: Retry, Err: err} }

// maxErrorText bounds what is kept of an error text that came from outside.
const maxErrorText = 500

// classify sorts the outcome of a request to the homeserver.
func classify(answer []byte, resp *http.Response, err error) Result {
	if own := (*outcome)(nil); errors.As(err, &own) {
		return own.Result
	}
	r := Result{Class: Retry}
	if resp == nil {
		var he mautrix.HTTPError
		if errors.As(err, &he) {
			resp = he.Response
		}
	}
	if resp == nil {
		r.Err = fmt.Errorf("ask homeserver: %w", cause(err))
		return r
	}
	r.Status = resp.StatusCode
	var he mautrix.HTTPError
	if answer == nil && errors.As(err, &he) && he.RespError != nil {
		answer, _ = json.Marshal(map[string]string{"errcode": he.RespError.ErrCode, "error": he.RespError.Err})
	}
	o, parseErr := event.ParseObject(answer)
	if err == nil {
		if parseErr != nil {
			r.Err = errors.New("ask homeserver: answer is no JSON object")
			return r
		}
		return Result{Class: Done, Status: resp.StatusCode, Body: answer}
	}
	r.Code = o.Str("errcode")
	text := o.Str("error")
	if len(text) > maxErrorText {
		text = text[:maxErrorText]
	}
	r.Err = fmt.Errorf("ask homeserver: status %d %s: %q", r.Status, r.Code, text)
	r.RetryAfter = retryAfter(resp, o)
	r.Class = classOf(r.Status, r.Code)
	return r
}

// cause drops the wrapping of the HTTP library, which repeats the address.
func cause(err error) error {
	var he mautrix.HTTPError
	if errors.As(err, &he) && he.WrappedError != nil {
		err = he.WrappedError
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return context.DeadlineExceeded
	}
	return err
}

// classOf decides whether an error answer is final. An answer without a Matrix
// error code is not the homeserver's but that of something before it, and says
// nothing about the request.
func classOf(status int, code string) Class {
	switch {
	case status == http.StatusTooManyRequests, status == http.StatusRequestTimeout, status >= 500:
		return Retry
	case code == "":
		return Retry
	case code == "M_UNKNOWN_TOKEN", code == "M_MISSING_TOKEN", code == "M_LIMIT_EXCEEDED", code == "M_RESOURCE_LIMIT_EXCEEDED":
		return Retry // somebody has to mend the installation; the message can wait
	}
	return Refused
}

func retryAfter(resp *http.Response, o event.Object) time.Duration {
	if ms, ok := o.Int("retry_after_ms"); ok && ms > 0 {
		return min(time.Duration(ms)*time.Millisecond, time.Hour)
	}
	h := resp.Header.Get("Retry-After")
	if s, err := strconv.Atoi(h); err == nil && s > 0 {
		return min(time.Duration(s)*time.Second, time.Hour)
	}
	return 0
}

// outcome carries a result through a function that returns an error.
type outcome struct{ Result }

func (o *outcome) Error() string { return o.Err.Error() }
func (o *outcome) Unwrap() error { return o.Err }

// asError is nil for a request that is done.
func (r Result) asError() error {
	if r.Class == Done {
		return nil
	}
	return &outcome{r}
}

// Code is the Matrix error code of an error that a function of this package
// returned, "" if there is none.
func Code(err error) string {
	if own := (*outcome)(nil); errors.As(err, &own) {
		return own.Code
	}
	return ""
}

// ClassOf is the class of an error that a function of this package returned.
// Errors that it does not know may be tried again.
func ClassOf(err error) Class {
	if err == nil {
		return Done
	}
	if own := (*outcome)(nil); errors.As(err, &own) {
		return own.Class
	}
	return Retry
}
