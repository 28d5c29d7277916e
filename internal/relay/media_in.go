package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/matrix-mimi/bridge/internal/media"
	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/content"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// fetching is an event whose file is on its way to the homeserver. It is sealed in the row of the asset.
type fetching struct {
	Out mapping.Out `json:"out"`
	Job media.Fetch `json:"job"`
	// Row is the blank row that keeps the event's place among the room's events, 0 when it lost it.
	Row int64 `json:"row,omitempty"`
}

// fetchJob decides whether and how the file of an event is fetched (docs/mapping.md §7.4). nil: it is not, and out says why.
func (s *step) fetchJob(in *mapping.Incoming, out *mapping.Out) *media.Fetch {
	v, f := s.room, out.File
	job := &media.Fetch{External: f.External, Inline: f.Inline, Mimetype: f.Mimetype, Name: f.Name, User: string(out.Sender), Encrypt: v.matrix.Crypt}
	if len(f.Thumbnail) <= media.MaxThumbnail {
		job.Thumbnail, job.ThumbnailType = f.Thumbnail, f.ThumbnailType
	}
	if s.Files == nil {
		out.Fail("this bridge carries no files")
		return nil
	}
	d, size := out.Disposition, int64(len(f.Inline))
	if f.External != nil {
		size = int64(min(f.External.Size, 1<<62))
	}
	if why, _ := s.fileRight(f.Mimetype, size-content.SealOverhead, d); why != "" {
		out.Fail(why)
		return nil
	}
	if f.External == nil {
		return job
	}
	job.Limit = s.cfg.Media.Max + content.SealOverhead
	if t, err := content.ParseMediaType(f.Mimetype); err == nil && v.head.State != stateAP {
		if most := v.policy.Asset.MaxSize(t, d); most < uint64(s.cfg.Media.Max) {
			job.Limit = int64(most) + content.SealOverhead
		}
	}
	if why := s.fetchWay(in, job); why != "" {
		out.Fail(why)
		return nil
	}
	return job
}

// fetchWay chooses how a file is fetched: the hub asks the asset's host, others ask the hub or, where the room allows it, the host.
func (s *step) fetchWay(in *mapping.Incoming, job *media.Fetch) string {
	v := s.room
	p := &v.policy.Asset
	u, err := wire.CheckDownloadURL(job.External.URL)
	if err != nil {
		return "its address is not one that files are fetched from"
	}
	if v.head.State == stateAP {
		job.Direct = true
		return ""
	}
	if !p.MayUploadTo(wire.IdentifierURI(in.SenderURI).Domain(), v.uri().Domain(), u.Host()) {
		return "its host is not one of the room's"
	}
	if v.head.Kind != store.RoomFollower {
		job.Direct = true
		return ""
	}
	job.Direct = p.MayDownload(policy.DownloadDirect)
	if p.MayDownload(policy.DownloadHubProxy) && (s.cfg.Media.Proxy || !job.Direct) {
		job.Hub = v.head.Hub
	}
	if job.Hub == "" && !job.Direct {
		return "the room allows no way to fetch it"
	}
	return ""
}

// blank keeps a place among the room's events.
func (s *step) blank() *store.Outbound {
	o := s.row(store.Outbound{Dest: destMatrix, Verb: store.VerbBlank, State: store.OutboundHeld, Data: []byte("{}")})
	o.TxnKey = txnKey(s.room.head.ID, o.Seq)
	return o
}

// fetch queues the transfer for an event whose link and place in the lane are known.
func (s *step) fetch(job *media.Fetch, out *mapping.Out, link, row int64) {
	held := *out
	held.File = &mapping.Fetch{Mimetype: out.File.Mimetype, Name: out.File.Name, ThumbnailType: out.File.ThumbnailType}
	s.setFetching(link, assetFetching, fetching{held, *job, row})
	s.queueFetch(job, link)
	s.later(timerFile+strconv.FormatInt(link, 10), s.now.Add(s.cfg.Media.Patience).UnixMilli())
}

func (s *step) queueFetch(job *media.Fetch, link int64) {
	host := "inline"
	if job.External != nil {
		host = hostOf(job.External.URL)
	}
	ask(s.row(store.Outbound{Dest: destFetch + host, Verb: media.VerbFetch, Data: mustJSON(job)}), refFetched, link)
}

