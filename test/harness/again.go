package harness

import "net/http"

// again sends what the homeserver failed (500) again, at most twice, as people's clients do: PUT, which may be repeated.
// A Dendrite with SQLite fails now and then on a busy machine, after its database was locked for ten seconds.
type again struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (a again) RoundTrip(r *http.Request) (*http.Response, error) {
	for try := 0; ; try++ {
		res, err := a.RoundTripper.RoundTrip(r)
		if err != nil || res.StatusCode != http.StatusInternalServerError || r.Method != http.MethodPut || r.GetBody == nil || try == 2 {
			return res, err
		}
		_ = res.Body.Close()
		r = r.Clone(r.Context())
		if r.Body, err = r.GetBody(); err != nil {
			return nil, err
		}
	}
}
