package relay

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/matrixside/html"
	"github.com/matrix-mimi/bridge/mimiside/content"
	"github.com/matrix-mimi/bridge/mimiside/hub"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Abuse reports as the hub (draft-ietf-mimi-protocol-06 §5.9, docs/mapping.md §9): what is proven is stored and told to the
// operators, who decide by commands to the bot.

const (
	// maxShown bounds the messages of a report that operators are shown, and maxNote what they see of its note.
	maxShown, maxNote = 10, 1000
	// reportIDSize is how many characters name a report.
	reportIDSize = 6
	// maxOpen bounds the reports of a room that wait for a decision.
	maxOpen = 100
	// maxReports bounds a list of reports.
	maxReports = 100
)

// ReportAbuse takes a report about a user of a room that we are the hub of. The same report again is taken without
// effect. Only providers that have or had somebody in the room may report; a report with a message that is not proven is
// refused as a whole, because it accuses somebody of what they cannot be shown to have said.
func (r *Relay) ReportAbuse(ctx context.Context, peer string, path wire.IdentifierURI, report *wire.AbuseReport) (Reply, error) {
	if err := r.allow(ctx, "report", peer, r.cfg.Reports); err != nil { // whatever the room
		return Reply{}, err
	}
	room, err := r.hubRoomID(ctx, path)
	if err != nil {
		return Reply{}, err
	}
	if err := r.readyOperators(ctx); err != nil {
		return Reply{}, err
	}
	if _, err := r.runStep(ctx, room, nil, store.Settle{}, func(s *step) error { return s.onAbuseReport(peer, report) }); err != nil {
		return Reply{}, err
	}
	return Reply{Status: http.StatusCreated}, nil
}

// onAbuseReport judges a report and stores it.
func (s *step) onAbuseReport(peer string, report *wire.AbuseReport) error {
	v := s.room
	if v.group == nil || !s.knownProvider(peer) {
		return refusal{ErrNotFound}
	}
	accused, ok := v.members.ofURI(string(report.AllegedAbuserURI))
	if !ok || accused.MXID == s.cfg.Bot {
		return fmt.Errorf("report: the accused was never in the room: %w", ErrForbidden)
	}
	if who := report.ReportingUser; who != "" {
		if _, ok := v.members.ofURI(string(who)); !ok {
			return fmt.Errorf("report: its author was never in the room: %w", ErrForbidden)
		}
		if role := v.policy.Role(v.policy.RoleIndex(string(who))); s.listed(string(who)) && (role == nil || !role.Has(policy.CanReportAbuse)) {
			return fmt.Errorf("report: the role of its author does not allow it: %w", ErrForbidden)
		}
	}
	proven, err := s.proven(report)
	if err != nil {
		return err
	}
	name := reportID(report)
	if _, err := s.Store.Report(s.ctx, v.head.ID, name); !errors.Is(err, store.ErrNotFound) {
		return err // it is there: taken, and nobody is told again
	}
	if n, err := s.Store.OpenReports(s.ctx, v.head.ID); err != nil {
		return err
	} else if n >= maxOpen {
		return fmt.Errorf("report: %d of the room wait for a decision: %w", n, ErrBusy)
	}
	s.fx.reports = append(s.fx.reports, store.Report{Room: v.head.ID, ID: name, Peer: peer, State: store.ReportOpen, Body: report.Marshal(), CreatedMS: s.nowMS()})
	s.Alert("abuse", "a user of room "+v.head.ID.String()+" was reported: report "+name)
	s.tellOperators(s.describe(name, peer, report, proven, accused))
	return nil
}

// knownProvider tells whether somebody of a provider is or was in the room. Who was only ever banned was not: their provider is not to learn
// that there is a room.
func (s *step) knownProvider(domain string) bool {
	for _, m := range s.room.members.byMXID {
		if m.URI != "" && m.MXID != s.cfg.Bot && wire.IdentifierURI(m.URI).Domain() == domain && !dataOfMember(m).Stranger {
			return true
		}
	}
	return false
}

