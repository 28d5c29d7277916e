package mls

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// No peer implements the structures of draft-ietf-mls-extensions-10 and of draft-mahy-mls-ratchet-tree-options as
// the engine has them. testdata/extensions.json holds an encoding of each, and results of the operations built on
// them, calculated by the functions of this file alone: byte strings put together by hand, HMAC, Ed25519, HPKE. The
// tests compare the file with the calculation, and the engine with the file.

var updateKnownAnswers = flag.Bool("update", false, "write testdata/extensions.json from the independent calculation")

func u8(v uint8) []byte   { return []byte{v} }
func u16(v uint16) []byte { return []byte{byte(v >> 8), byte(v)} }
func u32(v uint32) []byte { return []byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)} }
func u64(v uint64) []byte { return append(u32(uint32(v>>32)), u32(uint32(v))...) }
func cat(parts ...[]byte) []byte {
	return slices.Concat(parts...)
}

// vec is a vector <V> around parts.
func vec(parts ...[]byte) []byte {
	body := cat(parts...)
	switch n := len(body); {
	case n < 1<<6:
		return append([]byte{byte(n)}, body...)
	case n < 1<<14:
		return append([]byte{0x40 | byte(n>>8), byte(n)}, body...)
	default:
		return append([]byte{0x80 | byte(n>>24), byte(n >> 16), byte(n >> 8), byte(n)}, body...)
	}
}

func str(s string) []byte { return vec([]byte(s)) }

func hmac256(key []byte, parts ...[]byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(cat(parts...))
	return m.Sum(nil)
}

// expand256 is ExpandWithLabel of SHA-256 suites for up to 32 bytes.
func expand256(secret []byte, label string, context []byte, n int) []byte {
	return hmac256(secret, u16(uint16(n)), str("MLS 1.0 "+label), vec(context), u8(1))[:n]
}

const (
	katSeed    = "0123456789abcdef0123456789abcdef"
	katSecret  = "an application_export secret ..."
	katPSK     = "what all components agree on"
	katMessage = "signed by a component"
)

// independentAnswers calculates every entry of the file.
func independentAnswers() map[string]string {
	label := cat(str("MLS Component"), u16(0x8123), str("example"))
	pskID := cat(u8(3), u16(0x8001), str("passphrase"), vec(bytes.Repeat([]byte{7}, 32)))
	seed := ed25519.NewKeyFromSeed([]byte(katSeed))
	return hexed(map[string][]byte{
		"AppDataDictionary empty": {0},
		"AppDataDictionary": vec(u16(1), vec(vec(u16(2), u16(0x22))), u16(0x22), str("participants"),
			u16(0x8000), vec(bytes.Repeat([]byte{0xaa}, 70))),
		"AppDataUpdate update":     cat(u16(8), u16(0x23), u8(1), str("new data")),
		"AppDataUpdate remove":     cat(u16(8), u16(0x23), u8(2)),
		"AppEphemeral":             cat(u16(9), u16(5), vec(vec(u32(1), u32(2), u32(3)))),
		"SelfRemove":               u16(10),
		"SafeAAD empty":            {0},
		"SafeAAD":                  vec(u16(0x20), str("frank"), u16(0x8000), vec()),
		"ComponentsList":           vec(u16(1), u16(2), u16(3), u16(0x22), u16(0x1a1a)),
		"WireFormats":              vec(u16(1), u16(2), u16(0xfafe)),
		"MediaTypeList":            vec(str("application/mimi-content"), vec(), str("text/plain"), vec(str("charset"), str("UTF-8"))),
		"ApplicationFraming":       cat(str("text/plain"), vec(str("charset"), str("UTF-8")), str("hello")),
		"ApplicationFraming empty": cat(vec(), vec(), vec([]byte{0x87, 0})),
		"ComponentOperationLabel":  label,
		"PreSharedKeyID":           pskID,
		"RatchetTreeOption full":   cat(u8(1), vec(u8(0))),
		"RatchetTreeOption https":  cat(u8(2), str("https://hub.example/tree"), vec(u32(7))),
		"RatchetTreeOption oob":    cat(u8(3), vec(u32(7))),
		"RatchetTreeOption ds":     u8(4),
		"PartialGroupInfo":         cat(u8(2), vec(u16(4), vec(vec(u32(9)))), vec(u64(8))),

		"SafeSignWithLabel":     ed25519.Sign(seed, cat(vec([]byte("MLS 1.0 "), label), str(katMessage))),
		"SafeExportSecret 0022": exported(0x22),
		"SafeExportSecret ffff": exported(0xffff),
		"psk_secret of two":     combined(pskID),
	})
}

// exported walks the exporter tree of 2^16 leaves from the root, one bit of the component at a level.
func exported(component uint16) []byte {
	secret := []byte(katSecret)
	for bit := 15; bit >= 0; bit-- {
		side := "left"
		if component>>bit&1 == 1 {
			side = "right"
		}
		secret = expand256(secret, "tree", []byte(side), 32)
	}
	return secret
}

