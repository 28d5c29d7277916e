package relay

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// effects are everything that one step writes, in one transaction (docs/flow.md, T1 to T17).
type effects struct {
	// The group. newGroup writes all pieces of it anew instead of what changed; dropGroup forgets it.
	newGroup  *mls.Group
	dropGroup bool
	changes   []mls.Changes
	used      []store.Generation // positions of sending ratchets (T1)
	log       []store.LogEntry   // what we accepted as the hub (T16)

	// Our commit under way (T6–T9).
	setPending  *store.PendingCommit
	dropPending bool

	addIntents  []store.Intent
	setIntents  map[int64]store.Intent
	doneIntents []int64

	inputs  []store.NewInput
	release *int64 // waiting inputs up to this epoch become ready
	wait    *waiting
	answer  *store.StoredAnswer

	bodies  []sharedBody
	out     []store.Outbound
	dropOut []store.Outbound
	// releaseHeld lets go the rows that waited for the room id of a portal.
	releaseHeld bool

	// fills are the requests of blank rows.
	fills []store.Outbound
	// assets are written, dropAssets forgotten with their files.
	assets     []store.Asset
	dropAssets []string

	// evidence is kept for reports, dropEvidence forgotten; reports are stored, closeReports done with.
	evidence     []store.Evidence
	dropEvidence [][]byte
	reports      []store.Report
	closeReports []string

	links    []store.Link
	setLinks []linkChange
	resent   []int64 // links whose event is sent anew
	members  map[string]store.Member
	state    map[string]string
	seen     []store.Seen
	names    []name
	unbind   []name

	ghosts      []store.Ghost
	keyPackages []store.KeyPackage
	usedKeys    [][]byte
	revokedKeys [][]byte
	routes      []store.Route
	consents    []store.Consent
	settings    []setting
	managers    []manager
	unmanaged   string // a Matrix room that is no chat of one user with the bot any more
	direct      *directRoom
	// activities go into collections of the ActivityPub face.
	activities []store.Activity
	// goneActor is an actor of ours whose activities are dropped.
	goneActor string
	// dropActivities are the ids of those of messages that are deleted.
	dropActivities []string
	// secrets are what is sealed of the room by name (askKeyName, joinCodeName); nil forgets it.
	secrets map[string][]byte
}

// keep seals a secret of the room under a name, nil forgets it.
func (fx *effects) keep(name string, secret []byte) {
	if fx.secrets == nil {
		fx.secrets = map[string][]byte{}
	}
	fx.secrets[name] = secret
}

type waiting struct {
	epoch  int64
	reason string
}

type sharedBody struct {
	seq  int64
	data []byte
}

type linkChange struct {
	seq        int64
	state      string
	eventID    string
	mimiID     []byte
	acceptedMS int64
	data       *string
}

type name struct {
	kind store.NameKind
	name string
}

type setting struct{ scope, key, value string }

type manager struct{ mxid, room string }

type directRoom struct{ hub, one, other string }

// write writes all effects. It is called once, after StepRoom, inside the step's transaction. It returns the lanes to
// wake after the commit.
func (fx *effects) write(ctx context.Context, tx *store.Tx, head store.Room, nowMS int64) ([]store.Woken, error) {
	for _, part := range []func(context.Context, *store.Tx, store.Room, int64) error{
		fx.writeNames, fx.writeInputs, fx.writeGroup, fx.writeIntents, fx.writeRoom, fx.writeReports, fx.writeGlobal,
	} {
		if err := part(ctx, tx, head, nowMS); err != nil {
			return nil, err
		}
	}
	for _, b := range fx.bodies {
		if err := tx.PutBody(ctx, head.ID, b.seq, b.data, nowMS); err != nil {
			return nil, err
		}
	}
	var lanes []store.Woken
	if fx.releaseHeld {
		released, err := tx.ReleaseHeld(ctx, head.ID)
		if err != nil {
			return nil, err
		}
		lanes = store.WokenLanes(released)
	}
	for _, o := range fx.fills {
		if err := tx.FillOutbound(ctx, o); err != nil {
			return nil, err
		}
		lanes = append(lanes, store.Woken{Lane: o.Lane()})
	}
	if len(fx.out) == 0 {
		return lanes, nil
	}
	for i := range fx.out {
		fx.out[i].MatrixRoomID = head.MatrixRoomID
	}
	more, err := tx.AddOutbound(ctx, fx.out)
	return append(lanes, more...), err
}

func (fx *effects) writeNames(ctx context.Context, tx *store.Tx, head store.Room, _ int64) error {
	for _, n := range fx.unbind {
		if err := tx.UnbindName(ctx, n.kind, n.name); err != nil {
			return err
		}
	}
	for _, n := range fx.names {
		if err := tx.BindName(ctx, n.kind, n.name, head.ID); err != nil {
			return err
		}
	}
	return nil
}

