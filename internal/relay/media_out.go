package relay

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/matrix-mimi/bridge/internal/media"
	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/content"
)

// uploading is a Matrix event whose file is on its way into the asset store. Its input waits meanwhile.
type uploading struct {
	Input   int64  `json:"input"`
	SinceMS int64  `json:"since"`
	Failed  string `json:"failed,omitempty"` // why it will not come
	Reason  string `json:"reason,omitempty"` // the same for clients
}

// takenBack is why the file of an event will not come that was redacted meanwhile. Nobody is told.
const takenBack = "deleted"

// forgetUpload is after how many milliseconds an upload is forgotten whose end did not come.
const forgetUpload = 3_600_000

// maxUploads bounds the files of a room that are on their way.
const maxUploads = 100

// uploaded finds the assets that were made for an event.
func (s *step) uploaded(ev event.Event) (mapping.Files, []store.Asset, error) {
	var list []store.Asset
	if len(mapping.FilesOf(ev)) > 0 {
		var err error
		if list, err = s.Store.AssetsWith(s.ctx, s.room.head.ID, string(ev.ID)); err != nil {
			return nil, nil, err
		}
	}
	return func(mxc string) (mapping.Uploaded, bool) {
		for i := range list {
			var up media.Uploaded
			if list[i].MXC == mxc && list[i].State == assetReady && json.Unmarshal(list[i].Key, &up) == nil {
				return mapping.Uploaded{Part: up.Part, Preview: up.Preview, PreviewType: up.PreviewType}, true
			}
		}
		return mapping.Uploaded{}, false
	}, list, nil
}

// waitsForFile makes a message wait whose file is not uploaded yet, or that comes after one whose file is not. true: nothing is
// to be said now. Later messages wait Media.Patience at most, so that one large file does not stop a room.
func (s *step) waitsForFile(ev event.Event, out *mapping.Outgoing) bool {
	st := &s.room.st
	if s.input == nil {
		return false
	}
	if u := st.Uploads[string(ev.Redacts)]; u != nil && ev.Redacts != "" {
		u.Failed = takenBack
	}
	if s.behindFile() {
		s.startUpload(ev, out.Needs)
		s.waitFor(waitForever, "behind a file")
		return true
	}
	if len(out.Needs) == 0 {
		if out.Message != nil && s.refusedFile(ev, out.Message) {
			return true
		}
		delete(st.Uploads, string(ev.ID))
		return false
	}
	s.startUpload(ev, out.Needs)
	u := st.Uploads[string(ev.ID)]
	if u == nil {
		return true
	}
	if u.Failed != "" {
		delete(st.Uploads, string(ev.ID))
		if u.Failed == takenBack {
			return true
		}
		s.fileFailed(ev, u.Failed, u.Reason)
		return true
	}
	s.waitFor(waitForever, "its file is uploaded")
	return true
}

// fileFailed tells a sender that a file did not get through. To try again helps where its way was at fault.
func (s *step) fileFailed(ev event.Event, why, reason string) {
	status := event.StatusFail
	if reason == reasonNetwork {
		status = event.StatusRetriable
	}
	s.tellFailed(string(ev.ID), status, reason, "its file was not carried over: "+why)
}

// behindFile tells whether a file that was sent before the present message is still on its way.
func (s *step) behindFile() bool {
	for _, u := range s.room.st.Uploads {
		if u.Failed == "" && u.Input < s.input.Seq && s.nowMS() < u.SinceMS+s.cfg.Media.Patience.Milliseconds() {
			return true
		}
	}
	return false
}

