package media

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	_ "image/gif" // sizes of pictures
	_ "image/jpeg"
	_ "image/png"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/matrix-mimi/bridge/internal/outbox"
	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/content"
)

// Mover carries out the rows of the "media" lanes. It is safe for concurrent use.
type Mover struct {
	Homeserver Homeserver
	Remote     Remote
	Assets     *Store
	DB         *store.DB
	// MaxTotal bounds the asset store in octets: the oldest go first. 0 means no bound.
	MaxTotal int64
	Now      func() time.Time
	Log      zerolog.Logger

	slots chan struct{}
}

// Waits are the pauses between the tries of a transfer (docs/mapping.md §7.4): three more over ten minutes.
var Waits = []time.Duration{30 * time.Second, 150 * time.Second, 420 * time.Second}

// Limit bounds how many transfers run at once. Call it before the first Send.
func (m *Mover) Limit(n int) { m.slots = make(chan struct{}, max(n, 1)) }

// Send implements outbox.Sender. A result says nothing about the host as a whole, so that one bad file does not hold up others.
func (m *Mover) Send(ctx context.Context, rows []store.Outbound) outbox.Result {
	select {
	case m.slots <- struct{}{}:
		defer func() { <-m.slots }()
	case <-ctx.Done():
		return outbox.Result{Class: outbox.Retry, Status: http.StatusRequestTimeout, Reason: "no transfer is free"}
	}
	row := &rows[0]
	body, err := m.move(ctx, row)
	switch {
	case err == nil:
		return outbox.Result{Class: outbox.Done, Status: http.StatusOK, Body: body}
	case final(err):
		return outbox.Result{Class: outbox.Refused, Status: http.StatusBadRequest, Reason: Reason(err)}
	}
	m.Log.Info().Err(err).Stringer("room", row.Room).Str("verb", row.Verb).Int64("attempt", row.Attempts+1).Msg("a file was not moved")
	return outbox.Result{Class: outbox.Retry, Status: http.StatusRequestTimeout, Reason: Reason(err)}
}

// move does what a row asks for, and returns the answer as JSON.
func (m *Mover) move(ctx context.Context, row *store.Outbound) ([]byte, error) {
	switch row.Verb {
	case VerbUpload:
		return do(ctx, row.Data, m.upload)
	case VerbFetch:
		return do(ctx, row.Data, m.fetch)
	}
	return nil, fmt.Errorf("%w: a row of verb %q is no transfer", ErrRefused, row.Verb)
}

func do[Job, Answer any](ctx context.Context, data []byte, move func(context.Context, *Job) (*Answer, error)) ([]byte, error) {
	var job Job
	if err := json.Unmarshal(data, &job); err != nil {
		return nil, fmt.Errorf("%w: its row cannot be read: %w", ErrRefused, err)
	}
	answer, err := move(ctx, &job)
	if err != nil {
		return nil, err
	}
	return json.Marshal(answer)
}