// proven judges the messages of a report.
func (s *step) proven(report *wire.AbuseReport) ([]*hub.Evidence, error) {
	p := hub.Prover{Secrets: []mls.Secret{s.hub.frank}, Keys: s.hub.signature}
	var out []*hub.Evidence
	for i := range report.Messages {
		e, err := p.Prove(s.room.group.Dictionary(), s.room.uri(), report.AllegedAbuserURI, &report.Messages[i])
		if err != nil {
			s.Log.Info().Err(err).Stringer("room", s.room.head.ID).Str("fate", "refused").Msg("a report was not taken")
			return nil, fmt.Errorf("report: %w: %w", err, ErrForbidden)
		}
		out = append(out, e)
	}
	return out, nil
}

// reportID names a report by what it says: who reports whom for which messages or, when there are none, with which words.
func reportID(report *wire.AbuseReport) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00%s\x00%d\x00", report.ReportingUser, report.AllegedAbuserURI, len(report.Messages))
	for i := range report.Messages {
		h.Write(report.Messages[i].Frank.ServerFrank[:])
	}
	if len(report.Messages) == 0 {
		h.Write([]byte(report.Note))
	}
	return strings.ToLower(base32.StdEncoding.EncodeToString(h.Sum(nil)))[:reportIDSize]
}

// describe says what operators need to act.
func (s *step) describe(name, peer string, report *wire.AbuseReport, proven []*hub.Evidence, accused store.Member) string {
	v := s.room
	var b strings.Builder
	fmt.Fprintf(&b, "Report %s: %s (%s) is reported", name, report.AllegedAbuserURI, accused.MXID)
	switch {
	case report.ReportingUser != "":
		fmt.Fprintf(&b, " by %s", report.ReportingUser)
	default:
		fmt.Fprintf(&b, " by somebody of %s", peer)
	}
	fmt.Fprintf(&b, " in \"%s\" (%s, %s).\n", html.Apart(html.Name(v.matrix.Name)), v.head.MatrixRoomID, v.head.URI)
	if report.Note != "" {
		fmt.Fprintf(&b, "They say: %s\n", html.Apart(html.Line(report.Note, maxNote)))
	}
	if len(proven) == 0 {
		b.WriteString("No message came with it: nothing is proven.\n")
	}
	for i, e := range proven {
		if i == maxShown {
			fmt.Fprintf(&b, "And %d more messages.\n", len(proven)-i)
			break
		}
		at := time.UnixMilli(int64(e.AcceptedMS)).UTC().Format("2006-01-02 15:04:05")
		fmt.Fprintf(&b, "Proven, of %s UTC", at)
		if links, err := s.Store.LinksByMIMI(s.ctx, v.head.ID, e.ID[:]); err == nil && len(links) > 0 && links[0].EventID != "" {
			fmt.Fprintf(&b, ", https://matrix.to/#/%s/%s", v.head.MatrixRoomID, links[0].EventID)
		}
		fmt.Fprintf(&b, ":\n> %s\n", strings.ReplaceAll(cutRunes(summary(e.Message), maxNote), "\n", "\n> "))
	}
	fmt.Fprintf(&b, "Say \"reports redact %[1]s\", \"reports ban %[1]s\" or \"reports close %[1]s\".", name)
	return b.String()
}

// summary is what a message says, for operators.
func summary(m *content.Message) string {
	var out []string
	for _, p := range m.Body.Flatten() {
		switch body := p.Part.Body.(type) {
		case content.SinglePart:
			if strings.HasPrefix(body.ContentType, "text/") {
				out = append(out, cleanText(string(body.Content)))
			} else {
				out = append(out, "[part of type "+html.Apart(html.Line(body.ContentType, 100))+"]")
			}
		case content.ExternalPart:
			out = append(out, strings.TrimSpace(fmt.Sprintf("[file %s of type %s] %s", html.Apart(html.Line(body.Filename, 255)), html.Apart(html.Line(body.ContentType, 100)), cleanText(body.Description))))
		}
	}
	if len(out) == 0 {
		return "[no content]"
	}
	return strings.Join(out, "\n")
}

// cleanText drops control characters but line ends.
func cleanText(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' || r == 0x7f {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
}

// operators are the administrators of the bridge that are known by name: those of the settings, and those who have a chat
// with the bot.
func (r *Relay) operators(ctx context.Context) ([]string, error) {
	out := slices.Clone(r.Admins)
	if r.IsAdmin == nil {
		return out, nil
	}
	known, err := r.Store.ManagementUsers(ctx)
	if err != nil {
		return nil, err
	}
	for _, mxid := range known {
		if r.IsAdmin(mxid) && !slices.Contains(out, mxid) {
			out = append(out, mxid)
		}
	}
	return out, nil
}

