package mls

import (
	"fmt"
	"io"

	"github.com/matrix-mimi/bridge/internal/tlspl"
)

// KeyPackage is what a client publishes so that others can add it to groups (RFC 9420 §10). A decoded or signed
// KeyPackage remembers its bytes and must not be changed.
type KeyPackage struct {
	Version    ProtocolVersion
	Suite      Suite
	InitKey    []byte
	Leaf       LeafNode
	Extensions Extensions
	Signature  []byte

	raw     []byte
	made    bool // raw is what NewKeyPackage made
	checked bool // it was decoded from bytes that were found good; only inside a commit that is made
}

// CheckedKeyPackage is a KeyPackage whose version, keys and signatures were found good. A commit that adds it does not
// verify them again.
type CheckedKeyPackage struct{ kp *KeyPackage }

// KeyPackage returns the KeyPackage, nil for the zero value. It must not be changed.
func (c CheckedKeyPackage) KeyPackage() *KeyPackage { return c.kp }

// Check is Verify for one that is to be added later. One that NewKeyPackage made is good already.
func (kp *KeyPackage) Check() (CheckedKeyPackage, error) {
	fresh, err := UnmarshalKeyPackage(kp.Marshal()) // the bytes are judged and used, whatever became of the fields
	if err == nil && !(kp.made && kp.raw != nil) {
		err = fresh.Verify()
	}
	if err != nil {
		return CheckedKeyPackage{}, err
	}
	return CheckedKeyPackage{fresh}, nil
}

// ReadKeyPackage reads a KeyPackage from a stream.
func ReadKeyPackage(r *tlspl.Reader) KeyPackage {
	start := r.Offset()
	kp := KeyPackage{
		Version:    readVersion(r),
		Suite:      Suite(r.Uint16()),
		InitKey:    r.Opaque(-1),
		Leaf:       ReadLeafNode(r),
		Extensions: ReadExtensions(r),
		Signature:  r.Opaque(-1),
	}
	kp.raw = r.Since(start)
	return kp
}

// UnmarshalKeyPackage decodes a KeyPackage (the bare struct, not an MLSMessage). The result aliases b.
func UnmarshalKeyPackage(b []byte) (*KeyPackage, error) {
	kp, err := decode("KeyPackage", b, ReadKeyPackage)
	if err != nil {
		return nil, err
	}
	return &kp, nil
}

func (kp *KeyPackage) tbs(b []byte) []byte {
	b = tlspl.AppendUint16(b, uint16(kp.Version))
	b = tlspl.AppendUint16(b, uint16(kp.Suite))
	b = tlspl.AppendOpaque(b, kp.InitKey)
	b = kp.Leaf.append(b)
	return kp.Extensions.append(b)
}

func (kp *KeyPackage) appendFields(b []byte) []byte {
	return tlspl.AppendOpaque(kp.tbs(b), kp.Signature)
}

func (kp *KeyPackage) append(b []byte) []byte {
	if kp.raw != nil {
		return append(b, kp.raw...)
	}
	return kp.appendFields(b)
}

// Marshal returns the encoding: the very bytes that were decoded or signed. The caller must not change them.
func (kp *KeyPackage) Marshal() []byte {
	if kp.raw != nil {
		return kp.raw
	}
	return kp.appendFields(nil)
}

// Ref returns the KeyPackageRef (RFC 9420 §5.2). It panics for a suite that the engine does not have.
func (kp *KeyPackage) Ref() []byte {
	ref, err := RefHash(kp.Suite, refLabelKeyPackage, kp.Marshal())
	if err != nil {
		panic(err)
	}
	return ref
}

const signLabelKeyPackage = "KeyPackageTBS"

// Verify checks version, suite, both signatures and that the init key differs from the leaf's key (RFC 9420 §10.1).
// Lifetime, capabilities and credential are for the caller.
func (kp *KeyPackage) Verify() error {
	const op = "verify KeyPackage"
	if kp.Version != VersionMLS10 {
		return fail(KindUnsupported, op, ErrUnknownVersion)
	}
	if err := CheckPublicKey(kp.Suite, kp.InitKey); err != nil {
		return fail(KindInvalid, op, err)
	}
	if err := CheckPublicKey(kp.Suite, kp.Leaf.EncryptionKey); err != nil {
		return fail(KindInvalid, op, err)
	}
	if string(kp.InitKey) == string(kp.Leaf.EncryptionKey) {
		return failf(KindInvalid, op, ErrKey, "init key is the leaf's encryption key")
	}
	if kp.Leaf.Source != LeafSourceKeyPackage {
		return failf(KindInvalid, op, ErrUnknownValue, "leaf_node_source is not key_package")
	}
	if err := kp.Leaf.Verify(kp.Suite, LeafNodeContext{}); err != nil {
		return fail(KindInvalid, op, err)
	}
	tbs := kp.tbs(make([]byte, 0, len(kp.raw)))
	if err := VerifyWithLabel(kp.Suite, kp.Leaf.SignatureKey, signLabelKeyPackage, tbs, kp.Signature); err != nil {
		return fail(KindInvalid, op, err)
	}
	return nil
}

