package wire

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/matrix-mimi/bridge/mimiside/mls"
)

func init() {
	decoders["key_materials_request"] = func(b []byte) (marshaler, error) { return UnmarshalKeyMaterialsRequest(b) }
	decoders["key_materials_response"] = func(b []byte) (marshaler, error) { return UnmarshalKeyMaterialsResponse(b) }
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