func fetchID(link int64) string { return "in-" + strconv.FormatInt(link, 10) }

func (s *step) setFetching(link int64, state string, f fetching) {
	s.fx.assets = append(s.fx.assets, store.Asset{Room: s.room.head.ID, ID: fetchID(link), Direction: store.In, State: state, Filename: f.Job.Name,
		ContentType: f.Job.Mimetype, Key: mustJSON(f), LinkSeq: link, ExpiresMS: s.now.Add(keepFailed).UnixMilli(), CreatedMS: s.nowMS()})
}

// fetchingOf finds the event that waits for a file; false when there is none.
func (s *step) fetchingOf(link int64) (f fetching, state string, ok bool, err error) {
	list, err := s.Store.AssetsOf(s.ctx, s.room.head.ID, link)
	if err != nil {
		return f, "", false, err
	}
	for i := range list {
		if list[i].ID == fetchID(link) {
			return f, list[i].State, true, json.Unmarshal(list[i].Key, &f)
		}
	}
	return f, "", false, nil
}

// onFetched: the file of an event is in the media repository, or will not be. Either way the event is shown.
func (s *step) onFetched(a *store.Answer) error {
	f, _, ok, err := s.fetchingOf(a.For)
	if err != nil || !ok {
		return err
	}
	link, err := s.Store.LinkBySeq(s.ctx, s.room.head.ID, a.For)
	if err != nil {
		return ignoreNotFound(err)
	}
	if link.State == store.LinkRedacted && f.Row == 0 {
		s.fx.dropAssets = append(s.fx.dropAssets, fetchID(a.For))
		return nil
	}
	row, out := f.Row, f.Out
	var got media.Fetched
	if a.Class == "done" && json.Unmarshal(a.Body, &got) == nil {
		out.Complete(stored(&got))
		s.fx.dropAssets = append(s.fx.dropAssets, fetchID(a.For))
	} else {
		why := a.Reason
		if a.Class == "dead" {
			why = "its server does not answer"
		}
		f.Row = 0
		s.setFetching(a.For, assetFailed, f)
		if why != media.ReasonExpired {
			why += "; reply `" + s.cfg.CommandPrefix + " retry` to try again"
		}
		out.Fail(why)
	}
	s.showLate(out.Request(), row, a.For)
	if row == 0 && link.EventID != "" { // the notice that stood in its place
		if hand := s.redactor(link.SenderMXID, link.SenderMXID); hand != "" {
			s.matrix(event.Redact{Sender: hand, Event: userEvent(&link)})
		}
	}
	return nil
}

func stored(f *media.Fetched) mapping.Stored {
	out := mapping.Stored{MXC: f.MXC, Encrypted: f.Encrypted, Size: f.Size, Width: f.Width, Height: f.Height}
	if f.Thumbnail != nil {
		t := stored(f.Thumbnail)
		out.Thumbnail = &t
	}
	return out
}

// showLate sends an event in the place that was kept for it, or, when it has none, now.
func (s *step) showLate(req event.Request, row, link int64) {
	if row == 0 {
		o := s.matrixRequest(req)
		o.AnswerTo, o.AnswerSeq = store.AnswerLink, link
		s.fx.resent = append(s.fx.resent, link) // so that a deletion meets the new event, which has no id yet
		return
	}
	o := store.Outbound{Room: s.room.head.ID, Dest: destMatrix, Seq: row, Verb: string(req.Verb), Data: req.Args}
	if s.room.head.MatrixRoomID == "" {
		o.State = store.OutboundHeld
	}
	s.fx.fills = append(s.fx.fills, o)
}

// fileOverdue lets the events behind a file go on: a notice takes its place, and the file is shown when it comes.
func (s *step) fileOverdue(link int64) error {
	f, state, ok, err := s.fetchingOf(link)
	if err != nil || !ok || state != assetFetching || f.Row == 0 {
		return err
	}
	out := f.Out
	out.Fail("not yet; it is being tried again")
	s.showLate(out.Request(), f.Row, link)
	f.Row = 0
	s.setFetching(link, assetFetching, f)
	return nil
}

