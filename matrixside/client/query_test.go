package client

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
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

// The bot has the name and the picture that the settings say, and no homeserver counts notifications for it.
func TestTheBotHasItsNameAndPicture(t *testing.T) {
	var got []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			got = append(got, r.URL.Path+" "+string(body))
		}
		_, _ = w.Write([]byte("{}"))
	}))
	defer srv.Close()
	c, err := New(Config{Homeserver: srv.URL, Token: token, Bot: "@bot:hs"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.EnsureBot(t.Context(), "Bridge", "mxc://hs/picture"); err != nil {
		t.Fatal(err)
	}
	const profile = "/_matrix/client/v3/profile/@bot:hs/"
	const mute = `/_matrix/client/v3/pushrules/global/override/.m.rule.master/enabled {"enabled":true}`
	want := []string{mute, profile + `displayname {"displayname":"Bridge"}`, profile + `avatar_url {"avatar_url":"mxc://hs/picture"}`}
	if !slices.Equal(got, want) {
		t.Errorf("set are %q, want %q", got, want)
	}
	got = nil
	if err := c.EnsureBot(t.Context(), "", ""); err != nil || !slices.Equal(got, []string{mute}) {
		t.Errorf("without either %q are set, %v", got, err)
	}
}
