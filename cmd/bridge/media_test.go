package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/matrix-mimi/bridge/internal/config"
	"github.com/matrix-mimi/bridge/internal/media"
	"github.com/matrix-mimi/bridge/internal/relay"
	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/internal/store/storetest"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/mimiside/server"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Files are fetched for who takes part in a room of ours, from where files of such rooms are.
func TestFilesAreFetchedForParticipants(t *testing.T) {
	_, cfgFile, _ := site(t)
	cfg, err := config.Load(cfgFile, []string{
		"MIMIBRIDGE_MIMI__PEERS={b.example: {asset_hosts: [files.b.example]}, c.example: {asset_hosts: [files.c.example]}}"})
	if err != nil {
		t.Fatal(err)
	}
	p, err := newProvider(cfg)
	if err != nil {
		t.Fatal(err)
	}
	db := storetest.Open(t, storetest.Config(t, "sqlite"))
	assets, err := media.NewStore(t.TempDir(), "https://a.example", nil, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	mind, err := relay.New(t.Context(), relay.Deps{Store: db, Naming: mapping.Naming{Domain: "a.example", Server: "hs.example"},
		Config: relay.Config{Bot: "@bot:hs.example"}, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	room := storetest.Room(t, db)
	room.Kind = store.RoomHub
	err = db.Tx(t.Context(), func(tx *store.Tx) error {
		if room, err = tx.StepRoom(t.Context(), room, store.Settle{}); err != nil {
			return err
		}
		if err := tx.SetSetting(t.Context(), "asset-host", "policy.example", "yes"); err != nil {
			return err
		}
		return tx.PutMembers(t.Context(), store.Member{Room: room.ID, MXID: "@mimi_bob:hs.example", URI: "mimi://b.example/u/bob", Listed: true, Ghost: true})
	})
	if err != nil {
		t.Fatal(err)
	}
	x := assetProxy{&app{cfg: cfg, db: db, media: &media.Mover{Assets: assets}}, p, mind}
	url, err := wire.ParseDownloadURL("https%3A%2F%2Ffiles.example%2Fx")
	if err != nil {
		t.Fatal(err)
	}
	for peer, want := range map[string]string{"b.example": "is no host of assets", "c.example": "nobody of c.example takes part"} {
		_, err := x.open(context.Background(), peer, server.Download{URL: url})
		if !errors.Is(err, server.ErrForbidden) || !strings.Contains(err.Error(), want) {
			t.Errorf("for %s: %v, want %q", peer, err, want)
		}
	}
	for host, want := range map[string]bool{"b.example": true, "files.b.example": true, "policy.example": true,
		"c.example": false, "files.c.example": false, "a.example": false, "anything.example": false} {
		if got, err := x.allowed(t.Context(), host); got != want || err != nil {
			t.Errorf("%s: %v, %v", host, got, err)
		}
	}
}