// readyOperators makes the rooms that tellOperators writes to. It is called before the step, which makes none.
func (r *Relay) readyOperators(ctx context.Context) error {
	if r.cfg.ReportRoom != "" {
		return nil
	}
	list, err := r.operators(ctx)
	for _, mxid := range list {
		if _, err := r.consentRoom(ctx, mxid); err != nil {
			return err
		}
	}
	return err
}

// tellOperators says something in the room for reports, or else to each administrator in the chat with the bot.
func (s *step) tellOperators(text string) {
	if room := s.cfg.ReportRoom; room != "" {
		if target, err := s.Store.RoomIDByName(s.ctx, store.NameMatrix, room); err == nil {
			s.sayIn(target, action{Do: actSay, Text: text})
			return
		}
		s.Alert("report-room", "the bot is not in bridge.report_room: invite it")
	}
	list, err := s.operators(s.ctx)
	if err != nil {
		s.Log.Warn().Err(err).Msg("the administrators were not read")
	}
	for _, mxid := range list {
		if target, err := s.knownConsentRoom(s.ctx, mxid); err == nil {
			s.sayIn(target, action{Do: actSay, Text: text, By: mxid})
		}
	}
}

// sayIn lets a step of another room say something.
func (s *step) sayIn(room store.RoomID, a action) {
	s.fx.inputs = append(s.fx.inputs, store.NewInput{Room: room, Kind: inputAction, Source: a.Do, Epoch: -1, Body: mustJSON(a), CreatedMS: s.nowMS()})
}

// Report is one that operators have to decide on.
type Report struct {
	ID, Room string
	// Text says what it is about.
	Text string
}

// readReport reads a report that was stored. It was judged when it came, but may be broken, or of an older version.
func readReport(row *store.Report) (*wire.AbuseReport, error) {
	if row.Broken {
		return nil, errors.New("its bytes are broken")
	}
	received, err := wire.UnmarshalAbuseReport(row.Body)
	if err != nil {
		return nil, err
	}
	return received.Check(row.Peer)
}

// Reports lists the open reports, the newest first; those before the newest 100 are acted on by their ids. What cannot be read is
// listed as that.
func (r *Relay) Reports(ctx context.Context) ([]Report, error) {
	rows, err := r.Store.Reports(ctx, store.ReportOpen, maxReports)
	if err != nil {
		return nil, err
	}
	out := make([]Report, 0, len(rows))
	for i := range rows {
		p := Report{ID: rows[i].ID, Room: rows[i].Room.String(), Text: "a report that cannot be read, only closed; it came from " + rows[i].Peer}
		if report, err := readReport(&rows[i]); err == nil {
			p.Text = fmt.Sprintf("%s is reported by somebody of %s; messages: %d", report.AllegedAbuserURI, rows[i].Peer, len(report.Messages))
		} else {
			r.Log.Warn().Err(err).Stringer("room", rows[i].Room).Str("report", rows[i].ID).Msg("a report cannot be read")
		}
		out = append(out, p)
	}
	return out, nil
}

// What operators do about a report.
const (
	ReportRedact = "redact" // the messages are removed, on both sides
	ReportBan    = "ban"    // who wrote them is banned from the room
	ReportClose  = "close"  // it is done with
	ReportShow   = "show"   // what it says is told again
)

// ErrWhichReport says that it is not clear which report is meant.
var ErrWhichReport = errors.New("there is no such report, or more than one is open")