// combined is the psk_secret of an external PSK and a component's PSK, in this order.
func combined(componentID []byte) []byte {
	external := cat(u8(1), str("external"), vec(bytes.Repeat([]byte{9}, 32)))
	secret := make([]byte, 32)
	for i, id := range [][]byte{external, componentID} {
		extracted := hmac256(make([]byte, 32), []byte(katPSK))
		input := expand256(extracted, "derived psk", cat(id, u16(uint16(i)), u16(2)), 32)
		secret = hmac256(input, secret)
	}
	return secret
}

func hexed(m map[string][]byte) map[string]string {
	out := map[string]string{}
	for k, v := range m {
		out[k] = hex.EncodeToString(v)
	}
	return out
}

func knownAnswers(t *testing.T) map[string][]byte {
	t.Helper()
	file := filepath.Join("testdata", "extensions.json")
	if *updateKnownAnswers {
		b, err := json.MarshalIndent(independentAnswers(), "", "\t")
		ok(t, "encode", err)
		ok(t, "write", os.WriteFile(file, append(b, '\n'), 0o644))
	}
	b, err := os.ReadFile(file)
	ok(t, "read", err)
	var raw map[string]hexBytes
	ok(t, "decode", json.Unmarshal(b, &raw))
	out := map[string][]byte{}
	for k, v := range raw {
		out[k] = v
	}
	return out
}

func TestKnownAnswersAreIndependent(t *testing.T) {
	want, got := independentAnswers(), hexed(knownAnswers(t))
	if len(want) != len(got) {
		t.Fatalf("%d entries in the file, %d calculated", len(got), len(want))
	}
	for name, v := range want {
		if got[name] != v {
			t.Errorf("%s: file has %s, calculation gives %s", name, got[name], v)
		}
	}
}

func TestKnownAnswersOfStructures(t *testing.T) {
	frank := []byte("frank")
	aa := bytes.Repeat([]byte{0xaa}, 70)
	plain := MediaType{Type: "text/plain", Parameters: []MediaTypeParameter{{Name: "charset", Value: "UTF-8"}}}
	update := &AppDataUpdate{Component: ComponentRoomMetadata, Operation: AppDataUpdateSet, Update: []byte("new data")}
	remove := &AppDataUpdate{Component: ComponentRoomMetadata, Operation: AppDataUpdateRemove}
	built := map[string][]byte{
		"AppDataDictionary empty": AppDataDictionary{}.Marshal(),
		"AppDataDictionary": AppDataDictionary{}.Set(0x8000, aa).Set(0x22, []byte("participants")).
			Set(1, ComponentsList{2, 0x22}.Marshal()).Set(5, frank).Remove(5).Marshal(),
		"AppDataUpdate update":     (&Proposal{Type: ProposalAppDataUpdate, AppDataUpdate: update}).Marshal(),
		"AppDataUpdate remove":     (&Proposal{Type: ProposalAppDataUpdate, AppDataUpdate: remove}).Marshal(),
		"SelfRemove":               (&Proposal{Type: ProposalSelfRemove}).Marshal(),
		"SafeAAD empty":            SafeAAD{}.Marshal(),
		"SafeAAD":                  SafeAAD{}.Set(0x8000, nil).Set(ComponentFrankAAD, frank).Marshal(),
		"ComponentsList":           ComponentsList{1, 2, 3, 0x22, 0x1a1a}.Marshal(),
		"WireFormats":              WireFormats{WireFormatPublicMessage, WireFormatPrivateMessage, WireFormatSemiPrivateMessage}.Marshal(),
		"MediaTypeList":            MediaTypeList{{Type: "application/mimi-content"}, plain}.Marshal(),
		"ApplicationFraming":       (&ApplicationFraming{MediaType: plain, Content: []byte("hello")}).Marshal(),
		"ApplicationFraming empty": (&ApplicationFraming{Content: []byte{0x87, 0}}).Marshal(),
		"ComponentOperationLabel":  ComponentOperationLabel(0x8123, "example"),
		"RatchetTreeOption ds":     (&RatchetTreeOption{Representation: RatchetTreeDistributionService}).Marshal(),
		"PreSharedKeyID": (&PreSharedKeyID{Type: PSKApplication, Component: 0x8001, ID: []byte("passphrase"),
			Nonce: bytes.Repeat([]byte{7}, 32)}).Marshal(),
		"PartialGroupInfo": (&PartialGroupInfo{Presence: RatchetTreeRemoved,
			Extensions: Extensions{ExternalPubExtension(u32(9))}, Signature: u64(8)}).Marshal(),
		"AppEphemeral": (&Proposal{Type: ProposalAppEphemeral, AppEphemeral: &AppEphemeral{Component: ComponentAppAck,
			Data: vec(u32(1), u32(2), u32(3))}}).Marshal(),
	}
	answers := knownAnswers(t)
	for name, got := range built {
		same(t, name, got, answers[name])
	}
	proposal := recoder(UnmarshalProposal, (*Proposal).Marshal)
	option := recoder(UnmarshalRatchetTreeOption, (*RatchetTreeOption).Marshal)
	framing := recoder(UnmarshalApplicationFraming, (*ApplicationFraming).Marshal)
	dictionary := recoder(UnmarshalAppDataDictionary, AppDataDictionary.Marshal)
	safeAAD := recoder(UnmarshalSafeAAD, SafeAAD.Marshal)
	recoders := map[string]func([]byte) ([]byte, error){
		"AppDataDictionary empty": dictionary, "AppDataDictionary": dictionary,
		"AppDataUpdate update": proposal, "AppDataUpdate remove": proposal, "AppEphemeral": proposal,
		"SafeAAD empty": safeAAD, "SafeAAD": safeAAD,
		"ComponentsList":     recoder(UnmarshalComponentsList, ComponentsList.Marshal),
		"WireFormats":        recoder(UnmarshalWireFormats, WireFormats.Marshal),
		"MediaTypeList":      recoder(UnmarshalMediaTypeList, MediaTypeList.Marshal),
		"ApplicationFraming": framing, "ApplicationFraming empty": framing,
		"PreSharedKeyID":         recoder(UnmarshalPreSharedKeyID, func(id PreSharedKeyID) []byte { return id.Marshal() }),
		"RatchetTreeOption full": option, "RatchetTreeOption https": option, "RatchetTreeOption oob": option,
		"RatchetTreeOption ds": option, "SelfRemove": proposal,
		"PartialGroupInfo": recoder(UnmarshalPartialGroupInfo, (*PartialGroupInfo).Marshal),
	}
	for name, recode := range recoders {
		got, err := recode(answers[name])
		ok(t, name, err)
		same(t, name, got, answers[name])
		if _, err := recode(append(bytes.Clone(answers[name]), 0)); err == nil {
			t.Errorf("%s: a trailing byte was accepted", name)
		}
		for n := range answers[name] {
			if _, err := recode(answers[name][:n]); err == nil {
				t.Errorf("%s: accepted although only %d bytes are there", name, n)
			}
		}
	}
}

