package media

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/matrix-mimi/bridge/internal/outbox"
	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/internal/store/storetest"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/content"
)

// world is the media repository of a homeserver and the assets of other providers.
type world struct {
	t     testing.TB
	repo  map[string][]byte // by MXC
	web   map[string][]byte // by URL
	down  error             // what others answer
	asked []string
	*Mover
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, repo: map[string][]byte{}, web: map[string][]byte{}}
	now := func() time.Time { return time.Unix(1_800_000_000, 0) }
	assets, err := NewStore(t.TempDir(), "https://a.example", &index{rows: map[string]store.Asset{}}, now)
	if err != nil {
		t.Fatal(err)
	}
	w.Mover = &Mover{Homeserver: w, Remote: w, Assets: assets, Now: now, Log: zerolog.Nop()}
	w.Limit(1)
	return w
}

func (w *world) Download(_ context.Context, mxc string, limit int64) (io.ReadCloser, error) {
	b, ok := w.repo[mxc]
	switch {
	case w.down != nil:
		return nil, w.down
	case !ok:
		return nil, ErrRefused
	}
	return io.NopCloser(bytes.NewReader(b)), nil // more than the limit may come: nobody promises otherwise
}

func (w *world) Upload(_ context.Context, user string, r io.Reader, size int64, contentType, name string) (string, error) {
	b, err := io.ReadAll(r)
	if err != nil || int64(len(b)) != size {
		return "", fmt.Errorf("%d octets instead of %d: %w", len(b), size, err)
	}
	w.asked = append(w.asked, strings.TrimSpace("upload "+user+" "+contentType+" "+name))
	return w.file(b), nil
}

// file puts a file into the media repository.
func (w *world) file(b []byte) string {
	mxc := fmt.Sprintf("mxc://hs.example/f%d", len(w.repo))
	w.repo[mxc] = b
	return mxc
}

func (w *world) Proxy(_ context.Context, hub, url string) (io.ReadCloser, error) {
	w.asked = append(w.asked, "proxy "+hub)
	return w.get(url)
}

func (w *world) Direct(_ context.Context, url string) (io.ReadCloser, error) {
	w.asked = append(w.asked, "direct")
	return w.get(url)
}

func (w *world) get(url string) (io.ReadCloser, error) {
	b, ok := w.web[url]
	switch {
	case w.down != nil:
		return nil, w.down
	case !ok:
		return nil, ErrRefused
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

// asset seals content as another provider does.
func (w *world) asset(plain []byte) *content.ExternalPart {
	w.t.Helper()
	sealed, part, err := content.Seal(zeros{}, bytes.Clone(plain))
	if err != nil {
		w.t.Fatal(err)
	}
	part.URL = fmt.Sprintf("https://files.b.example/%d", len(w.web))
	w.web[part.URL] = sealed
	return &part
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// send carries out a job and reads the answer.
func (w *world) send(verb string, job, answer any) outbox.Result {
	w.t.Helper()
	data, err := json.Marshal(job)
	if err != nil {
		w.t.Fatal(err)
	}
	res := w.Send(w.t.Context(), []store.Outbound{{Verb: verb, Data: data}})
	if res.Class == outbox.Done {
		if err := json.Unmarshal(res.Body, answer); err != nil {
			w.t.Fatal(err)
		}
	}
	return res
}

func picture(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 7, 5))); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// encrypted puts an encrypted file into the media repository.
func (w *world) encrypted(plain []byte) *event.EncryptedFile {
	w.t.Helper()
	f, err := newAttachment()
	if err != nil {
		w.t.Fatal(err)
	}
	r, err := decrypting(bytes.NewReader(plain), f) // encryption is the same stream
	if err != nil {
		w.t.Fatal(err)
	}
	sealed, err := io.ReadAll(r)
	if err != nil {
		w.t.Fatal(err)
	}
	again, err := decrypting(bytes.NewReader(sealed), f)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, again); err != nil {
		w.t.Fatal(err)
	}
	f.Hashes["sha256"] = base64.RawStdEncoding.EncodeToString(again.sum.Sum(nil))
	f.URL = w.file(sealed)
	return f
}

