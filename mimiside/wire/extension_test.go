package wire

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/matrix-mimi/bridge/mimiside/mls"
)

func init() {
	decoders["key_materials_request"] = func(b []byte) (marshaler, error) { return UnmarshalKeyMaterialsRequest(b) }
	decoders["key_materials_response"] = func(b []byte) (marshaler, error) { return UnmarshalKeyMaterialsResponse(b) }
}

func init() {
	decoders["room_destroyed"] = func(b []byte) (marshaler, error) { return UnmarshalRoomDestroyed(b) }
	decoders["user_deleted"] = func(b []byte) (marshaler, error) { return UnmarshalUserDeleted(b) }
	decoders["room_requests"] = func(b []byte) (marshaler, error) { return UnmarshalRoomRequests(b) }
	decoders["bulk_response"] = func(b []byte) (marshaler, error) { return UnmarshalBulkResponse(b) }
	decoders["submit_verdicts"] = func(b []byte) (marshaler, error) { return UnmarshalSubmitVerdicts(b) }
}

func FuzzWireBulk(f *testing.F) {
	fuzzStructs(f, func(marshaler) {}, "room_requests", "bulk_response", "submit_verdicts")
}

func FuzzWireEnds(f *testing.F) {
	fuzzStructs(f, func(v marshaler) {
		switch v := v.(type) {
		case *ReceivedRoomDestroyed:
			_, _ = v.Check("a.example")
		case *ReceivedUserDeleted:
			_, _ = v.Check("b.example")
		}
	}, "room_destroyed", "user_deleted")
}