func TestKnownAnswersOfOperations(t *testing.T) {
	const suite = SuiteX25519AES128Ed25519
	answers := knownAnswers(t)

	key, err := NewSignatureKey(suite, Secret(katSeed))
	ok(t, "signature key", err)
	sig, err := SafeSignWithLabel(key, 0x8123, "example", []byte(katMessage))
	ok(t, "SafeSignWithLabel", err)
	same(t, "SafeSignWithLabel", sig, answers["SafeSignWithLabel"])
	ok(t, "SafeVerifyWithLabel", SafeVerifyWithLabel(suite, key.Public(), 0x8123, "example", []byte(katMessage), sig))
	if SafeVerifyWithLabel(suite, key.Public(), 0x8124, "example", []byte(katMessage), sig) == nil {
		t.Fatal("a signature holds for another component")
	}

	tree := newExportTree(suite, Secret(katSecret).Clone())
	for _, component := range []ComponentID{0x22, 0xffff} {
		secret, err := tree.export(component)
		ok(t, "SafeExportSecret", err)
		same(t, "SafeExportSecret", secret, answers["SafeExportSecret "+hex.EncodeToString(u16(uint16(component)))])
	}

	id, err := UnmarshalPreSharedKeyID(answers["PreSharedKeyID"])
	ok(t, "PreSharedKeyID", err)
	external := PreSharedKeyID{Type: PSKExternal, ID: []byte("external"), Nonce: bytes.Repeat([]byte{9}, 32)}
	got, err := derivePSKSecret(suite, []resolvedPSK{{external, Secret(katPSK)}, {id, Secret(katPSK)}})
	ok(t, "psk_secret", err)
	same(t, "psk_secret", got, answers["psk_secret of two"])

	// Each side of SafeEncryptWithLabel against crypto/hpke with the info string put together here.
	info := cat(vec([]byte("MLS 1.0 "), answers["ComponentOperationLabel"]), str("context"))
	priv, pub, err := DeriveKeyPair(suite, Secret(katSeed))
	ok(t, "key pair", err)
	c, err := SafeEncryptWithLabel(suite, pub, 0x8123, "example", []byte("context"), []byte(katMessage))
	ok(t, "SafeEncryptWithLabel", err)
	raw, err := ecdh.X25519().NewPrivateKey(priv)
	ok(t, "private key", err)
	sk, err := hpke.NewDHKEMPrivateKey(raw)
	ok(t, "private key", err)
	plain, err := hpke.Open(sk, hpke.HKDFSHA256(), hpke.AES128GCM(), info, cat(c.KEMOutput, c.Ciphertext))
	ok(t, "open", err)
	same(t, "plaintext", plain, []byte(katMessage))
	sealed, err := hpke.Seal(sk.PublicKey(), hpke.HKDFSHA256(), hpke.AES128GCM(), info, []byte(katMessage))
	ok(t, "seal", err)
	plain, err = SafeDecryptWithLabel(suite, priv, 0x8123, "example", []byte("context"), HPKECiphertext{sealed[:32], sealed[32:]})
	ok(t, "SafeDecryptWithLabel", err)
	same(t, "plaintext", plain, []byte(katMessage))
	if _, err := SafeDecryptWithLabel(suite, priv, 0x8124, "example", []byte("context"), c); err == nil {
		t.Fatal("another component decrypted")
	}
}