func TestUploads(t *testing.T) {
	w := newWorld(t)
	plain := picture(t)
	small := w.file(plain)
	large := w.file(append(bytes.Clone(plain), make([]byte, MaxPreview)...))
	sealed := w.encrypted(plain)
	spoilt := w.encrypted(plain)
	w.repo[spoilt.URL][len(plain)-1] ^= 1
	for name, c := range map[string]struct {
		job     Upload
		class   outbox.Class
		reason  string
		inline  bool
		preview bool
	}{
		"plain":                     {job: Upload{MXC: small, Limit: 1000}, class: outbox.Done},
		"encrypted":                 {job: Upload{MXC: sealed.URL, Encrypted: sealed, Limit: 1000}, class: outbox.Done},
		"with a thumbnail":          {job: Upload{MXC: small, Limit: 1000, Thumbnail: &Upload{MXC: sealed.URL, Encrypted: sealed}}, class: outbox.Done, preview: true},
		"with a large thumbnail":    {job: Upload{MXC: small, Limit: 1000, Thumbnail: &Upload{MXC: large}}, class: outbox.Done},
		"with a spoilt thumbnail":   {job: Upload{MXC: small, Limit: 1000, Thumbnail: &Upload{MXC: spoilt.URL, Encrypted: spoilt}}, class: outbox.Done},
		"with no thumbnail there":   {job: Upload{MXC: small, Limit: 1000, Thumbnail: &Upload{MXC: "mxc://x/y"}}, class: outbox.Done},
		"in the message":            {job: Upload{MXC: small, Limit: 1000, Inline: 1000, Thumbnail: &Upload{MXC: small}}, class: outbox.Done, inline: true, preview: true},
		"too large for the message": {job: Upload{MXC: small, Limit: 1000, Inline: int64(len(plain)) - 1}, class: outbox.Done},
		"spoilt, in the message":    {job: Upload{MXC: spoilt.URL, Encrypted: spoilt, Limit: 1000, Inline: 1000}, class: outbox.Refused, reason: "it is damaged"},
		"spoilt":                    {job: Upload{MXC: spoilt.URL, Encrypted: spoilt, Limit: 1000}, class: outbox.Refused, reason: "it is damaged"},
		"too large":                 {job: Upload{MXC: small, Limit: 10}, class: outbox.Refused, reason: "it is too large"},
		"not there":                 {job: Upload{MXC: "mxc://x/y", Limit: 10}, class: outbox.Refused, reason: "it is not there or may not be fetched"},
	} {
		var up Uploaded
		res := w.send(VerbUpload, c.job, &up)
		if res.Class != c.class || res.Reason != c.reason {
			t.Errorf("%s: %s %q, want %s %q", name, res.Class, res.Reason, c.class, c.reason)
		}
		if res.Class != outbox.Done {
			continue
		}
		if up.Size != int64(len(plain)) || up.Sniffed != "image/png" {
			t.Errorf("%s: %d octets of %q, want %d", name, up.Size, up.Sniffed, len(plain))
		}
		if (up.PreviewType == "image/png" && bytes.Equal(up.Preview, plain)) != c.preview || c.preview == (up.Preview == nil) {
			t.Errorf("%s: preview of %d octets of %q", name, len(up.Preview), up.PreviewType)
		}
		if IsInline(up.Part.URL) != c.inline || c.inline != bytes.Equal(up.Inline, plain) {
			t.Errorf("%s: at %q, %d octets in the message", name, up.Part.URL, len(up.Inline))
		}
	}
}

