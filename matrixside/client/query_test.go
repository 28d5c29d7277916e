package client

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// Synapse takes a token for another server's signature, and refuses it where only some servers may speak to it.
func TestSoftwareIsAskedForWithoutToken(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/_matrix/client/versions":
			_, _ = w.Write([]byte(`{"versions":["v1.11"]}`))
		case r.URL.Path == "/_matrix/federation/v1/version" && r.Header.Get("Authorization") == "" && r.URL.RawQuery == "":
			_, _ = w.Write([]byte(`{"server":{"name":"Synapse","version":"1.160.0"}}`))
		default:
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`{"errcode":"M_FORBIDDEN","error":"Federation denied with None."}`))
		}
	}))
	defer srv.Close()
	c, err := New(Config{Homeserver: srv.URL, Token: token, Bot: "@bot:hs"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Software(t.Context())
	if err != nil || got != (Software{Name: "Synapse", Version: "1.160.0", Ping: true}) {
		t.Errorf("%+v, %v", got, err)
	}
}