func (fx *effects) writeInputs(ctx context.Context, tx *store.Tx, head store.Room, _ int64) error {
	if len(fx.inputs) > 0 {
		if _, err := tx.AddInputs(ctx, fx.inputs); err != nil {
			return err
		}
	}
	if fx.release != nil {
		if _, err := tx.ReleaseWaiting(ctx, head.ID, *fx.release); err != nil {
			return err
		}
	}
	if fx.answer != nil {
		return tx.PutAnswer(ctx, *fx.answer)
	}
	return nil
}

func (fx *effects) writeGroup(ctx context.Context, tx *store.Tx, head store.Room, nowMS int64) error {
	if fx.dropPending {
		if err := tx.DeletePendingCommit(ctx, head.ID); err != nil {
			return err
		}
	}
	if fx.dropGroup || fx.newGroup != nil {
		if err := tx.DeleteAllPieces(ctx, head.ID); err != nil {
			return err
		}
	}
	if fx.newGroup != nil {
		if err := tx.PutPieces(ctx, head.ID, storePieces(fx.newGroup.Export()), nowMS); err != nil {
			return err
		}
	} else if err := fx.writeChanges(ctx, tx, head, nowMS); err != nil {
		return err
	}
	if len(fx.used) > 0 {
		if err := tx.UseGenerations(ctx, head, fx.used); err != nil {
			return err
		}
	}
	if len(fx.log) > 0 {
		if err := tx.Log(ctx, fx.log...); err != nil {
			return err
		}
	}
	if fx.setPending != nil {
		return tx.PutPendingCommit(ctx, *fx.setPending)
	}
	return nil
}

// forgotten is the epoch before which changes leave no secrets, 0 when no epoch goes. Nothing can be sent in those epochs
// any more, so which positions of their ratchets were used need not be remembered. Epochs go oldest first.
func forgotten(c mls.Changes) uint64 {
	var before uint64
	for _, r := range c.DeleteRange {
		if r.Kind == store.PieceEpoch {
			before = max(before, r.A+1)
		}
	}
	for _, k := range c.Delete {
		if k.Kind == store.PieceEpoch {
			before = max(before, k.A+1)
		}
	}
	return before
}

func (fx *effects) writeChanges(ctx context.Context, tx *store.Tx, head store.Room, nowMS int64) error {
	c := coalesce(fx.changes)
	for _, r := range c.DeleteRange {
		if err := tx.DeletePieceRange(ctx, head.ID, r.Kind, r.A); err != nil {
			return err
		}
	}
	if len(c.Delete) > 0 {
		keys := make([]store.PieceKey, len(c.Delete))
		for i, k := range c.Delete {
			keys[i] = store.PieceKey(k)
		}
		if err := tx.DeletePieces(ctx, head.ID, keys); err != nil {
			return err
		}
	}
	if before := forgotten(c); before > 0 {
		if err := tx.ForgetGenerations(ctx, head, before); err != nil {
			return err
		}
	}
	if len(c.Put) > 0 {
		return tx.PutPieces(ctx, head.ID, storePieces(c.Put), nowMS)
	}
	return nil
}

func storePieces(pieces []mls.Piece) []store.Piece {
	out := make([]store.Piece, len(pieces))
	for i, p := range pieces {
		out[i] = store.Piece{Key: store.PieceKey(p.Key), Data: p.Data}
	}
	return out
}

// coalesce makes one set of changes of several that followed each other: what a later one deleted is not put, and what
// is put is put last.
func coalesce(list []mls.Changes) mls.Changes {
	if len(list) == 1 {
		return list[0]
	}
	var out mls.Changes
	put := map[mls.PieceKey]mls.Secret{}
	var order []mls.PieceKey
	for _, c := range list {
		for _, r := range c.DeleteRange {
			maps.DeleteFunc(put, func(k mls.PieceKey, _ mls.Secret) bool { return k.Kind == r.Kind && k.A == r.A })
		}
		for _, k := range c.Delete {
			delete(put, k)
		}
		out.DeleteRange = append(out.DeleteRange, c.DeleteRange...)
		out.Delete = append(out.Delete, c.Delete...)
		for _, p := range c.Put {
			put[p.Key] = p.Data
			order = append(order, p.Key)
		}
	}
	for _, k := range order {
		if data, ok := put[k]; ok {
			out.Put = append(out.Put, mls.Piece{Key: k, Data: data})
			delete(put, k)
		}
	}
	return out
}

func (fx *effects) writeIntents(ctx context.Context, tx *store.Tx, head store.Room, _ int64) error {
	// Deleted first: a new intent may have the place of one that is done.
	if err := tx.DeleteIntents(ctx, head.ID, fx.doneIntents...); err != nil {
		return err
	}
	for _, i := range fx.addIntents {
		if _, err := tx.AddIntent(ctx, i); err != nil {
			return err
		}
	}
	for _, seq := range slices.Sorted(maps.Keys(fx.setIntents)) {
		if err := tx.SetIntent(ctx, fx.setIntents[seq]); err != nil {
			return err
		}
	}
	return nil
}