// S004-056, S004-059: only its hub says that a room has ended, only its provider that a user has.
func TestWhoMaySayWhatEnded(t *testing.T) {
	room, err := UnmarshalRoomDestroyed(known(t, "room_destroyed"))
	if err != nil {
		t.Fatal(err)
	}
	if d, err := room.Check("A.example"); err != nil || d.Reason != DestroyedByAdmin || d.Timestamp != 0x19000000001 {
		t.Errorf("%+v, %v", d, err)
	}
	user, err := UnmarshalUserDeleted(known(t, "user_deleted"))
	if err != nil {
		t.Fatal(err)
	}
	if d, err := user.Check("b.example"); err != nil || d.UserURI != "mimi://b.example/u/bob" {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := room.Check("b.example"); !errors.Is(err, ErrForbidden) {
		t.Errorf("another provider ends a room: %v", err)
	}
	if _, err := user.Check("a.example"); !errors.Is(err, ErrForbidden) {
		t.Errorf("another provider deletes a user: %v", err)
	}
	for _, bad := range []IdentifierURI{"mimi://a.example/u/x", "nonsense"} {
		got, err := UnmarshalRoomDestroyed((&RoomDestroyed{RoomID: bad}).Marshal())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := got.Check("a.example"); err == nil {
			t.Errorf("room %q", bad)
		}
	}
}

// S004-045, S004-046, S004-058: several requests or verdicts in one body, within bounds.
func TestBulkBounds(t *testing.T) {
	var q RoomRequests
	for range MaxBulk {
		q = append(q, RoomRequest{"mimi://a.example/r/x", []byte{1}})
	}
	if got, err := UnmarshalRoomRequests(q.Marshal()); err != nil || len(got) != MaxBulk {
		t.Errorf("%d, %v", len(got), err)
	}
	if _, err := UnmarshalRoomRequests(append(q, q[0]).Marshal()); err == nil {
		t.Error("one more than allowed passes")
	}
	for _, decode := range []string{"room_requests", "submit_verdicts"} {
		if _, err := decoders[decode](nil); err == nil {
			t.Errorf("%s: an empty body passes", decode)
		}
	}
	if _, err := UnmarshalBulkResponse([]byte{1, 3}); err == nil {
		t.Error("an unknown code passes")
	}
}

func signedMany(t *testing.T, change func(*KeyMaterialsRequest)) *KeyMaterialsRequest {
	t.Helper()
	q := &KeyMaterialsRequest{KeyMaterialRequest: *signedRequest(t, testKeys()[0]), TargetUsers: []IdentifierURI{"mimi://b.example/u/bob", "mimi://b.example/u/beth"}}
	if change != nil {
		change(q)
	}
	if err := q.Sign(testKeys()[0]); err != nil {
		t.Fatal(err)
	}
	return q
}

// S004-010, S004-011 to S004-016: many users of one provider in one signed request.
func TestKeyMaterialsRequest(t *testing.T) {
	q := signedMany(t, nil)
	received, err := UnmarshalKeyMaterialsRequest(q.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	got, err := received.Check()
	if err != nil {
		t.Fatal(err)
	}
	one := got.Of(got.TargetUsers[1])
	if one.TargetUser != "mimi://b.example/u/beth" || one.RoomID != q.RoomID || one.Signature != nil || len(one.AcceptableSuites) == 0 {
		t.Errorf("%+v", one)
	}
	body := q.Marshal()
	for i := range body {
		changed := append([]byte{}, body...)
		changed[i] ^= 1
		if received, err := UnmarshalKeyMaterialsRequest(changed); err == nil {
			if _, err := received.Check(); err == nil {
				t.Errorf("byte %d can be changed", i)
			}
		}
	}
	for name, change := range map[string]func(*KeyMaterialsRequest){
		"nobody":              func(q *KeyMaterialsRequest) { q.TargetUsers = nil },
		"several providers":   func(q *KeyMaterialsRequest) { q.TargetUsers[1] = "mimi://c.example/u/beth" },
		"a user twice":        func(q *KeyMaterialsRequest) { q.TargetUsers[1] = "mimi://B.example/u/bob" },
		"a room":              func(q *KeyMaterialsRequest) { q.TargetUsers[1] = "mimi://b.example/r/room" },
		"requester is a room": func(q *KeyMaterialsRequest) { q.RequestingUser = "mimi://a.example/r/x" },
		"room is a user":      func(q *KeyMaterialsRequest) { q.RoomID = "mimi://a.example/u/x" },
	} {
		received, err := UnmarshalKeyMaterialsRequest(signedMany(t, change).Marshal())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := received.Check(); err == nil {
			t.Errorf("%s passes", name)
		}
	}
	many := signedMany(t, func(q *KeyMaterialsRequest) {
		for len(q.TargetUsers) <= MaxKeyMaterialUsers {
			q.TargetUsers = append(q.TargetUsers, "mimi://b.example/u/x")
		}
	})
	if _, err := UnmarshalKeyMaterialsRequest(many.Marshal()); err == nil {
		t.Error("more users than allowed pass")
	}
}

// S004-018, S004-019: per user a status, per client an error or a KeyPackage; what does not fit is as good as absent.
func TestKeyMaterialsResponse(t *testing.T) {
	q := signedMany(t, func(q *KeyMaterialsRequest) { q.TargetUsers = append(q.TargetUsers, "mimi://b.example/u/bella") })
	a := &KeyMaterialsResponse{Users: []*KeyMaterialResponse{
		{UserStatus: KeyMaterialNoConsent, UserURI: "mimi://b.example/u/bob"}, nil, {UserStatus: KeyMaterialUserDeleted, UserURI: "mimi://b.example/u/other"}}}
	received, err := UnmarshalKeyMaterialsResponse(a.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	got, err := received.Check(q)
	if err != nil || len(got) != 3 || got[0] == nil || got[0].UserStatus != KeyMaterialNoConsent || got[1] != nil || got[2] != nil {
		t.Errorf("%v, %v", got, err)
	}
	q.TargetUsers = q.TargetUsers[:2]
	if _, err := received.Check(q); err == nil {
		t.Error("an answer about more users than were asked for passes")
	}
}

func TestExtensionRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := &KeyMaterialsRequest{KeyMaterialRequest: KeyMaterialRequest{RequestingUser: genUser().Draw(t, "requester"), AcceptableSuites: []mls.Suite{1},
			RequesterSignatureKey: genBytes(70).Draw(t, "key"), RequesterCredential: genCredential().Draw(t, "credential")},
			TargetUsers: rapid.SliceOfN(genUser(), 0, 5).Draw(t, "targets"), Signature: genBytes(70).Draw(t, "signature")}
		same(t, "request", q, decoders["key_materials_request"])
		a := &KeyMaterialsResponse{Users: []*KeyMaterialResponse{nil, {UserURI: genUser().Draw(t, "user"), UserStatus: KeyMaterialUserUnknown}}}
		same(t, "answer", a, decoders["key_materials_response"])
		same(t, "requests", RoomRequests{{"mimi://a.example/r/x", genBytes(90).Draw(t, "one")}, {"mimi://a.example/r/y", genBytes(90).Draw(t, "two")}}, decoders["room_requests"])
		same(t, "verdicts", SubmitVerdicts{{RoomID: "mimi://a.example/r/x", Response: SubmitMessageResponse{AcceptedTimestamp: 1, Frank: genFrank().Draw(t, "frank")}},
			{RoomID: "mimi://a.example/r/x", Response: SubmitMessageResponse{StatusCode: SubmitEpochTooOld, CurrentEpoch: 7}}}, decoders["submit_verdicts"])
	})
}

func FuzzWireKeyMaterials(f *testing.F) {
	request, err := UnmarshalKeyMaterialsRequest(known(f, "key_materials_request"))
	if err != nil {
		f.Fatal(err)
	}
	fuzzStructs(f, func(v marshaler) {
		switch v := v.(type) {
		case *ReceivedKeyMaterialsRequest:
			_, _ = v.Check()
		case *ReceivedKeyMaterialsResponse:
			_, _ = v.Check(&request.request)
		}
	}, "key_materials_request", "key_materials_response")
}
