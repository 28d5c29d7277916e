package policy

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/matrix-mimi/bridge/mimiside/content"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type marshaler interface{ Marshal() []byte }

// decoders turns a structure's name into its decoder.
var decoders = map[string]func([]byte) (any, error){
	"ParticipantListData":      func(b []byte) (any, error) { return UnmarshalParticipantList(b) },
	"ParticipantListUpdate":    func(b []byte) (any, error) { return UnmarshalParticipantListUpdate(b) },
	"RoomMetaData":             func(b []byte) (any, error) { return UnmarshalRoomMetaData(b) },
	"RoleData":                 func(b []byte) (any, error) { return UnmarshalRoleData(b) },
	"PreAuthData":              func(b []byte) (any, error) { return UnmarshalPreAuthData(b) },
	"BaseRoomPolicy":           func(b []byte) (any, error) { return UnmarshalBaseRoomPolicy(b) },
	"StatusNotificationPolicy": func(b []byte) (any, error) { return UnmarshalStatusNotificationPolicy(b) },
	"JoinLinkPolicy":           func(b []byte) (any, error) { return UnmarshalJoinLinkPolicy(b) },
	"JoinLinksData":            func(b []byte) (any, error) { return UnmarshalJoinLinks(b) },
	"JoinLinksUpdate":          func(b []byte) (any, error) { return UnmarshalJoinLinksUpdate(b) },
	"LinkPreviewPolicy":        func(b []byte) (any, error) { return UnmarshalLinkPreviewPolicy(b) },
	"AssetPolicy":              func(b []byte) (any, error) { return UnmarshalAssetPolicy(b) },
	"LoggingPolicy":            func(b []byte) (any, error) { return UnmarshalLoggingPolicy(b) },
	"HistoryPolicy":            func(b []byte) (any, error) { return UnmarshalHistoryPolicy(b) },
	"BotPolicy":                func(b []byte) (any, error) { return UnmarshalBotPolicy(b) },
	"MessageExpiration":        func(b []byte) (any, error) { return UnmarshalMessageExpiration(b) },
	"OperationalParameters":    func(b []byte) (any, error) { return UnmarshalOperationalParameters(b) },
	"FrankingAgentData":        func(b []byte) (any, error) { return UnmarshalFrankingAgentData(b) },
}

// roleHex is a Role by hand: index 2, name "u", description "d", capabilities 0x0000 and 0x0100, at least 1, at
// most 3, active at least 0, no maximum, authorised change 0 → 2, 1.
const roleHex = "00000002 01 75 01 64 04 0000 0100 00000001 01 00000003 00000000 00 0d 00000000 08 00000002 00000001"

func roleByHand() Role {
	return Role{Index: 2, Name: "u", Description: "d", Capabilities: []Capability{CanAddParticipant, CanSendMessage},
		MinParticipants: 1, MaxParticipants: number(3), AuthorizedChanges: []RoleChangeTargets{{0, []uint32{2, 1}}}}
}