func (fx *effects) writeRoom(ctx context.Context, tx *store.Tx, head store.Room, nowMS int64) error {
	if len(fx.seen) > 0 {
		if _, err := tx.MarkSeen(ctx, fx.seen); err != nil {
			return err
		}
	}
	if len(fx.members) > 0 {
		rows := make([]store.Member, 0, len(fx.members))
		for _, mxid := range slices.Sorted(maps.Keys(fx.members)) {
			rows = append(rows, fx.members[mxid])
		}
		if err := tx.PutMembers(ctx, rows...); err != nil {
			return err
		}
	}
	for _, key := range slices.Sorted(maps.Keys(fx.state)) {
		if err := tx.SetRoomState(ctx, head.ID, key, fx.state[key], nowMS); err != nil {
			return err
		}
	}
	if len(fx.links) > 0 {
		if err := tx.AddLinks(ctx, fx.links...); err != nil {
			return err
		}
	}
	for _, seq := range fx.resent {
		if err := tx.ClearLinkEvent(ctx, head.ID, seq); err != nil {
			return err
		}
	}
	for _, l := range fx.setLinks {
		if l.data != nil {
			if err := tx.SetLinkData(ctx, head.ID, l.seq, *l.data); err != nil {
				return err
			}
		}
		if err := tx.SetLink(ctx, head.ID, l.seq, l.state, l.eventID, l.mimiID, l.acceptedMS); err != nil {
			return err
		}
	}
	for _, a := range fx.assets {
		if err := tx.PutAsset(ctx, a); err != nil {
			return err
		}
	}
	for _, id := range fx.dropAssets {
		if err := tx.DeleteAsset(ctx, head.ID, id); err != nil {
			return err
		}
	}
	for _, o := range fx.dropOut {
		if err := tx.DropOutbound(ctx, o.Lane(), o.Seq); err != nil {
			return err
		}
	}
	return nil
}

func (fx *effects) writeReports(ctx context.Context, tx *store.Tx, head store.Room, _ int64) error {
	for _, e := range fx.evidence {
		if err := tx.PutEvidence(ctx, e); err != nil {
			return err
		}
	}
	for _, mimiID := range fx.dropEvidence {
		if err := tx.DropEvidence(ctx, head.ID, mimiID); err != nil {
			return err
		}
	}
	for _, p := range fx.reports {
		if err := tx.AddReport(ctx, p); err != nil {
			return err
		}
	}
	for _, name := range fx.closeReports {
		if err := tx.SetReport(ctx, head.ID, name, store.ReportClosed); err != nil {
			return err
		}
	}
	return nil
}

func (fx *effects) writeGlobal(ctx context.Context, tx *store.Tx, head store.Room, nowMS int64) error {
	for _, g := range fx.ghosts {
		if err := tx.PutGhost(ctx, g); err != nil {
			return err
		}
	}
	if len(fx.keyPackages) > 0 {
		if err := tx.AddKeyPackages(ctx, fx.keyPackages...); err != nil {
			return err
		}
	}
	for _, ref := range fx.usedKeys {
		if err := tx.UseKeyPackage(ctx, ref); err != nil {
			return err
		}
	}
	if err := tx.RevokeKeyPackages(ctx, fx.revokedKeys...); err != nil {
		return err
	}
	if len(fx.routes) > 0 {
		if err := tx.PutRoutes(ctx, fx.routes...); err != nil {
			return err
		}
	}
	for _, c := range fx.consents {
		if err := tx.PutConsent(ctx, c); err != nil {
			return err
		}
	}
	for _, s := range fx.settings {
		if err := tx.SetSetting(ctx, s.scope, s.key, s.value); err != nil {
			return err
		}
	}
	if fx.unmanaged != "" {
		if err := tx.ForgetManagementRoom(ctx, fx.unmanaged); err != nil {
			return err
		}
	}
	for _, m := range fx.managers {
		if err := tx.SetManagementRoom(ctx, m.mxid, m.room); err != nil {
			return err
		}
	}
	if fx.goneActor != "" {
		if err := tx.DropActivitiesOf(ctx, fx.goneActor); err != nil {
			return err
		}
	}
	if len(fx.activities) > 0 {
		if err := tx.PutActivities(ctx, fx.activities); err != nil {
			return err
		}
	}
	if err := tx.DropActivities(ctx, fx.dropActivities); err != nil {
		return err
	}
	for _, name := range sortedKeys(fx.secrets) {
		var err error
		if secret := fx.secrets[name]; secret == nil {
			err = tx.DeleteSecret(ctx, name)
		} else {
			err = tx.SetSecret(ctx, name, secret, nowMS)
		}
		if err != nil {
			return err
		}
	}
	if d := fx.direct; d != nil {
		if err := tx.BindDirectRoom(ctx, d.hub, d.one, d.other, head.ID); err != nil {
			return fmt.Errorf("binding the direct room: %w", err)
		}
	}
	return nil
}