// final tells whether another try is of no use.
func final(err error) bool {
	for _, e := range []error{ErrRefused, ErrTooLarge, ErrDamaged, content.ErrCrypto, content.ErrLimit, content.ErrMalformed, content.ErrUnsupported} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// ReasonExpired is what people are told of a file whose time is over: to try again is of no use.
const ReasonExpired = "it has expired"

// Reason is what people are told of an error.
func Reason(err error) string {
	switch {
	case errors.Is(err, ErrExpired):
		return ReasonExpired
	case errors.Is(err, ErrTooLarge), errors.Is(err, content.ErrLimit):
		return "it is too large"
	case errors.Is(err, ErrDamaged), errors.Is(err, content.ErrCrypto), errors.Is(err, content.ErrMalformed):
		return "it is damaged"
	case errors.Is(err, content.ErrUnsupported):
		return "it is encrypted in a way that is not known here"
	case errors.Is(err, ErrRefused):
		return "it is not there or may not be fetched"
	}
	return "its server does not answer"
}

// upload makes an asset of a file of Matrix.
func (m *Mover) upload(ctx context.Context, job *Upload) (*Uploaded, error) {
	from, err := m.Homeserver.Download(ctx, job.MXC, job.Limit)
	if err != nil {
		return nil, err
	}
	defer from.Close()
	plain, err := decrypting(from, job.Encrypted)
	if err != nil {
		return nil, err
	}
	var octets io.Reader = plain
	if job.Inline > 0 {
		b, err := io.ReadAll(io.LimitReader(plain, job.Inline+1))
		if err != nil {
			return nil, err
		}
		if int64(len(b)) <= job.Inline {
			up, err := inline(job, b, plain)
			if err == nil && job.Thumbnail != nil {
				up.Preview, up.PreviewType = m.preview(ctx, job.Thumbnail)
			}
			return up, err
		}
		octets = io.MultiReader(bytes.NewReader(b), plain)
	}
	head := &prefix{}
	token, part, err := m.Assets.Put(io.TeeReader(octets, head), job.Limit, func() error { return plain.verify(job.Encrypted) })
	if err != nil {
		return nil, err
	}
	up := &Uploaded{Token: token, Part: part, Size: int64(part.Size) - content.SealOverhead, Sniffed: sniff(head.b)}
	if t := job.Thumbnail; t != nil {
		up.Preview, up.PreviewType = m.preview(ctx, t)
	}
	return up, nil
}

// inline is a file that was read whole and travels in the message.
func inline(job *Upload, b []byte, plain *cipherReader) (*Uploaded, error) {
	if err := plain.verify(job.Encrypted); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(append([]byte(job.MXC+"\n"), b...))
	token := inlineScheme + hex.EncodeToString(sum[:16])
	return &Uploaded{Token: token, Inline: b, Size: int64(len(b)), Sniffed: sniff(b[:min(len(b), 512)]), Part: content.ExternalPart{URL: token, Size: uint64(len(b))}}, nil
}

// preview fetches a thumbnail that is small enough to travel in the message. Without it the file is as good.
func (m *Mover) preview(ctx context.Context, t *Upload) ([]byte, string) {
	from, err := m.Homeserver.Download(ctx, t.MXC, MaxPreview)
	if err != nil {
		return nil, ""
	}
	defer from.Close()
	plain, err := decrypting(from, t.Encrypted)
	if err != nil {
		return nil, ""
	}
	b, err := io.ReadAll(io.LimitReader(plain, MaxPreview+1))
	if err != nil || len(b) > MaxPreview || plain.verify(t.Encrypted) != nil {
		return nil, ""
	}
	kind := sniff(b)
	if !strings.HasPrefix(kind, "image/") {
		return nil, ""
	}
	return b, kind
}

// fetch brings a file of a MIMI message to Matrix.
func (m *Mover) fetch(ctx context.Context, job *Fetch) (*Fetched, error) {
	if job.External == nil {
		return m.store(ctx, job, bytes.NewReader(job.Inline), int64(len(job.Inline)), job.Mimetype, job.Name)
	}
	limit := uint64(max(job.Limit, 1))
	if _, err := job.External.CheckDownload(limit); err != nil {
		return nil, err
	}
	if x := job.External.Expires; x != 0 && m.Now().Unix() >= int64(x) {
		return nil, fmt.Errorf("%w: %w", ErrRefused, ErrExpired)
	}
	sealed, err := m.scratch()
	if err != nil {
		return nil, err
	}
	defer sealed.Close()
	size, err := m.download(ctx, job, sealed)
	if err != nil {
		return nil, err
	}
	plain, err := m.scratch()
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	n, err := job.External.OpenStream(plain, sealed, size)
	if err != nil {
		return nil, err
	}
	if job.Mimetype == "" { // a picture of which nothing was said
		head := make([]byte, 512)
		k, _ := plain.ReadAt(head, 0)
		if job.Mimetype = sniff(head[:min(int64(k), n)]); !strings.HasPrefix(job.Mimetype, "image/") {
			return nil, fmt.Errorf("%w: it is no picture", ErrDamaged)
		}
	}
	return m.store(ctx, job, io.NewSectionReader(plain, 0, n), n, job.Mimetype, job.Name)
}

// scratch is a temporary file without a name: nothing of it is left after a crash.
func (m *Mover) scratch() (*os.File, error) {
	f, err := os.CreateTemp(m.Assets.dir, "new-")
	if err != nil {
		return nil, fmt.Errorf("make a temporary file: %w", err)
	}
	return f, os.Remove(f.Name())
}

// download writes what is at the URL to a file, at most as much as is allowed.
func (m *Mover) download(ctx context.Context, job *Fetch, to io.Writer) (int64, error) {
	var from io.ReadCloser
	err := fmt.Errorf("%w: the room allows no way to fetch it", ErrRefused)
	if token := m.Assets.Token(job.External.URL); token != "" {
		from, _, err = m.Assets.Open(ctx, token)
		if errors.Is(err, os.ErrNotExist) {
			err = fmt.Errorf("%w: it is gone", ErrRefused)
		}
	} else {
		if job.Hub != "" {
			from, err = m.Remote.Proxy(ctx, job.Hub, job.External.URL)
		}
		if err != nil && job.Direct {
			from, err = m.Remote.Direct(ctx, job.External.URL)
		}
	}
	if err != nil {
		return 0, err
	}
	defer from.Close()
	n, err := io.CopyBuffer(to, struct{ io.Reader }{io.LimitReader(from, job.Limit+1)}, make([]byte, content.StreamBuffer))
	if err != nil {
		return 0, fmt.Errorf("download a file: %w", err)
	}
	if n > job.Limit {
		return 0, fmt.Errorf("%w: more than %d octets", ErrTooLarge, job.Limit)
	}
	return n, nil
}

// store puts plaintext into the media repository.
func (m *Mover) store(ctx context.Context, job *Fetch, r io.ReadSeeker, size int64, mimetype, name string) (*Fetched, error) {
	out := &Fetched{Size: size}
	if strings.HasPrefix(mimetype, "image/") {
		if c, _, err := image.DecodeConfig(io.LimitReader(r, 1<<20)); err == nil {
			out.Width, out.Height = int64(c.Width), int64(c.Height)
		}
		if _, err := r.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
	}
	err := m.put(ctx, job, out, r, size, mimetype, name)
	if err != nil || len(job.Thumbnail) == 0 {
		return out, err
	}
	t := *job
	t.Thumbnail = nil
	if out.Thumbnail, err = m.store(ctx, &t, bytes.NewReader(job.Thumbnail), int64(len(job.Thumbnail)), job.ThumbnailType, ""); err != nil {
		return nil, err
	}
	return out, nil
}

func (m *Mover) put(ctx context.Context, job *Fetch, out *Fetched, r io.Reader, size int64, mimetype, name string) (err error) {
	if !job.Encrypt {
		out.MXC, err = m.Homeserver.Upload(ctx, job.User, r, size, mimetype, name)
		return err
	}
	file, err := newAttachment()
	if err != nil {
		return err
	}
	stream, err := attachmentStream(file)
	if err != nil {
		return err
	}
	e := &encrypting{from: r, stream: stream, sum: sha256.New()}
	if file.URL, err = m.Homeserver.Upload(ctx, job.User, e, size, "application/octet-stream", ""); err != nil {
		return err
	}
	file.Hashes["sha256"] = base64.RawStdEncoding.EncodeToString(e.sum.Sum(nil))
	out.Encrypted = file
	return nil
}

// prefix keeps the first octets that are written.
type prefix struct{ b []byte }

func (p *prefix) Write(b []byte) (int, error) {
	if room := 512 - len(p.b); room > 0 {
		p.b = append(p.b, b[:min(room, len(b))]...)
	}
	return len(b), nil
}

// sniff is the media type that content looks like, "" if it looks like nothing particular.
func sniff(b []byte) string {
	kind, _, _ := strings.Cut(http.DetectContentType(b), ";")
	if kind == "application/octet-stream" || kind == "text/plain" {
		return ""
	}
	return kind
}

// sweepEvery is how often expired files are deleted.
const sweepEvery = 10 * time.Minute

// Run deletes what has expired, what is too much and what belongs to nothing, until the context ends.
func (m *Mover) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if err := m.Clean(ctx); err != nil && ctx.Err() == nil {
			m.Log.Warn().Err(err).Msg("old files were not deleted")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Clean is one round of Run.
func (m *Mover) Clean(ctx context.Context) error {
	for {
		old, err := m.DB.ExpiredAssets(ctx, m.Now().UnixMilli(), 100)
		if err != nil {
			return err
		}
		if err := m.forget(ctx, old); err != nil {
			return err
		}
		if len(old) < 100 {
			break
		}
	}
	if err := m.shrink(ctx); err != nil {
		return err
	}
	_, err := m.Assets.Sweep(ctx)
	return err
}

// shrink deletes the oldest assets of ours until the rest is within MaxTotal.
func (m *Mover) shrink(ctx context.Context) error {
	for m.MaxTotal > 0 {
		total, err := m.DB.AssetBytes(ctx, store.Out)
		if err != nil || total <= m.MaxTotal {
			return err
		}
		old, err := m.DB.OldestAssets(ctx, store.Out, 10)
		if err != nil || len(old) == 0 {
			return err
		}
		n := 0
		for ; n < len(old) && total > m.MaxTotal; n++ {
			total -= old[n].Size
		}
		if err := m.forget(ctx, old[:n]); err != nil {
			return err
		}
	}
	return nil
}

// forget deletes assets: the row first, so that nothing is promised that is not there.
func (m *Mover) forget(ctx context.Context, old []store.Asset) error {
	for _, a := range old {
		err := m.DB.Tx(ctx, func(tx *store.Tx) error { return tx.DeleteAsset(ctx, a.Room, a.ID) })
		if err == nil && a.Direction == store.Out {
			err = m.Assets.Delete(a.ID)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