// TestKnownAnswers compares every structure with octets written by hand from its definition in the drafts.
func TestKnownAnswers(t *testing.T) {
	cases := []struct {
		name  string
		value marshaler
		hex   string
	}{
		{"ParticipantListData", ParticipantList{{"a:b", 2}, {"c:d", 259}}, "10 03 613a62 00000002 03 633a64 00000103"},
		{"ParticipantListData", ParticipantList(nil), "00"},
		{"ParticipantListUpdate", &ParticipantListUpdate{
			ChangedRoles: []UserindexRolePair{{1, 3}}, Removed: []uint32{0, 2}, Added: []UserRolePair{{"a:b", 2}},
		}, "08 00000001 00000003  08 00000000 00000002  08 03 613a62 00000002"},
		{"ParticipantListUpdate", &ParticipantListUpdate{}, "00 00 00"},
		{"RoomMetaData", &RoomMetaData{RoomURI: "m:r", RoomName: "ä", Descriptions: []RichDescription{{"a/b", "en", []byte("hi")}, {"", "", []byte("x")}},
			RoomAvatar: "h:a", RoomSubject: "s", RoomMood: ""},
			"03 6d3a72 02 c3a4 0e 03 612f62 02 656e 02 6869 00 00 01 78 03 683a61 01 73 00"},
		{"RoleData", RoleData{roleByHand()}, "29" + roleHex},
		{"RoleData", RoleData{{Index: 0, MaxActive: number(0)}}, "16 00000000 00 00 00 00000000 00 00000000 01 00000000 00"},
		{"PreAuthData", PreAuthData{{Claims: []Claim{{ClaimID{2, "\x55\x1d\x11"}, "v"}}, TargetRole: roleByHand()}},
			"32 08 0002 03 551d11 01 76" + roleHex},
		{"BaseRoomPolicy", &BaseRoomPolicy{FixedMembership: true, ParentDependent: true, ParentRoom: "m:p", MultiDevice: true,
			MaxClients: number(9), Discoverable: true, PolicyComponents: []uint16{0x25, 0x26}},
			"01 01 04 03 6d3a70 01 01 00000009 00 00 00 01 04 0025 0026"},
		{"BaseRoomPolicy", &BaseRoomPolicy{MaxUsers: number(2), PersistentRoom: true, PseudonymsAllowed: true}, "00 00 00 00 00 01 00000002 01 01 00 00"},
		{"StatusNotificationPolicy", &StatusNotificationPolicy{Required, Forbidden}, "01 02"},
		{"JoinLinkPolicy", &JoinLinkPolicy{true, "h:l", false, 3600}, "01 03 683a6c 00 00000e10"},
		{"JoinLinksData", JoinLinks{"l1", "l2"}, "06 02 6c31 02 6c32"},
		{"JoinLinksUpdate", &JoinLinksUpdate{[]uint32{1}, []string{"l3"}}, "04 00000001 03 02 6c33"},
		{"LinkPreviewPolicy", &LinkPreviewPolicy{Optional, Required, Forbidden, Required, "h:p"}, "00 01 02 01 04 03 683a70"},
		{"LinkPreviewPolicy", &LinkPreviewPolicy{ProxyUse: Forbidden}, "00 00 00 02"},
		{"AssetPolicy", &AssetPolicy{Location: UploadLocalProvider, UploadDomains: []ProviderAssetUploadDomains{{"a.b", []string{"c.d"}}},
			DownloadPrivacy: DownloadPrivacy{[]DownloadPrivacyType{0, 1}, []DownloadPrivacyType{2}, 1},
			MaxImage:        1, MaxAudio: 2, MaxVideo: 3, MaxAttachment: 4, ForbiddenTypes: []content.MediaType{{Type: "x/y"}}, PermittedTypes: []content.MediaType{}},
			"01 09 03 612e62 04 03 632e64  02 00 01 01 02 01  0000000000000001 0000000000000002 0000000000000003 0000000000000004  05 03 782f79 00  01 00"},
		{"LoggingPolicy", &LoggingPolicy{Optional, []string{"m:c"}, "h:m", ""}, "00 04 03 6d3a63 03 683a6d 00"},
		{"LoggingPolicy", &LoggingPolicy{Logging: Forbidden}, "02"},
		{"HistoryPolicy", &HistoryPolicy{Required, []uint32{2}, true, 60}, "01 04 00000002 01 0000003c"},
		{"HistoryPolicy", &HistoryPolicy{Sharing: Forbidden}, "02"},
		{"BotPolicy", BotPolicy{{"n", "d", "h:h", false, 9, true, false}}, "0f 01 6e 01 64 03 683a68 00 00000009 01 00"},
		{"MessageExpiration", &MessageExpiration{Required, 1, 10, number(5)}, "01 00000001 0000000a 01 00000005"},
		{"MessageExpiration", &MessageExpiration{Expiring: Forbidden}, "02"},
		{"OperationalParameters", &OperationalParameters{
			Mandatory:        ExtendedCapabilities{Versions: []uint16{1}, ComponentIDs: []uint16{0x22}, ContentTypes: []byte{1, 2}},
			HandshakeFormats: []uint16{1}, ExternalProposalAllowed: true, PendingProposals: PendingProposalPolicy{PendingRandomDelay, 5, 6},
			LeafNodeUpdateTime: MinDefaultMaxTime{1, 2, 3}, AppMessages: AppMessagePolicy{1, 2, 3}, MaxKeyPackageLifetime: 4,
			MaxCredentialLifetime: 5, ResumptionPSKLifetime: 6, SenderNonceKeypairLifetime: MinDefaultMaxTime{7, 8, 9}, MaxKeypairs: 10,
			BufferIncomingMessageTime: MinDefaultMaxTime{11, 12, 13}, MaxBufferedMessages: 14,
		}, "02 0001 00 00 00 00 00 02 0022 00 00 02 0102" + strings.Repeat("00", 20) + "02 0001 01 00 02 0000000000000005 0000000000000006" +
			"0000000000000001 0000000000000002 0000000000000003 01 0002 00000003 0000000000000004 0000000000000005 0000000000000006" +
			"0000000000000007 0000000000000008 0000000000000009 0000000a 000000000000000b 000000000000000c 000000000000000d 0000000e"},
		{"FrankingAgentData", &FrankingAgentData{[]byte("key"), []byte{0, 1, 1, 'x'}}, "03 6b6579 0001 01 78"},
	}
	done := make(map[string]bool)
	for _, c := range cases {
		done[c.name] = true
		want := unhex(t, c.hex)
		if got := c.value.Marshal(); !bytes.Equal(got, want) {
			t.Errorf("%s encodes to\n%x, want\n%x", c.name, got, want)
			continue
		}
		back, err := decoders[c.name](want)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := back.(marshaler).Marshal(); !bytes.Equal(got, want) {
			t.Errorf("%s comes back as %+v", c.name, back)
		}
		if _, err := decoders[c.name](append(bytes.Clone(want), 0)); err == nil && c.name != "FrankingAgentData" {
			t.Errorf("%s: an octet after the end was taken", c.name)
		}
		for n := range want {
			if _, err := decoders[c.name](want[:n]); err != nil && !errors.Is(err, ErrMalformed) {
				t.Errorf("%s of %d octets: %v", c.name, n, err)
			}
		}
	}
	for name := range decoders {
		if !done[name] {
			t.Errorf("%s has no known answer", name)
		}
	}
}