func TestWhatIsFetchedAndFromWhere(t *testing.T) {
	w := newWorld(t)
	plain := picture(t)
	fetch := func(change func(*Fetch)) Fetch {
		job := Fetch{External: w.asset(plain), Mimetype: "image/png", Name: "a.png", Limit: 1000, User: "@u:hs", Direct: true}
		change(&job)
		return job
	}
	ours, part, err := w.Assets.Put(bytes.NewReader(plain), 1000, func() error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	w.Assets.index.(*index).rows[ours] = store.Asset{Direction: store.Out}
	gone := part
	gone.URL = w.Assets.URL(tokenNobodyHas)
	for name, c := range map[string]struct {
		job    Fetch
		class  outbox.Class
		reason string
		asked  string
	}{
		"from the host":        {fetch(func(*Fetch) {}), outbox.Done, "", "direct;upload @u:hs image/png a.png"},
		"through the hub":      {fetch(func(f *Fetch) { f.Hub = "hub.example" }), outbox.Done, "", "proxy hub.example;upload @u:hs image/png a.png"},
		"the hub has it not":   {fetch(func(f *Fetch) { f.Hub, f.Direct, f.External.URL = "hub.example", false, "https://x.example/" }), outbox.Refused, "it is not there or may not be fetched", "proxy hub.example"},
		"no way":               {fetch(func(f *Fetch) { f.Direct = false }), outbox.Refused, "it is not there or may not be fetched", ""},
		"of ours":              {fetch(func(f *Fetch) { f.External, f.Direct = &part, false }), outbox.Done, "", "upload @u:hs image/png a.png"},
		"of ours, gone":        {fetch(func(f *Fetch) { f.External = &gone }), outbox.Refused, "it is not there or may not be fetched", ""},
		"in the message":       {fetch(func(f *Fetch) { f.External, f.Inline = nil, plain }), outbox.Done, "", "upload @u:hs image/png a.png"},
		"encrypted":            {fetch(func(f *Fetch) { f.Encrypt = true }), outbox.Done, "", "direct;upload @u:hs application/octet-stream"},
		"of no type":           {fetch(func(f *Fetch) { f.Mimetype = "" }), outbox.Done, "", "direct;upload @u:hs image/png a.png"},
		"of no type, no image": {fetch(func(f *Fetch) { f.External, f.Mimetype = w.asset([]byte("text")), "" }), outbox.Refused, "it is damaged", "direct"},
		"spoilt":               {fetch(func(f *Fetch) { w.web[f.External.URL][3] ^= 1 }), outbox.Refused, "it is damaged", "direct"},
		"said too large":       {fetch(func(f *Fetch) { f.Limit = 10 }), outbox.Refused, "it is too large", ""},
		"more than was said":   {fetch(func(f *Fetch) { f.Limit, f.External.Size = 10, 9 }), outbox.Refused, "it is too large", "direct"},
		"expired":              {fetch(func(f *Fetch) { f.External.Expires = 1_800_000_000 }), outbox.Refused, ReasonExpired, ""},
		"not expired":          {fetch(func(f *Fetch) { f.External.Expires = 1_800_000_001 }), outbox.Done, "", "direct;upload @u:hs image/png a.png"},
		"with a thumbnail": {fetch(func(f *Fetch) { f.Thumbnail, f.ThumbnailType = plain, "image/png" }), outbox.Done, "",
			"direct;upload @u:hs image/png a.png;upload @u:hs image/png"},
		"unknown encryption": {fetch(func(f *Fetch) { f.External.EncAlg = 99 }), outbox.Refused, "it is encrypted in a way that is not known here", ""},
	} {
		w.asked = nil
		var got Fetched
		res := w.send(VerbFetch, c.job, &got)
		if res.Class != c.class || res.Reason != c.reason || strings.Join(w.asked, ";") != c.asked {
			t.Errorf("%s: %s %q after %q, want %s %q after %q", name, res.Class, res.Reason, w.asked, c.class, c.reason, c.asked)
		}
		if res.Class != outbox.Done {
			continue
		}
		for what, f := range map[string]*Fetched{"file": &got, "thumbnail": got.Thumbnail} {
			if f == nil && (what == "file" || c.job.Thumbnail != nil) {
				t.Errorf("%s: there is no %s", name, what)
			}
			if f == nil {
				continue
			}
			b := w.repo[f.MXC]
			if c.job.Encrypt {
				if b, err = opened(w.repo[f.Encrypted.URL], f.Encrypted); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			if !bytes.Equal(b, plain) || f.Size != int64(len(plain)) || f.Width != 7 || f.Height != 5 {
				t.Errorf("%s: %s of %d octets, %d × %d", name, what, len(b), f.Width, f.Height)
			}
		}
	}
	if left := (&shelf{Store: w.Assets}).files(t); len(left) != 1 {
		t.Errorf("left in the directory: %q", left)
	}
}

// What may work later is tried again, what is no transfer is not, and nothing begins while no place is free.
func TestTriesOfATransfer(t *testing.T) {
	w := newWorld(t)
	w.down = errors.New("no route to 10.0.0.1")
	var none any
	if res := w.send(VerbUpload, Upload{MXC: "mxc://a/b"}, &none); res.Class != outbox.Retry || res.Reason != "its server does not answer" {
		t.Errorf("no homeserver: %s %q", res.Class, res.Reason)
	}
	if res := w.send("dance", Upload{}, &none); res.Class != outbox.Refused {
		t.Errorf("an unknown verb: %s", res.Class)
	}
	for _, verb := range []string{VerbUpload, VerbFetch} {
		if res := w.send(verb, "no job", &none); res.Class != outbox.Refused {
			t.Errorf("a job for %s that cannot be read: %s", verb, res.Class)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.slots <- struct{}{}
	if res := w.Send(ctx, []store.Outbound{{Verb: VerbUpload, Data: []byte("{}")}}); res.Class != outbox.Retry || len(w.asked) != 0 {
		t.Errorf("with no free place: %s, %q", res.Class, w.asked)
	}
}

// Expired files go, and the oldest ones when there are too many; what others keep is forgotten only.
func TestClean(t *testing.T) {
	w := newWorld(t)
	w.DB = storetest.Open(t, storetest.Config(t, "sqlite"))
	assets, err := NewStore(w.Assets.dir, "https://a.example", w.DB, w.Now)
	if err != nil {
		t.Fatal(err)
	}
	w.Assets = assets
	room := storetest.Room(t, w.DB)
	put := func(size int, created, expires int64) string {
		token, _, err := w.Assets.Put(bytes.NewReader(make([]byte, size)), 1000, func() error { return nil })
		if err == nil {
			err = os.Chtimes(w.Assets.path(token), w.Now(), w.Now()) // too young to be swept away
		}
		if err == nil {
			err = w.DB.Tx(t.Context(), func(tx *store.Tx) error {
				return tx.PutAsset(t.Context(), store.Asset{Room: room.ID, ID: token, Direction: store.Out, Size: int64(size), CreatedMS: created, ExpiresMS: expires})
			})
		}
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	now := w.Now().UnixMilli()
	put(10, 1, now)
	put(100, 2, 0)
	third, last := put(100, 3, now+1), put(100, 4, 0)
	err = w.DB.Tx(t.Context(), func(tx *store.Tx) error {
		return tx.PutAsset(t.Context(), store.Asset{Room: room.ID, ID: "theirs", Direction: store.In, Size: 1000, ExpiresMS: now - 1})
	})
	if err != nil {
		t.Fatal(err)
	}
	w.MaxTotal = 200
	if err := w.Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{third, last} {
		f, _, err := w.Assets.Open(t.Context(), token)
		if err != nil {
			t.Fatalf("one of the newest: %v", err)
		}
		f.Close()
	}
	if left := (&shelf{Store: w.Assets}).files(t); len(left) != 2 {
		t.Errorf("left are %q", left)
	}
	if _, err := w.DB.Asset(t.Context(), "theirs"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("theirs: %v", err)
	}
}

func TestPictures(t *testing.T) {
	w := newWorld(t)
	p := &Pictures{Base: "https://a.example/", Key: []byte("key"), Homeserver: w, Limit: 1000}
	get := func(method, address string) *httptest.ResponseRecorder {
		rec := httptest.NewRecorder()
		p.ServeHTTP(rec, httptest.NewRequest(method, address, nil))
		return rec
	}
	good := p.URL(w.file(picture(t)))
	rec := get(http.MethodGet, good)
	if rec.Code != http.StatusOK || rec.Header().Get("Content-Type") != "image/png" || rec.Header().Get("Content-Security-Policy") == "" || rec.Body.Len() == 0 {
		t.Errorf("%s: %d %v", good, rec.Code, rec.Header())
	}
	if rec := get(http.MethodPost, good); rec.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", rec.Code)
	}
	for what, address := range map[string]string{
		"text":            p.URL(w.file([]byte("<html>"))),
		"svg":             p.URL(w.file([]byte(`<svg xmlns="http://www.w3.org/2000/svg"/>`))),
		"a large one":     p.URL(w.file(append(picture(t), make([]byte, 1000)...))),
		"one that is not": p.URL("mxc://hs.example/none"),
		"another's":       strings.Replace(good, "/f0", "/f1", 1),
		"no MAC":          "https://a.example" + PicturePrefix + "hs.example/f0",
	} {
		if rec := get(http.MethodGet, address); rec.Code != http.StatusNotFound || rec.Header().Get("Content-Type") == "image/png" {
			t.Errorf("%s at %s: %d", what, address, rec.Code)
		}
	}
	w.down = errors.New("no route")
	if rec := get(http.MethodGet, good); rec.Code != http.StatusServiceUnavailable {
		t.Errorf("no homeserver: %d", rec.Code)
	}
	for _, bad := range []string{"", "mxc://", "mxc://a", "mxc://a/", "mxc:///b", "mxc://a/b/c", "mxc://a/b?c", "mxc://a/b#c", "mxc://a/%2e", "https://a/b", "mxc://a/" + strings.Repeat("b", 512)} {
		if got := p.URL(bad); got != "" {
			t.Errorf("%q is published at %q", bad, got)
		}
	}
}

// FuzzTransfers: a row with any job ends, without a panic, and without more than what is allowed being kept.
func FuzzTransfers(f *testing.F) {
	w := newWorld(f)
	plain := picture(f)
	part := w.asset(plain)
	for _, job := range []any{Upload{MXC: w.file(plain), Limit: 100}, Upload{MXC: w.file(plain), Inline: 10, Encrypted: w.encrypted(plain)},
		Fetch{External: part, Limit: 1000, Direct: true}, Fetch{Inline: plain, Mimetype: "image/png", Encrypt: true}} {
		data, err := json.Marshal(job)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		w := newWorld(t)
		w.repo["mxc://hs.example/f0"] = plain
		w.web[part.URL] = bytes.Clone(plain)
		for _, verb := range []string{VerbUpload, VerbFetch} {
			res := w.Send(t.Context(), []store.Outbound{{Verb: verb, Data: data}})
			if res.Class != outbox.Done && res.Class != outbox.Refused && res.Class != outbox.Retry || res.Class != outbox.Done && res.Reason == "" {
				t.Errorf("%s: %+v", verb, res)
			}
		}
	})
}

// FuzzPictures: no address opens anything but what was published.
func FuzzPictures(f *testing.F) {
	p := &Pictures{Base: "https://a.example", Key: []byte("key"), Limit: 10}
	f.Add("mxc://a/b")
	f.Add("mxc://a/../b")
	f.Fuzz(func(t *testing.T, mxc string) {
		if address := p.URL(mxc); address != "" && (!strings.HasPrefix(address, "https://a.example"+PicturePrefix) || !strings.HasSuffix(address, strings.TrimPrefix(mxc, "mxc:/"))) {
			t.Errorf("%q is at %q", mxc, address)
		}
		rec := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL.Path = PicturePrefix + mxc
		if p.ServeHTTP(rec, r); rec.Code != http.StatusNotFound {
			t.Errorf("%q: %d", mxc, rec.Code)
		}
	})
}
