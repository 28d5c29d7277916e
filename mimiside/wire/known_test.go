package wire

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// known reads a file of testdata; testdata/README.md says how they are written.
func known(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	var out []byte
	for line := range strings.Lines(string(text)) {
		for line = strings.TrimSpace(line); line != "" && line[0] != '#'; line = strings.TrimLeft(line, " ") {
			var token string
			if line[0] == '"' {
				token, line, _ = strings.Cut(line[1:], `"`)
				out = append(out, token...)
				continue
			}
			token, line, _ = strings.Cut(line, " ")
			if rest, ok := strings.CutPrefix(token, "<"); ok {
				out = append(out, known(t, rest)...)
				continue
			}
			digits, count, repeated := strings.Cut(token, "*")
			b, err := hex.DecodeString(digits)
			if err != nil {
				t.Fatalf("%s: %q: %v", name, token, err)
			}
			n := 1
			if repeated {
				if n, err = strconv.Atoi(count); err != nil {
					t.Fatalf("%s: %q: %v", name, token, err)
				}
			}
			out = append(out, bytes.Repeat(b, n)...)
		}
	}
	return out
}

type marshaler interface{ Marshal() []byte }

// decoders names every structure that comes from outside by the files that hold it.
var decoders = map[string]func([]byte) (marshaler, error){
	"key_material_request":    func(b []byte) (marshaler, error) { return UnmarshalKeyMaterialRequest(b) },
	"key_material_response":   func(b []byte) (marshaler, error) { return UnmarshalKeyMaterialResponse(b) },
	"update_commit":           func(b []byte) (marshaler, error) { return UnmarshalUpdateRequest(b) },
	"update_partial":          func(b []byte) (marshaler, error) { return UnmarshalUpdateRequest(b) },
	"update_wrapped":          func(b []byte) (marshaler, error) { return UnmarshalUpdateRequest(b) },
	"update_proposal":         func(b []byte) (marshaler, error) { return UnmarshalUpdateRequest(b) },
	"update_response":         func(b []byte) (marshaler, error) { return UnmarshalUpdateRoomResponse(b) },
	"update_response_epoch":   func(b []byte) (marshaler, error) { return UnmarshalUpdateRoomResponse(b) },
	"update_response_invalid": func(b []byte) (marshaler, error) { return UnmarshalUpdateRoomResponse(b) },
	"submit_request":          func(b []byte) (marshaler, error) { return UnmarshalSubmitMessageRequest(b) },
	"submit_response":         func(b []byte) (marshaler, error) { return UnmarshalSubmitMessageResponse(b) },
	"submit_response_old":     func(b []byte) (marshaler, error) { return UnmarshalSubmitMessageResponse(b) },
	"notify":                  func(b []byte) (marshaler, error) { return UnmarshalNotify(b) },
	"group_info_request":      func(b []byte) (marshaler, error) { return UnmarshalGroupInfoRequest(b) },
	"group_info_response":     func(b []byte) (marshaler, error) { return UnmarshalGroupInfoResponse(b) },
	"group_info_refused":      func(b []byte) (marshaler, error) { return UnmarshalGroupInfoResponse(b) },
	"group_info_tree":         func(b []byte) (marshaler, error) { return UnmarshalGroupInfoRatchetTree(b) },
	"consent_request":         func(b []byte) (marshaler, error) { return UnmarshalConsentEntry(b) },
	"consent_introduction":    func(b []byte) (marshaler, error) { return UnmarshalConsentEntry(b) },
	"consent_grant":           func(b []byte) (marshaler, error) { return UnmarshalConsentEntry(b) },
	"profiles_request":        func(b []byte) (marshaler, error) { return UnmarshalProfilesRequest(b) },
	"profiles_response":       func(b []byte) (marshaler, error) { return UnmarshalProfilesResponse(b) },
	"status_message":          func(b []byte) (marshaler, error) { return UnmarshalStatusMessage(b) },
	"link_status_request":     func(b []byte) (marshaler, error) { return UnmarshalLinkStatusRequest(b) },
	"link_status_response":    func(b []byte) (marshaler, error) { return UnmarshalLinkStatusResponse(b) },
	"knock_request":           func(b []byte) (marshaler, error) { return UnmarshalKnockRequest(b) },
	"knock_response":          func(b []byte) (marshaler, error) { return UnmarshalKnockResponse(b) },
	"knock_outcome":           func(b []byte) (marshaler, error) { return UnmarshalKnockOutcome(b) },
	"identifier_request":      func(b []byte) (marshaler, error) { return UnmarshalIdentifierRequest(b) },
	"identifier_request_page": func(b []byte) (marshaler, error) { return UnmarshalIdentifierRequest(b) },
	"page":                    func(b []byte) (marshaler, error) { return UnmarshalPage(b) },
	"identifier_response":     func(b []byte) (marshaler, error) { return UnmarshalIdentifierResponse(b) },
	"report":                  func(b []byte) (marshaler, error) { return UnmarshalAbuseReport(b) },
}