// TestTwoReadings: where the draft writes a vector of one Uri, its prose's single Uri is understood, too.
func TestTwoReadings(t *testing.T) {
	p, err := UnmarshalBaseRoomPolicy(unhex(t, "01 01 03 6d3a70 01 00 00 00 00 00 00"))
	if err != nil || p.ParentRoom != "m:p" {
		t.Errorf("parent room %+v, %v", p, err)
	}
	l, err := UnmarshalLinkPreviewPolicy(unhex(t, "00 00 00 00 03 683a70"))
	if err != nil || l.Proxy != "h:p" {
		t.Errorf("proxy %+v, %v", l, err)
	}
	if l, err := UnmarshalLinkPreviewPolicy(unhex(t, "00 00 00 00 00")); err != nil || l.Proxy != "" {
		t.Errorf("no proxy %+v, %v", l, err)
	}
}

func TestStructureRefusals(t *testing.T) {
	cases := []struct{ name, what, hex string }{
		{"ParticipantListData", "user twice", "10 03 613a62 00000002 03 613a62 00000003"},
		{"ParticipantListData", "role 0", "08 03 613a62 00000000"},
		{"ParticipantListData", "empty user", "05 00 00000002"},
		{"ParticipantListData", "control character", "08 03 610a62 00000002"},
		{"ParticipantListData", "octet above 0x7e", "08 03 61c362 00000002"},
		{"RoomMetaData", "NUL in the name", "00 01 00 00 00 00 00"},
		{"RoomMetaData", "name that is not UTF-8", "00 01 ff 00 00 00 00"},
		{"RoleData", "index twice", "28 00000000 00 00 00 00000000 00 00000000 00 00 00000000 00 00 00 00000000 00 00000000 00 00"},
		{"RoleData", "presence octet 2", "14 00000000 00 00 00 00000000 02 00000000 00 00"},
		{"BaseRoomPolicy", "bool 2", "02 00 00 01 00 00 00 00 00 00"},
		{"BaseRoomPolicy", "parent-dependent without parent", "00 01 00 01 00 00 00 00 00 00"},
		{"BaseRoomPolicy", "parent is no URI", "00 01 03 6d2070 01 00 00 00 00 00 00"},
		{"StatusNotificationPolicy", "optionality 3", "00 03"},
		{"LinkPreviewPolicy", "autodetection required", "01 00 00 02"},
		{"LoggingPolicy", "required without a client", "01 00 00 00"},
		{"HistoryPolicy", "role 0 shares", "00 04 00000000 00 00000000"},
		{"HistoryPolicy", "role 1 shares", "00 04 00000001 00 00000000"},
		{"BotPolicy", "local bot with a role", "0a 00 00 00 01 00000002 00 00"},
		{"MessageExpiration", "minimum above maximum", "00 00000002 00000001 00"},
		{"MessageExpiration", "default above maximum", "00 00000001 00000002 01 00000003"},
		{"AssetPolicy", "location 3", "03"},
		{"FrankingAgentData", "no key", "00 0001 00"},
		{"FrankingAgentData", "no credential", "01 00"},
		{"JoinLinksUpdate", "half an index", "03 000000 00"},
	}
	for _, c := range cases {
		if v, err := decoders[c.name](unhex(t, c.hex)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s, %s: %+v, %v", c.name, c.what, v, err)
		}
	}
	long := make(JoinLinks, MaxList+1)
	if _, err := UnmarshalJoinLinks(long.Marshal()); !errors.Is(err, ErrMalformed) {
		t.Errorf("too many links: %v", err)
	}
}