// actRetry fetches a file again.
func (s *step) actRetry(a action) error {
	l, err := s.Store.LinkByEvent(s.ctx, s.room.head.ID, a.Event)
	if err != nil {
		return ignoreNotFound(err)
	}
	f, state, ok, err := s.fetchingOf(l.Seq)
	if err != nil || !ok || state != assetFailed {
		return err
	}
	s.setFetching(l.Seq, assetFetching, f)
	s.queueFetch(&f.Job, l.Seq)
	return nil
}

// Retry tries again what failed at an event of a Matrix room: it fetches the file that a notice says could not be had, or says a
// user's message that did not get through. ErrNotFound when nothing failed there.
func (r *Relay) Retry(ctx context.Context, roomID, eventID string) error {
	id, err := r.roomNamed(ctx, roomID)
	if err != nil {
		return err
	}
	link, err := r.Store.LinkByEvent(ctx, id, eventID)
	switch {
	case err == nil && link.Direction == store.In:
		return r.act(ctx, id, action{Do: actRetry, Event: eventID})
	case err == nil && link.State != store.LinkFailed:
		return fmt.Errorf("%w: nothing failed there", ErrNotFound)
	case err == nil:
		return fmt.Errorf("%w: the room refused this message", ErrNotFound)
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	raw, err := r.Homeserver.Event(ctx, r.cfg.Bot, roomID, eventID)
	if err != nil {
		return err
	}
	ev, err := event.ParseChecked(raw)
	if err != nil || r.ours(string(ev.Sender)) || ev.StateKey != nil {
		return fmt.Errorf("%w: that is no message of a user", ErrNotFound)
	}
	kind := inputMatrix
	if ev.Type == event.TypeEncrypted {
		kind = inputEncrypted
	}
	err = r.Store.Tx(ctx, func(tx *store.Tx) error {
		_, err := tx.AddInputs(ctx, []store.NewInput{{Room: id, Kind: kind, Source: eventID, Epoch: -1, Body: raw, CreatedMS: r.Clock().UnixMilli()}})
		return err
	})
	r.Wake(id)
	return err
}

// maxAvatar is the largest picture of a room in octets.
const maxAvatar = 2 << 20

// placeAvatar fetches the picture of the room when it changed, so that Matrix shows it (docs/mapping.md §6).
func (s *step) placeAvatar() {
	v := s.room
	address := v.policy.Metadata.RoomAvatar
	if s.Files == nil || address == v.st.Avatar {
		return
	}
	v.st.Avatar = address
	if own, ok := s.publicURL(v.matrix.Avatar); ok && own == address {
		return // it came from Matrix
	}
	if address == "" {
		s.showAvatar("")
		return
	}
	if _, err := wire.CheckDownloadURL(address); err != nil {
		return
	}
	p := &v.policy.Asset
	job := media.Fetch{External: &content.ExternalPart{URL: address}, Limit: maxAvatar, User: s.cfg.Bot, Direct: v.head.Kind != store.RoomFollower || p.MayDownload(policy.DownloadDirect)}
	if v.head.Kind == store.RoomFollower && s.cfg.Media.Proxy && p.MayDownload(policy.DownloadHubProxy) {
		job.Hub = v.head.Hub
	}
	ask(s.row(store.Outbound{Dest: destFetch + hostOf(address), Verb: media.VerbFetch, Data: mustJSON(job)}), refAvatar+":"+address, 0)
}

// onAvatar: the picture of the room was fetched, or not; then the room keeps the one that it has.
func (s *step) onAvatar(a *store.Answer, address string) error {
	var got media.Fetched
	if a.Class != "done" || json.Unmarshal(a.Body, &got) != nil || s.room.policy == nil || s.room.policy.Metadata.RoomAvatar != address {
		return nil
	}
	s.showAvatar(got.MXC)
	return nil
}

func (s *step) showAvatar(mxc string) {
	v := s.room
	if v.matrix.Avatar == mxc {
		return
	}
	was := v.matrix.Avatar
	v.matrix.Avatar = mxc
	picture := map[string]string{}
	if mxc != "" {
		picture["url"] = mxc
	}
	s.matrix(event.State{Sender: s.stateHand(cause{}), Type: event.TypeAvatar, Content: mustJSON(picture), Was: mustJSON(map[string]string{"url": was})})
}