// Every hand-written file decodes, encodes to the same bytes, and is refused when a byte follows, when any of its end is
// missing, and, where a notify could go on, when what follows is no FanoutMessage.
func TestKnownAnswers(t *testing.T) {
	for name, decode := range decoders {
		b := known(t, name)
		v, err := decode(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := v.Marshal(); !bytes.Equal(got, b) {
			t.Errorf("%s: encodes to\n%x, want\n%x", name, got, b)
		}
		if _, err := decode(append(bytes.Clone(b), 0)); err == nil {
			t.Errorf("%s: a byte at the end passed", name)
		}
		for i := range b {
			if _, err := decode(b[:i]); err == nil && !wholeItems(name, b[:i]) {
				t.Errorf("%s: passed with %d of %d bytes", name, i, len(b))
			}
		}
	}
}

// wholeItems tells whether the beginning of a body of several happens to end after one of them.
func wholeItems(name string, b []byte) bool {
	switch name {
	case "room_requests":
		q, err := UnmarshalRoomRequests(b)
		return err == nil && len(q) < 2
	case "submit_verdicts":
		q, err := UnmarshalSubmitVerdicts(b)
		return err == nil && len(q) < 3
	}
	if name != "notify" {
		return false
	}
	q, err := UnmarshalNotify(b)
	return err == nil && len(q.items) < 4
}

func field(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

func TestKnownFields(t *testing.T) {
	km, err := UnmarshalKeyMaterialRequest(known(t, "key_material_request"))
	if err != nil {
		t.Fatal(err)
	}
	field(t, "requestingUser", km.request.RequestingUser, IdentifierURI("mimi://a.example/u/alice"))
	field(t, "targetUser", km.TargetUser(), IdentifierURI("mimi://b.example/u/bob"))
	field(t, "roomId", km.request.RoomID, IdentifierURI("mimi://a.example/r/clubhouse"))
	field(t, "suites", km.request.AcceptableSuites, []mls.Suite{1, 3})
	field(t, "required", km.request.RequiredCapabilities.Proposals, []mls.ProposalType{8, 10})
	field(t, "key", km.request.RequesterSignatureKey, bytes.Repeat([]byte{0x31}, 32))
	field(t, "credential", string(km.request.RequesterCredential.Identity), "mimi://a.example/d/alice/desk1")
	field(t, "signature", km.request.Signature, bytes.Repeat([]byte{0x32}, 64))

	kr, err := UnmarshalKeyMaterialResponse(known(t, "key_material_response"))
	if err != nil {
		t.Fatal(err)
	}
	field(t, "userStatus", kr.response.UserStatus, KeyMaterialPartialSuccess)
	field(t, "clients", len(kr.response.Clients), 4)
	field(t, "keyPackage", kr.response.Clients[0].KeyPackage.InitKey, bytes.Repeat([]byte{0xaa}, 32))
	field(t, "exhausted", kr.response.Clients[1].Status, ClientKeyMaterialExhausted)
	field(t, "capabilities", kr.response.Clients[2].Capabilities.Suites, []mls.Suite{2})
	field(t, "no capabilities", kr.response.Clients[3].Capabilities == nil, true)

	up, err := UnmarshalUpdateRequest(known(t, "update_commit"))
	if err != nil {
		t.Fatal(err)
	}
	h, err := up.Check([]byte("mimi://a.example/g/clubhouse"))
	if err != nil {
		t.Fatal(err)
	}
	field(t, "commit", h.Commit(), true)
	field(t, "epoch", h.Message.Epoch(), uint64(7))
	field(t, "welcome", h.Welcome.Secrets[0].NewMember, bytes.Repeat([]byte{0x91}, 32))
	field(t, "groupInfo epoch", h.GroupInfo.Full.Context.Epoch, uint64(8))
	field(t, "tree", h.Tree.Representation, mls.RatchetTreeDistributionService)

	nf, err := UnmarshalNotify(known(t, "notify"))
	if err != nil {
		t.Fatal(err)
	}
	items, err := nf.Check()
	if err != nil {
		t.Fatal(err)
	}
	field(t, "items", len(items), 4)
	tag, ok := FrankingTagOf(items[0].Message.AuthenticatedData())
	field(t, "franking tag", tag[:], bytes.Repeat([]byte{0xf1}, 32))
	field(t, "franking tag there", ok, true)
	field(t, "externalProposals", items[2].ExternalProposals[0].MLS.Public.Content.Sender.Type, mls.SenderExternal)
	field(t, "tree URL", string(items[3].Tree.URL), "https://a.example/t")
	field(t, "welcomes", nf.Welcomes(), [][]byte{bytes.Repeat([]byte{0x91}, 32)})

	sr, err := UnmarshalSubmitMessageResponse(known(t, "submit_response"))
	if err != nil {
		t.Fatal(err)
	}
	field(t, "accepted_timestamp", sr.AcceptedTimestamp, uint64(0x19000000001))
	field(t, "server_frank", sr.Frank.ServerFrank[:], bytes.Repeat([]byte{0x41}, 32))
	field(t, "frank suite", sr.Frank.Suite, mls.SuiteX25519AES128Ed25519)

	ab, err := UnmarshalAbuseReport(known(t, "report"))
	if err != nil {
		t.Fatal(err)
	}
	report, err := ab.Check("b.example")
	if err != nil {
		t.Fatal(err)
	}
	field(t, "note", report.Note, "spam")
	field(t, "content", report.Messages[0].Content, []byte{0x87, 1, 2, 3})
	if _, err := ab.Check("c.example"); err == nil {
		t.Error("a report in the name of another provider's user passed")
	}
}