func TestRoleRoundTrip(t *testing.T) {
	list32 := rapid.SliceOfN(rapid.Uint32(), 0, 5)
	optional := rapid.Custom(func(t *rapid.T) *uint32 {
		if rapid.Bool().Draw(t, "there") {
			return number(rapid.Uint32().Draw(t, "value"))
		}
		return nil
	})
	nilIfEmpty := func(v []uint32) []uint32 {
		if len(v) == 0 {
			return nil
		}
		return v
	}
	rapid.Check(t, func(t *rapid.T) {
		var d RoleData
		for _, index := range rapid.SliceOfNDistinct(rapid.Uint32(), 1, 5, rapid.ID[uint32]).Draw(t, "indexes") {
			r := Role{
				Index: index, Name: strings.ReplaceAll(rapid.StringN(0, 20, 80).Draw(t, "name"), "\x00", ""),
				MinParticipants: rapid.Uint32().Draw(t, "min"), MaxParticipants: optional.Draw(t, "max"),
				MinActive: rapid.Uint32().Draw(t, "min active"), MaxActive: optional.Draw(t, "max active"),
			}
			for _, c := range rapid.SliceOfN(rapid.Uint16(), 0, 5).Draw(t, "capabilities") {
				r.Capabilities = append(r.Capabilities, Capability(c))
			}
			for _, from := range list32.Draw(t, "from") {
				r.AuthorizedChanges = append(r.AuthorizedChanges, RoleChangeTargets{from, nilIfEmpty(list32.Draw(t, "targets"))})
			}
			d = append(d, r)
		}
		back, err := UnmarshalRoleData(d.Marshal())
		if err != nil || !reflect.DeepEqual(back, d) {
			t.Fatalf("%+v comes back as %+v, %v", d, back, err)
		}
	})
}

// FuzzPolicyStructures: what decodes encodes to an equal value, and nothing panics.
func FuzzPolicyStructures(f *testing.F) {
	f.Add([]byte("\x10\x03a:b\x00\x00\x00\x02\x03c:d\x00\x00\x01\x03"))
	f.Add(cooperative().Marshal())
	f.Add(defaultAssetPolicy().Marshal())
	f.Add((&OperationalParameters{}).Marshal())
	f.Fuzz(func(t *testing.T, in []byte) {
		for name, decode := range decoders {
			v, err := decode(in)
			if err != nil {
				continue
			}
			out := v.(marshaler).Marshal()
			again, err := decode(out)
			if err != nil || !reflect.DeepEqual(again, v) {
				t.Fatalf("%s %x encodes to %x, which decodes to %+v, %v", name, in, out, again, err)
			}
		}
		for _, logic := range Components() {
			_, _ = logic.Apply(nil, [][]byte{in})
			_, _ = logic.Apply(in, [][]byte{in, in})
		}
		dictionary := make(map[uint16][]byte)
		for id := ComponentFrankingAgent; id <= ComponentExpiration; id++ {
			dictionary[id] = in
		}
		_, _ = stateOf(dictionary)
	})
}