// DecideReport does what an operator says about an open report. name may be empty when only one is open. What comes of it is
// told to the operator.
func (r *Relay) DecideReport(ctx context.Context, by, name, what string) error {
	var rows []store.Report
	var err error
	if name == "" {
		rows, err = r.Store.Reports(ctx, store.ReportOpen, 2)
	} else {
		rows, err = r.Store.ReportsNamed(ctx, store.ReportOpen, name, 2)
	}
	if err != nil {
		return err
	}
	if len(rows) != 1 {
		return ErrWhichReport
	}
	id, a, now := rows[0].Room, action{Do: actDecide, By: by, User: what, Text: rows[0].ID}, r.Clock().UnixMilli()
	err = r.Store.Tx(ctx, func(tx *store.Tx) error {
		if what != ReportShow {
			if err := tx.Audit(ctx, store.AuditEntry{AtMS: now, Actor: by, Action: "report-" + what, Subject: rows[0].ID, Detail: id.String()}); err != nil {
				return err
			}
		}
		_, err := tx.AddInputs(ctx, []store.NewInput{{Room: id, Kind: inputAction, Source: a.Do, Epoch: -1, Body: mustJSON(a), CreatedMS: now}})
		return err
	})
	if err == nil {
		r.Wake(id)
	}
	return err
}

// actDecide does what an operator said.
func (s *step) actDecide(a action) error {
	row, err := s.Store.Report(s.ctx, s.room.head.ID, a.Text)
	if err != nil {
		return ignoreNotFound(err)
	}
	if a.User == ReportClose {
		s.fx.closeReports = append(s.fx.closeReports, row.ID)
		s.tellUser(a.By, "Report "+row.ID+" is closed.")
		return nil
	}
	if s.room.group == nil {
		s.tellUser(a.By, "The room of report "+row.ID+" is over.")
		return nil
	}
	report, err := readReport(&row)
	if err != nil {
		s.Log.Warn().Err(err).Stringer("room", row.Room).Str("report", row.ID).Msg("a report cannot be read")
		s.tellUser(a.By, "Report "+row.ID+" cannot be read. Say \"reports close "+row.ID+"\".")
		return nil
	}
	accused, _ := s.room.members.ofURI(string(report.AllegedAbuserURI))
	switch a.User {
	case ReportRedact:
		return s.redactReported(a, row.ID, report)
	case ReportBan:
		if s.fixed() {
			s.tellUser(a.By, "Report "+row.ID+" is of a direct chat: nobody can be put out of it.")
			return nil
		}
		s.wish(intentBan, s.bot, accused.URI, intentData{MXID: accused.MXID})
		text := fmt.Sprintf("%s is banned from the room of report %s.", accused.URI, row.ID)
		if p := s.room.matrix.power(); p.User(userID(s.cfg.Bot)) < p.Ban {
			text += onlyMIMI
		}
		s.tellUser(a.By, text)
	case ReportShow:
		proven, err := s.proven(report)
		if err != nil {
			return err
		}
		s.tellUser(a.By, s.describe(row.ID, row.Peer, report, proven, accused))
	}
	return nil
}

// onlyMIMI is what operators hear when the bot cannot do on Matrix what they say.
const onlyMIMI = " On Matrix I have no power to do that: give me some, or ask a moderator of the room."

// redactReported removes the messages of a report, in Matrix and, as the bot, in MIMI.
func (s *step) redactReported(a action, name string, report *wire.AbuseReport) error {
	if s.mustCommitFirst() {
		return nil
	}
	leaf, ok := s.room.ownLeaf(s.bot)
	if !ok {
		s.tellUser(a.By, "The bot has no client in the room of report "+name+".")
		return nil
	}
	proven, err := s.proven(report)
	if err != nil {
		return err
	}
	n, text := 0, ""
	for _, e := range proven {
		links, err := s.Store.LinksByMIMI(s.ctx, s.room.head.ID, e.ID[:])
		if err != nil {
			return err
		}
		if len(links) == 0 || links[0].State == store.LinkRedacted || links[0].EventID == "" {
			continue
		}
		n++
		salt, err := content.NewSalt(s.Rand)
		if err != nil {
			return err
		}
		target := userEvent(&links[0])
		if hand := s.redactor(links[0].SenderMXID, s.cfg.Bot); hand != "" {
			s.matrix(event.Redact{Sender: hand, Event: target})
		} else {
			text = onlyMIMI
		}
		ev := event.Event{Type: event.TypeRedaction, Room: id.RoomID(s.room.head.MatrixRoomID), Sender: userID(s.cfg.Bot), Redacts: target}
		if err := s.say(ev, s.bot, leaf, salt, nil, 1); err != nil {
			return err
		}
	}
	s.tellUser(a.By, fmt.Sprintf("%d messages of report %s are removed.", n, name)+text)
	return nil
}
