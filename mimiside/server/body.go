package server

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/peer"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// contentType is sent with every body. The draft names none; message/mls would be wrong, and any is accepted.
const contentType = "application/octet-stream"

// body reads a whole body of at most limit bytes within the time for it.
func (s *Server) body(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return nil, wire.ErrMalformed
	}
	if r.ContentLength > limit {
		return nil, errTooLarge
	}
	control := http.NewResponseController(w)
	// The deadline is of the connection's own clock, which is the real one. A writer without deadlines has a server that
	// sets its own.
	deadline := realNow().Add(s.config.BodyTimeout)
	if err := control.SetReadDeadline(deadline); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, errSlow
	}
	body, err := readAll(http.MaxBytesReader(w, r.Body, limit), r.ContentLength)
	if err != nil {
		var tooLarge *http.MaxBytesError
		switch {
		case errors.As(err, &tooLarge):
			return nil, errTooLarge
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, errSlow
		}
		return nil, wire.ErrMalformed // the peer stopped in the middle
	}
	_ = control.SetReadDeadline(noDeadline)
	return body, nil
}

// largeBodies counts the bytes of large bodies that are in memory, because a peer may have many requests in progress.
type largeBodies struct {
	all, each int64 // bounds

	mu    sync.Mutex
	total int64
	of    map[string]int64 // by peer
}

// hold counts a body of a size, or of the limit where it is not said (-1), until release is called. A *peer.Busy says that there
// is no room for it now. Small bodies are not counted.
func (s *Server) hold(domain string, size, limit int64) (release func(), err error) {
	if size < 0 || size > limit {
		size = limit
	}
	if size <= s.config.SmallBody {
		return func() {}, nil
	}
	l := &s.large
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total+size > l.all || l.of[domain]+size > l.each {
		return nil, &peer.Busy{RetryAfter: time.Second}
	}
	l.total += size
	l.of[domain] += size
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.total -= size
		if l.of[domain] -= size; l.of[domain] == 0 {
			delete(l.of, domain)
		}
	}, nil
}

// readAll reads r to its end; size is a hint and may be -1. At most 64 KiB are taken on its word.
func readAll(r io.Reader, size int64) ([]byte, error) {
	b := make([]byte, 0, min(max(size, 0)+1, 64<<10))
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if errors.Is(err, io.EOF) {
			return b, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// reply sends an Answer; status is what 0 in it stands for.
func reply(w http.ResponseWriter, a Answer, status int) (int, error) {
	if a.Status != 0 {
		status = a.Status
	}
	if len(a.Body) > 0 {
		w.Header().Set("Content-Type", contentType)
	}
	if a.RetryAfter > 0 {
		w.Header().Set("Retry-After", retryAfter(a.RetryAfter))
	}
	w.WriteHeader(status)
	_, _ = w.Write(a.Body)
	return status, nil
}

// roomPath reads a path that names a room.
func roomPath(_ *Server, escaped string) (wire.URI, error) {
	u, err := wire.ParsePath(escaped)
	if err == nil && u.Kind() != wire.KindRoom {
		err = wire.ErrURI
	}
	return u, err
}

// anyPath reads a path that names a user or a provider; which one is a thing in which the draft's text and its example differ.
// The body says it again and alone counts, so a path that cannot be read is taken as ourselves.
func anyPath(s *Server, escaped string) (wire.URI, error) {
	if u, err := wire.ParsePath(escaped); err == nil {
		return u, nil
	}
	return wire.ParseURI("mimi://" + s.config.Domain)
}
