package activitypub

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// schemeAge is how long it is remembered which signatures an origin takes.
const schemeAge = 30 * 24 * time.Hour

// SchemeMemory remembers which kind of signature an origin takes. It is safe for concurrent use. The nil memory knows nothing.
type SchemeMemory struct {
	fixed Scheme // always this one; "" means what the origin takes
	known *cache[Scheme]
}

// NewSchemeMemory makes a memory. fixed is the only scheme to be used, or "" for what each origin takes: cavage first.
func NewSchemeMemory(fixed Scheme) *SchemeMemory {
	return &SchemeMemory{fixed: fixed, known: newCache[Scheme](10000, 4<<20)}
}

// First is the scheme to try first.
func (m *SchemeMemory) First(origin string, now time.Time) Scheme {
	if m == nil {
		return Cavage
	}
	if m.fixed != "" {
		return m.fixed
	}
	if s, ok := m.known.get(origin, now); ok {
		return s
	}
	return Cavage
}

// Took notes that an origin took a scheme.
func (m *SchemeMemory) Took(origin string, s Scheme, now time.Time) {
	if m != nil {
		m.known.put(origin, s, len(origin), now.Add(schemeAge))
	}
}

// advertised notes what an actor's document says of RFC 9421 (FEP-844e), unless its origin is known already.
func (m *SchemeMemory) advertised(a *RemoteActor, now time.Time) {
	if m == nil || !slices.Contains(a.Implements, implementsRFC9421) {
		return
	}
	if _, known := m.known.get(originOf(a.ID), now); !known {
		m.Took(originOf(a.ID), RFC9421, now)
	}
}

func (m *SchemeMemory) second(first Scheme) (Scheme, bool) {
	if m == nil || m.fixed != "" {
		return "", false
	}
	if first == Cavage {
		return RFC9421, true
	}
	return Cavage, true
}

// Sender delivers activities. It is safe for concurrent use.
type Sender struct {
	fetch  *Fetcher
	memory *SchemeMemory
}

// NewSender makes a Sender that dials and blocks as a Fetcher does.
func NewSender(f *Fetcher) *Sender { return &Sender{fetch: f, memory: f.cfg.Memory} }

// Despite is the Sender without the block list: for a leave that blocked servers must hear of.
func (s *Sender) Despite() *Sender { return &Sender{fetch: s.fetch.Despite(), memory: s.memory} }

// Delivery is what came of a delivery. Temporary says that another try may work.
type Delivery struct {
	Status     int
	Body       []byte
	Scheme     Scheme
	RetryAfter time.Duration
}

// Done tells that the other server took the activity.
func (d Delivery) Done() bool { return d.Status >= 200 && d.Status < 300 }

// Refused tells that the other server will not take it: another try changes nothing. 401 is not among that: servers answer so as well when they cannot get
// the key now.
func (d Delivery) Refused() bool {
	return d.Status >= 400 && d.Status < 500 && !slices.Contains([]int{401, 408, 421, 425, 429}, d.Status)
}

// Deliver POSTs the exact bytes of an activity to an inbox, signed with the key of its actor. A server that refuses the signature is
// asked again with the other scheme (double knock), and what it took is remembered. Redirects are not followed.
func (s *Sender) Deliver(ctx context.Context, key SigningKey, inbox string, body []byte) (Delivery, error) {
	u, err := s.fetch.checkAddress(inbox)
	if err != nil {
		return Delivery{}, err
	}
	origin := originOf(inbox)
	first := s.memory.First(origin, s.fetch.cfg.Now())
	d, err := s.knock(ctx, key, u.String(), body, first)
	if err != nil || d.Done() {
		if d.Done() {
			s.memory.Took(origin, first, s.fetch.cfg.Now())
		}
		return d, err
	}
	second, may := s.memory.second(first)
	if !may || (d.Status != 400 && d.Status != 401 && d.Status != 403) {
		return d, nil
	}
	again, err := s.knock(ctx, key, u.String(), body, second)
	if err != nil {
		return d, nil //nolint:nilerr // the first answer stands
	}
	if again.Done() {
		s.memory.Took(origin, second, s.fetch.cfg.Now())
		return again, nil
	}
	return d, nil
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 10

func (s *Sender) knock(ctx context.Context, key SigningKey, inbox string, body []byte, scheme Scheme) (Delivery, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, inbox, bytes.NewReader(body))
	if err != nil {
		return Delivery{}, fmt.Errorf("%w: %s: %v", ErrFetch, inbox, err)
	}
	r.Header.Set("Content-Type", TypeActivity)
	r.Header.Set("Accept", TypeActivity+", application/json")
	r.Header.Set("User-Agent", s.fetch.cfg.UserAgent)
	if err := key.Sign(r, body, scheme, s.fetch.cfg.Now()); err != nil {
		return Delivery{}, err
	}
	res, err := s.fetch.cfg.Transport.RoundTrip(r)
	if err != nil {
		return Delivery{}, fmt.Errorf("%w: %s: %w", ErrFetch, inbox, err)
	}
	defer res.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	d := Delivery{Status: res.StatusCode, Body: answer, Scheme: scheme}
	if sec, err := strconv.Atoi(strings.TrimSpace(res.Header.Get("Retry-After"))); err == nil && sec > 0 && sec < 7*86400 {
		d.RetryAfter = time.Duration(sec) * time.Second
	}
	return d, nil
}
