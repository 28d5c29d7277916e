package harness

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestWhatTheHomeserverFailedIsSentAgain(t *testing.T) {
	for _, c := range []struct {
		method       string
		fails, tries int
		status       int
	}{
		{http.MethodPut, 0, 1, 200}, {http.MethodPut, 2, 3, 200}, {http.MethodPut, 9, 3, 500}, {http.MethodPost, 1, 1, 500},
	} {
		tries := 0
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if body, err := io.ReadAll(r.Body); err != nil || string(body) != "same" {
				t.Errorf("body %q, %v", body, err)
			}
			if tries++; tries <= c.fails {
				w.WriteHeader(http.StatusInternalServerError)
			}
		}))
		req, err := http.NewRequestWithContext(t.Context(), c.method, srv.URL, strings.NewReader("same"))
		if err != nil {
			t.Fatal(err)
		}
		res, err := again{http.DefaultTransport}.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		srv.Close()
		if tries != c.tries || res.StatusCode != c.status {
			t.Errorf("%s that fails %d times: %d tries, %d; want %d, %d", c.method, c.fails, tries, res.StatusCode, c.tries, c.status)
		}
	}
}
