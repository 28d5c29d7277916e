package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/matrix-mimi/bridge/internal/tlspl"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

func TestSubmitCheck(t *testing.T) {
	received, err := UnmarshalSubmitMessageRequest(known(t, "submit_request"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := received.Check("B.example"); err != nil {
		t.Error(err)
	}
	if _, err := received.Check("a.example"); !errors.Is(err, ErrForbidden) {
		t.Errorf("a foreign sendingUri: %v", err)
	}
	proposal, err := ParseMessage(known(t, "proposal"))
	if err != nil {
		t.Fatal(err)
	}
	commit := NewMessage((&mls.PrivateMessage{GroupID: []byte(testGroup), ContentType: mls.ContentCommit}).Message())
	for name, m := range map[string]Message{"a proposal": proposal, "an encrypted commit": commit} {
		received, err = UnmarshalSubmitMessageRequest((&SubmitMessageRequest{m, "mimi://b.example/u/bob"}).Marshal())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := received.Check("b.example"); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s as a message: %v", name, err)
		}
	}
}

func TestUpdateCheck(t *testing.T) {
	check := func(b []byte) error {
		t.Helper()
		q, err := UnmarshalUpdateRequest(b)
		if err != nil {
			return err
		}
		_, err = q.Check([]byte(testGroup))
		return err
	}
	for _, name := range []string{"update_commit", "update_partial", "update_wrapped", "update_proposal"} {
		if err := check(known(t, name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	q, err := UnmarshalUpdateRequest(known(t, "update_commit"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.Check([]byte("other")); !errors.Is(err, ErrMalformed) || q.Epoch() != 7 {
		t.Errorf("another group: %v", err)
	}
	info := q.bundle.GroupInfo.Full
	info.Extensions = append(slices.Clone(info.Extensions), mls.Extension{Type: mls.ExtensionRatchetTree, Data: []byte{0}})
	if _, err := q.Check([]byte(testGroup)); !errors.Is(err, ErrMalformed) {
		t.Errorf("a tree inside the GroupInfo: %v", err)
	}
	next := known(t, "proposal_next")
	for name, b := range map[string][]byte{
		"a message":                 append(known(t, "application"), 0),
		"a proposal of the future":  tlspl.AppendOpaque(known(t, "proposal"), next),
		"a commit among proposals":  tlspl.AppendOpaque(known(t, "proposal"), known(t, "commit")),
		"no tree":                   known(t, "update_commit")[:len(known(t, "update_commit"))-1],
		"a GroupInfo of the old":    bytes.Replace(known(t, "update_commit"), append([]byte(testGroup), 0, 0, 0, 0, 0, 0, 0, 8), append([]byte(testGroup), 0, 0, 0, 0, 0, 0, 0, 7), 1),
		"a Welcome for nobody":      append(append(known(t, "commit"), 1, 0, 1, 0, 0, 1), append(known(t, "group_info"), 4)...),
		"an encrypted commit":       append((&mls.PrivateMessage{GroupID: []byte(testGroup), ContentType: mls.ContentProposal}).Message(), 0),
		"a reserved representation": append(append(known(t, "commit"), 0, 0), append(known(t, "group_info"), 4)...),
	} {
		if err := check(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNotifyCheck(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty":                   {},
		"two groups":              append(known(t, "notify"), bytes.ReplaceAll(known(t, "notify"), []byte("g/clubhouse"), []byte("g/glubhouse"))...),
		"an encrypted commit":     append(append(make([]byte, 8), (&mls.PrivateMessage{GroupID: []byte(testGroup), ContentType: mls.ContentCommit}).Message()...), 0),
		"a KeyPackage":            append(append(make([]byte, 8), 0, 1, 0, 5), known(t, "key_package")...),
		"garbage after a message": append(known(t, "notify"), 1, 2, 3),
		"a welcome for nobody":    append(make([]byte, 8), 0, 1, 0, 3, 0, 1, 0, 0, 4),
		"an old external":         append(append(make([]byte, 8), known(t, "commit")...), tlspl.AppendOpaque(nil, known(t, "proposal"))...),
	} {
		q, err := UnmarshalNotify(b)
		if err == nil {
			_, err = q.Check()
		}
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConsentCheck(t *testing.T) {
	request, err := UnmarshalConsentEntry(known(t, "consent_request"))
	if err != nil {
		t.Fatal(err)
	}
	e, err := request.CheckRequest("a.example", "b.example")
	if err != nil || e.Scope().Key() != "mimi://a.example/u/alice mimi://b.example/u/bob mimi://a.example/r/clubhouse" {
		t.Errorf("%v, %v", e, err)
	}
	if _, err := request.CheckRequest("c.example", "b.example"); !errors.Is(err, ErrForbidden) {
		t.Errorf("a request in another's name: %v", err)
	}
	if _, err := request.CheckRequest("a.example", "c.example"); !errors.Is(err, ErrForbidden) {
		t.Errorf("a request to another's user: %v", err)
	}
	if _, err := request.CheckUpdate("b.example", "a.example"); !errors.Is(err, ErrMalformed) {
		t.Errorf("a request by updateConsent: %v", err)
	}
	grant := &ConsentEntry{Operation: ConsentGrant, RequesterURI: "mimi://a.example/u/alice", TargetURI: "mimi://b.example/u/bob", KeyPackages: testKeyPackages()}
	received, err := UnmarshalConsentEntry(grant.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	if e, err := received.CheckUpdate("b.example", "a.example"); err != nil || len(e.KeyPackages) != len(testKeyPackages()) {
		t.Errorf("grant: %v", err)
	}
	if _, err := received.CheckRequest("a.example", "b.example"); !errors.Is(err, ErrMalformed) {
		t.Errorf("a grant by requestConsent: %v", err)
	}
	if _, err := received.CheckUpdate("c.example", "a.example"); !errors.Is(err, ErrForbidden) {
		t.Errorf("a grant in another's name: %v", err)
	}
	placeholder, err := UnmarshalConsentEntry(known(t, "consent_grant"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := placeholder.CheckUpdate("b.example", "a.example"); !errors.Is(err, ErrSignature) {
		t.Errorf("a grant with a forged KeyPackage: %v", err)
	}
	if _, err := UnmarshalConsentEntry([]byte{1, 0, 0, 1, 0, 0}); !errors.Is(err, ErrMalformed) {
		t.Errorf("a room that is there and empty: %v", err)
	}
}

func TestIdentifierAnswers(t *testing.T) {
	for status, want := range map[int]IdentifierQueryCode{200: IdentifierSuccess, 201: IdentifierSuccess, 404: IdentifierNotFound} {
		if code, ok := IdentifierCodeOf(status); !ok || code != want {
			t.Errorf("%d is %v, %v", status, code, ok)
		}
	}
	for _, status := range []int{403, 500} {
		if _, ok := IdentifierCodeOf(status); ok {
			t.Errorf("%d says something about users", status)
		}
	}
	a, err := UnmarshalIdentifierResponse(known(t, "identifier_response"))
	if err != nil {
		t.Fatal(err)
	}
	if checked, err := a.Check("a.example"); err != nil || checked.Profiles[0].Fields[0] != (ProfileField{FieldOIDCStdClaim, "name", "Alic"}) {
		t.Errorf("%+v, %v", checked, err)
	}
	if _, err := a.Check("b.example"); !errors.Is(err, ErrForbidden) {
		t.Errorf("users of another provider: %v", err)
	}
	foreign := &ReceivedIdentifierResponse{IdentifierResponse{Profiles: []UserProfile{{StableURI: "mimi://c.example/u/carol"}}}}
	if _, err := foreign.Check("a.example"); !errors.Is(err, ErrForbidden) {
		t.Errorf("the profile of another provider's user: %v", err)
	}
	for name, q := range map[string]*IdentifierRequest{"nothing": {}, "control": {Elements: []QueryElement{{SearchNick, "", "a\x00"}}},
		"no UTF-8": {Elements: []QueryElement{{SearchNick, "", "\xff"}}}} {
		received, err := UnmarshalIdentifierRequest(q.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := received.Check(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Welcomes of a fan-out are for so many clients at most: every one of them is looked up.
func TestWelcomesAreBounded(t *testing.T) {
	check := func(refs ...[]byte) error {
		w := &mls.Welcome{Suite: 1, EncryptedGroupInfo: []byte{1}}
		for _, ref := range refs {
			w.Secrets = append(w.Secrets, mls.EncryptedGroupSecrets{NewMember: ref})
		}
		message, err := ParseMessage(w.Message())
		if err != nil {
			t.Fatal(err)
		}
		received, err := UnmarshalNotify(MarshalNotify([]FanoutMessage{{Message: message, Tree: &mls.RatchetTreeOption{Representation: mls.RatchetTreeFull, Tree: []byte{1, 0}}}}))
		if err != nil {
			t.Fatal(err)
		}
		_, err = received.Check()
		return err
	}
	many := make([][]byte, maxWelcomed+1)
	for i := range many {
		many[i] = binary.BigEndian.AppendUint32(nil, uint32(i))
	}
	if err := check(many[:maxWelcomed]...); err != nil {
		t.Errorf("as many as may be: %v", err)
	}
	if err := check(many...); !errors.Is(err, ErrMalformed) {
		t.Errorf("too many: %v", err)
	}
}

// Over-long lengths and over-limit counts are refused.
func TestBounds(t *testing.T) {
	long := append([]byte{0x40, 0x18}, "mimi://a.example/u/alice"...) // 24 in two bytes
	tail := append(append([]byte{0x16}, "mimi://b.example/u/bob"...), 0, 0)
	if _, err := UnmarshalConsentEntry(append(append([]byte{1}, long...), tail...)); !errors.Is(err, tlspl.ErrNotMinimal) {
		t.Errorf("a length that is not minimal: %v", err)
	}
	suites := make([]mls.Suite, maxSuites+1)
	elements := make([]QueryElement, maxElements+1)
	for i := range elements {
		elements[i].Type = SearchNick
	}
	refs := make([][]byte, maxProposals+1)
	message := FanoutMessage{Message: NewMessage(known(t, "application"))}
	proposal := NewMessage(known(t, "proposal"))
	for name, err := range map[string]error{
		"suites":   second(UnmarshalKeyMaterialRequest((&KeyMaterialRequest{AcceptableSuites: suites, RequesterCredential: mls.BasicCredential(nil)}).Marshal())),
		"elements": second(UnmarshalIdentifierRequest((&IdentifierRequest{Elements: elements}).Marshal())),
		"refs":     second(UnmarshalUpdateRoomResponse((&UpdateRoomResponse{ResponseCode: 3, InvalidProposals: refs}).Marshal())),
		"clients":  second(UnmarshalKeyMaterialResponse((&KeyMaterialResponse{Clients: clients(maxClients + 1)}).Marshal())),
		"fan-out":  second(UnmarshalNotify(MarshalNotify(slices.Repeat([]FanoutMessage{message}, maxFanout+1)))),
		"proposals": second(UnmarshalUpdateRequest((&HandshakeBundle{Message: proposal,
			MoreProposals: slices.Repeat([]Message{proposal}, maxProposals+1)}).Marshal())),
		"messages": second(UnmarshalAbuseReport((&AbuseReport{Messages: make([]AbusiveMessage, maxReported+1)}).Marshal())),
		"URI":      second(UnmarshalConsentEntry((&ConsentEntry{RequesterURI: IdentifierURI(bytes.Repeat([]byte{'a'}, MaxURI+1))}).Marshal())),
		"note":     second(UnmarshalAbuseReport((&AbuseReport{Note: string(make([]byte, maxText+1))}).Marshal())),
	} {
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("too many %s: %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func clients(n int) []ClientKeyMaterial {
	return slices.Repeat([]ClientKeyMaterial{{Status: ClientKeyMaterialExhausted}}, n)
}