// startUpload queues the transfer of an event's file, once. What the room does not take is refused at once.
func (s *step) startUpload(ev event.Event, needs []mapping.File) {
	st := &s.room.st
	if len(needs) == 0 || st.Uploads[string(ev.ID)] != nil {
		return
	}
	for id, u := range st.Uploads {
		if s.nowMS() > u.SinceMS+forgetUpload {
			delete(st.Uploads, id)
		}
	}
	f := needs[0]
	why, reason := s.fileRight(f.Mimetype, f.Size, dispositionOf(f))
	p := &s.room.policy.Asset
	switch {
	case s.Files == nil:
		why, reason = "this bridge carries no files", reasonUnfit
	case why == "" && s.room.head.State != stateAP && !p.MayUploadTo(s.Naming.Domain, s.room.uri().Domain(), s.cfg.Media.Host):
		why, reason = "the room takes no files from this provider", reasonRefused
	case why == "" && len(st.Uploads) >= maxUploads:
		why, reason = "too many files are on their way", reasonNetwork
	}
	if st.Uploads == nil {
		st.Uploads = map[string]*uploading{}
	}
	u := &uploading{Input: s.input.Seq, SinceMS: s.nowMS(), Failed: why, Reason: reason}
	st.Uploads[string(ev.ID)] = u
	if why != "" {
		return
	}
	job := media.Upload{MXC: f.MXC, Encrypted: f.Encrypted, Mimetype: f.Mimetype, Limit: s.cfg.Media.Max}
	if s.room.head.State == stateAP {
		job.Inline = apInline
	}
	if t := f.Thumbnail; t != nil && t.Size <= media.MaxPreview {
		job.Thumbnail = &media.Upload{MXC: t.MXC, Encrypted: t.Encrypted, Mimetype: t.Mimetype, Limit: media.MaxPreview}
	}
	o := s.row(store.Outbound{Dest: destUpload, Verb: media.VerbUpload, Data: mustJSON(job)})
	ask(o, refUploaded+":"+string(ev.ID)+" "+f.MXC+" "+f.Mimetype, 0)
	s.later(timerUploads, s.now.Add(s.cfg.Media.Patience).UnixMilli())
}

// refusedFile tells a sender that a file, as it was found to be, is not allowed in the room.
func (s *step) refusedFile(ev event.Event, m *content.Message) bool {
	d, x := external(m)
	if x == nil {
		return false
	}
	why, reason := s.fileRight(x.ContentType, int64(min(x.Size, 1<<62))-content.SealOverhead, d)
	if why == "" {
		return false
	}
	delete(s.room.st.Uploads, string(ev.ID))
	if list, err := s.Store.AssetsWith(s.ctx, s.room.head.ID, string(ev.ID)); err == nil {
		for i := range list {
			s.fx.dropAssets = append(s.fx.dropAssets, list[i].ID)
		}
	}
	s.fileFailed(ev, why, reason)
	return true
}

// onUploaded: the file of an event is an asset now, or will not be. Either way its message goes on.
func (s *step) onUploaded(a *store.Answer, about string) error {
	eventID, rest, _ := strings.Cut(about, " ")
	mxc, mimetype, _ := strings.Cut(rest, " ")
	u := s.room.st.Uploads[eventID]
	s.releaseAll()
	var up media.Uploaded
	if a.Class != "done" || json.Unmarshal(a.Body, &up) != nil {
		if u != nil {
			u.Failed, u.Reason = cmp.Or(u.Failed, a.Reason, "it could not be read"), reasonNetwork
			if a.Status == http.StatusBadRequest { // it was read, and will not do
				u.Reason = reasonUnfit
			}
		}
		return nil
	}
	if u == nil || u.Failed != "" || s.inputGone(u.Input) {
		if u != nil && u.Failed == "" {
			delete(s.room.st.Uploads, eventID)
		}
		s.fx.dropAssets = append(s.fx.dropAssets, up.Token) // its message was redacted or given up meanwhile
		return nil
	}
	up.Part.ContentType = typeOf(mimetype, up.Sniffed)
	expires := s.now.Add(s.cfg.Media.Expiry)
	up.Part.Expires = uint32(expires.Unix())
	s.fx.assets = append(s.fx.assets, store.Asset{Room: s.room.head.ID, ID: up.Token, Direction: store.Out, State: assetReady, MXC: mxc,
		ContentType: up.Part.ContentType, Size: int64(up.Part.Size), Hash: up.Part.ContentHash, Key: mustJSON(up), Data: eventID,
		ExpiresMS: expires.UnixMilli(), CreatedMS: s.nowMS()})
	return nil
}

func (s *step) inputGone(seq int64) bool {
	_, err := s.Store.Input(s.ctx, s.room.head.ID, seq)
	return errors.Is(err, store.ErrNotFound)
}

// typeOf is the media type of a file: what its sender said, unless it said nothing or its octets are plainly something else.
func typeOf(said, sniffed string) string {
	t, err := content.ParseMediaType(said)
	if err != nil || t.Type == "application/octet-stream" {
		return sniffed
	}
	kind, _, _ := strings.Cut(t.Type, "/")
	shown := kind == "image" || kind == "audio" || kind == "video"
	if shown && (strings.HasPrefix(sniffed, "text/") || sniffed == "application/pdf" || sniffed == "application/zip") {
		return sniffed
	}
	return t.String()
}

// keepAssets ties the assets of a message to its link, so that they go when it does.
func (s *step) keepAssets(list []store.Asset, link int64) {
	for _, a := range list {
		if a.LinkSeq != link {
			a.LinkSeq = link
			s.fx.assets = append(s.fx.assets, a)
		}
	}
}
