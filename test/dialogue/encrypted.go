package dialogue

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/crypto/attachment"
	"maunium.net/go/mautrix/crypto/cryptohelper"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// addEncryption adds encrypted rooms and clients that encrypt.
func addEncryption() {
	say("has a client that encrypts", "from now on: it reads and writes in encrypted rooms, and whatever another one says there in clear fails the script",
		func(ctx context.Context, _ *runner, p *Person, _ []string) error { return p.encrypt(ctx) })
	say("creates encrypted room STR", "makes a private room with that name whose messages are encrypted", func(ctx context.Context, _ *runner, p *Person, a []string) error {
		empty := ""
		return p.create(ctx, a[0], &mautrix.ReqCreateRoom{Name: a[0], Preset: "private_chat", InitialState: []*event.Event{{
			Type: event.StateEncryption, StateKey: &empty, Content: event.Content{Parsed: &event.EncryptionEventContent{Algorithm: id.AlgorithmMegolmV1}}}}})
	})
	say("sees devices of WHO signed", "finds at least one device of somebody, and each signed by the cross-signing keys of that person", func(ctx context.Context, _ *runner, p *Person, a []string) error {
		return p.seeSigned(ctx, a[0])
	})
}

// secrets is what a client that encrypts has beside one that does not.
type secrets struct {
	helper *cryptohelper.CryptoHelper
	opened map[id.EventID]*event.Event // what was inside encrypted events, under the lock of the person
}

// encrypt gives the person keys. The rooms that it is in by then stay closed to it.
func (p *Person) encrypt(ctx context.Context) error {
	p.Client.StateStore = mautrix.NewMemoryStateStore()
	helper, err := cryptohelper.NewCryptoHelper(p.Client, []byte(p.Name), crypto.NewMemoryStore(nil))
	if err != nil {
		return fmt.Errorf("make keys for %s: %w", p.Name, err)
	}
	s := &secrets{helper: helper, opened: map[id.EventID]*event.Event{}}
	helper.CustomPostDecrypt = func(_ context.Context, e *event.Event) { p.open(s, e) }
	if err := helper.Init(ctx); err != nil {
		return fmt.Errorf("make keys for %s: %w", p.Name, err)
	}
	p.Client.Syncer.(*mautrix.DefaultSyncer).OnEvent(p.Client.StateStoreSyncHandler)
	p.Client.Crypto = helper
	p.secrets.Store(s)
	return nil
}

// unlock lets the keys of a sync response come in, before what they open.
func (p *Person) unlock(ctx context.Context, resp *mautrix.RespSync, since string) {
	if p.secrets.Load() != nil {
		_ = p.Client.Syncer.ProcessResponse(ctx, resp, since) // what cannot be read is missed by a line of the script
	}
}

// open puts what is inside an encrypted event in its place, now or when it comes.
func (p *Person) open(s *secrets, e *event.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.opened[e.ID] = e
	if v := p.rooms[e.RoomID]; v != nil {
		for _, seen := range v.Timeline {
			if seen.ID == e.ID {
				seen.Event = e
			}
		}
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// plain is what is inside an event, where that is known.
func (p *Person) plain(e *event.Event) *event.Event {
	if s := p.secrets.Load(); s != nil && s.opened[e.ID] != nil {
		return s.opened[e.ID]
	}
	return e
}

// auditSecrets complains of what others said in clear in an encrypted room. It is called under the lock of the person.
func (p *Person) auditSecrets(v *RoomView) (errs []error) {
	if p.secrets.Load() == nil || v.State[event.StateEncryption][""] == nil {
		return nil
	}
	for _, e := range v.Timeline {
		if e.Type == event.EventMessage && e.Sender != p.UserID && !e.Mautrix.WasEncrypted {
			errs = append(errs, fmt.Errorf("%s got %.80q of %s in clear, in an encrypted room", p.Name, e.Content.AsMessage().Body, e.Sender))
		}
	}
	return errs
}

// upload uploads a file, encrypted where the room is.
func (p *Person) upload(ctx context.Context, room id.RoomID, data []byte, mime string) (url id.ContentURIString, file *event.EncryptedFileInfo, err error) {
	if p.secrets.Load() != nil {
		encrypted, err := p.StateStore.IsEncrypted(ctx, room)
		if err != nil {
			return "", nil, err
		}
		if encrypted {
			file = &event.EncryptedFileInfo{EncryptedFile: *attachment.NewEncryptedFile()}
			data, mime = file.Encrypt(data), "application/octet-stream"
		}
	}
	up, err := p.UploadBytes(ctx, data, mime)
	if err != nil {
		return "", nil, err
	}
	if file != nil {
		file.URL = up.ContentURI.CUString()
		return "", file, nil
	}
	return up.ContentURI.CUString(), nil, nil
}

// download fetches the file of a message.
func (p *Person) download(ctx context.Context, m *event.MessageEventContent) ([]byte, error) {
	address := m.URL
	if m.File != nil {
		address = m.File.URL
	}
	uri, err := address.Parse()
	if err != nil {
		return nil, fmt.Errorf("the file's address: %w", err)
	}
	data, err := p.DownloadBytes(ctx, uri)
	if err != nil || m.File == nil {
		return data, err
	}
	return data, m.File.DecryptInPlace(data)
}

// seeSigned waits until all devices of somebody are signed.
func (p *Person) seeSigned(ctx context.Context, who string) error {
	s := p.secrets.Load()
	if s == nil {
		return errors.New("only a client that encrypts knows devices")
	}
	user, err := p.world.MXID(p.short, who)
	if err != nil {
		return err
	}
	mach := s.helper.Machine()
	devices, err := mach.FetchKeys(ctx, []id.UserID{user}, true)
	if err != nil {
		return err
	}
	var unsigned []string
	for _, d := range devices[user] {
		if trust, err := mach.ResolveTrustContext(ctx, d); err != nil || trust < id.TrustStateCrossSignedUntrusted {
			unsigned = append(unsigned, string(d.DeviceID)+" is "+trust.String())
		}
	}
	if len(devices[user]) == 0 || len(unsigned) > 0 {
		return fmt.Errorf("%s has %d devices; %s", user, len(devices[user]), strings.Join(unsigned, ", "))
	}
	return nil
}