// LastResort tells whether the KeyPackage marks itself as one that may be used more than once
// (draft-ietf-mls-extensions-10 §4.4).
func (kp *KeyPackage) LastResort() bool {
	data, ok := kp.Extensions.Find(ExtensionAppDataDictionary)
	if !ok {
		return false
	}
	dict, err := UnmarshalAppDataDictionary(data)
	if err != nil {
		return false
	}
	_, ok = dict.Get(ComponentLastResortKeyPackage)
	return ok
}

// KeyPackageParams says what a new KeyPackage holds.
type KeyPackageParams struct {
	Suite          Suite
	Credential     Credential
	SignatureKey   *SignatureKey // of the same suite
	Capabilities   Capabilities
	Lifetime       Lifetime
	LeafExtensions Extensions
	Extensions     Extensions
	LastResort     bool // adds the last_resort_key_package component to Extensions
}

// KeyPackagePrivate is the private side of a KeyPackage. It prints as [secret].
type KeyPackagePrivate struct {
	Suite         Suite
	InitKey       Secret
	EncryptionKey Secret
	SignatureKey  *SignatureKey
}

// Format prints [secret] whatever the verb is.
func (KeyPackagePrivate) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, secretText) }

// NewKeyPackage makes and signs a KeyPackage with fresh HPKE keys from rand (RFC 9420 §10).
func NewKeyPackage(rand io.Reader, params KeyPackageParams) (*KeyPackage, *KeyPackagePrivate, error) {
	const op = "make KeyPackage"
	if err := params.Suite.Check(); err != nil {
		return nil, nil, fail(KindUnsupported, op, err)
	}
	if params.SignatureKey == nil || params.SignatureKey.Suite() != params.Suite {
		return nil, nil, failf(KindBug, op, ErrKey, "signature key is of another suite")
	}
	initPriv, initPub, err := GenerateKeyPair(rand, params.Suite)
	if err != nil {
		return nil, nil, fail(KindBug, op, err)
	}
	encPriv, encPub, err := GenerateKeyPair(rand, params.Suite)
	if err != nil {
		return nil, nil, fail(KindBug, op, err)
	}
	extensions, err := withLastResort(params.Extensions, params.LastResort)
	if err != nil {
		return nil, nil, fail(KindBug, op, err)
	}
	kp := &KeyPackage{
		Version: VersionMLS10,
		Suite:   params.Suite,
		InitKey: initPub,
		Leaf: LeafNode{
			EncryptionKey: encPub,
			Credential:    params.Credential,
			Capabilities:  params.Capabilities,
			Source:        LeafSourceKeyPackage,
			Lifetime:      params.Lifetime,
			Extensions:    params.LeafExtensions,
		},
		Extensions: extensions,
	}
	if err := kp.Leaf.Sign(params.SignatureKey, LeafNodeContext{}); err != nil {
		return nil, nil, fail(KindBug, op, err)
	}
	if kp.Signature, err = params.SignatureKey.Sign(signLabelKeyPackage, kp.tbs(nil)); err != nil {
		return nil, nil, fail(KindBug, op, err)
	}
	kp.raw, kp.made = kp.appendFields(nil), true
	private := &KeyPackagePrivate{Suite: params.Suite, InitKey: initPriv, EncryptionKey: encPriv,
		SignatureKey: params.SignatureKey}
	return kp, private, nil
}

func withLastResort(extensions Extensions, lastResort bool) (Extensions, error) {
	if !lastResort {
		return extensions, nil
	}
	var dict AppDataDictionary
	if data, ok := extensions.Find(ExtensionAppDataDictionary); ok {
		var err error
		if dict, err = UnmarshalAppDataDictionary(data); err != nil {
			return nil, err
		}
	}
	dict = dict.Set(ComponentLastResortKeyPackage, nil)
	return extensions.With(ExtensionAppDataDictionary, dict.Marshal()), nil
}

const keyPackagePrivateVersion = 1

// Marshal returns the private keys for sealed storage, versioned.
func (p *KeyPackagePrivate) Marshal() Secret {
	b := tlspl.AppendUint16([]byte{keyPackagePrivateVersion}, uint16(p.Suite))
	b = tlspl.AppendOpaque(b, p.InitKey)
	b = tlspl.AppendOpaque(b, p.EncryptionKey)
	return append(b, p.SignatureKey.Marshal()...)
}

// UnmarshalKeyPackagePrivate reads what Marshal wrote.
func UnmarshalKeyPackagePrivate(b Secret) (*KeyPackagePrivate, error) {
	const op = "decode private KeyPackage"
	r := tlspl.NewReader(b)
	if version := r.Uint8(); version != keyPackagePrivateVersion && r.Err() == nil {
		return nil, fail(KindUnsupported, op, ErrStateVersion)
	}
	p := &KeyPackagePrivate{Suite: Suite(r.Uint16()), InitKey: Secret(r.Opaque(-1)).Clone(),
		EncryptionKey: Secret(r.Opaque(-1)).Clone()}
	key, err := readSignatureKey(r)
	if err != nil {
		return nil, fail(KindMalformed, op, err)
	}
	if err := r.Close(); err != nil {
		return nil, fail(KindMalformed, op, err)
	}
	p.SignatureKey = key
	return p, nil
}
