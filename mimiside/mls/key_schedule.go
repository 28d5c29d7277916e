package mls

import (
	"fmt"
	"io"

	"github.com/matrix-mimi/bridge/internal/tlspl"
)

// epochSecrets are the secrets of one epoch (RFC 9420 §8 Table 4; application_export:
// draft-ietf-mls-extensions-10 §2.5). encryption and applicationExport are nil once their trees have taken them over.
type epochSecrets struct {
	init              Secret
	senderData        Secret
	encryption        Secret
	exporter          Secret
	external          Secret
	confirmation      Secret
	membership        Secret
	resumption        Secret
	authenticator     Secret
	applicationExport Secret
}

// Format prints [secret] whatever the verb is.
func (*epochSecrets) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, secretText) }

// deriveJoinerSecret mixes the init secret of the epoch before with the commit secret. groupContext is the encoding
// of the new GroupContext; the commit secret of a commit without path is zeros.
func deriveJoinerSecret(suite Suite, initSecret, commitSecret Secret, groupContext []byte) Secret {
	prk := suite.Extract(initSecret, commitSecret)
	defer prk.Wipe()
	return suite.ExpandWithLabel(prk, "joiner", groupContext, suite.HashLength())
}

// deriveWelcomeSecret returns the secret under which a Welcome's GroupInfo is encrypted.
func deriveWelcomeSecret(suite Suite, joinerSecret, pskSecret Secret) Secret {
	member := suite.Extract(joinerSecret, pskSecret)
	defer member.Wipe()
	return suite.DeriveSecret(member, "welcome")
}

// deriveEpochSecret returns the epoch secret.
func deriveEpochSecret(suite Suite, joinerSecret, pskSecret Secret, groupContext []byte) Secret {
	member := suite.Extract(joinerSecret, pskSecret)
	defer member.Wipe()
	return suite.ExpandWithLabel(member, "epoch", groupContext, suite.HashLength())
}

// deriveEpochSecrets derives all secrets of an epoch. The caller wipes the epoch secret.
func deriveEpochSecrets(suite Suite, epochSecret Secret) *epochSecrets {
	derive := func(label string) Secret { return suite.DeriveSecret(epochSecret, label) }
	return &epochSecrets{
		init:              derive("init"),
		senderData:        derive("sender data"),
		encryption:        derive("encryption"),
		exporter:          derive("exporter"),
		external:          derive("external"),
		confirmation:      derive("confirm"),
		membership:        derive("membership"),
		resumption:        derive("resumption"),
		authenticator:     derive("authentication"),
		applicationExport: derive("application_export"),
	}
}

// all lists the secrets in the order of the stored form.
func (s *epochSecrets) all() []*Secret {
	return []*Secret{&s.init, &s.senderData, &s.encryption, &s.exporter, &s.external, &s.confirmation, &s.membership,
		&s.resumption, &s.authenticator, &s.applicationExport}
}

// append appends the stored form: each secret as opaque<V>, empty where there is none.
func (s *epochSecrets) append(b []byte) []byte {
	for _, secret := range s.all() {
		b = tlspl.AppendOpaque(b, *secret)
	}
	return b
}

// readEpochSecrets reads the stored form and copies what it reads.
func readEpochSecrets(r *tlspl.Reader) *epochSecrets {
	s := &epochSecrets{}
	for _, secret := range s.all() {
		if v := r.Opaque(-1); len(v) > 0 {
			*secret = Secret(v).Clone()
		}
	}
	return s
}

// wipe overwrites all secrets.
func (s *epochSecrets) wipe() {
	for _, secret := range s.all() {
		secret.Wipe()
		*secret = nil
	}
}

// externalKeyPair returns the key pair whose public part is external_pub (RFC 9420 §8.3).
func (s *epochSecrets) externalKeyPair(suite Suite) (priv Secret, pub []byte, err error) {
	return DeriveKeyPair(suite, s.external)
}

// export is MLS-Exporter (RFC 9420 §8.5); length is at most 255 times the suite's hash length.
func (s *epochSecrets) export(suite Suite, label string, context []byte, length int) (Secret, error) {
	if length < 0 || length > 255*suite.HashLength() {
		return nil, failf(KindBug, "export secret", ErrTooMany, "%d bytes", length)
	}
	derived := suite.DeriveSecret(s.exporter, label)
	defer derived.Wipe()
	return suite.ExpandWithLabel(derived, "exported", suite.Hash(context), length), nil
}

// welcomeKey returns the AEAD key and nonce of a Welcome's GroupInfo (RFC 9420 §12.4.3.1).
func welcomeKey(suite Suite, welcomeSecret Secret) (key, nonce Secret) {
	return suite.ExpandWithLabel(welcomeSecret, "key", nil, suite.must().nk),
		suite.ExpandWithLabel(welcomeSecret, "nonce", nil, nonceSize)
}

// sealWelcomeGroupInfo encrypts the encoding of a GroupInfo under the welcome secret.
func sealWelcomeGroupInfo(suite Suite, welcomeSecret Secret, groupInfo []byte) []byte {
	key, nonce := welcomeKey(suite, welcomeSecret)
	defer key.Wipe()
	return suite.newAEAD(key).Seal(nil, nonce, groupInfo, nil)
}

// openWelcomeGroupInfo is the reverse of sealWelcomeGroupInfo.
func openWelcomeGroupInfo(suite Suite, welcomeSecret Secret, encrypted []byte) ([]byte, error) {
	key, nonce := welcomeKey(suite, welcomeSecret)
	defer key.Wipe()
	out, err := suite.newAEAD(key).Open(nil, nonce, encrypted, nil)
	if err != nil {
		return nil, fail(KindInvalid, "decrypt GroupInfo of Welcome", ErrDecrypt)
	}
	return out, nil
}

// resolvedPSK is a pre-shared key with its id.
type resolvedPSK struct {
	id  PreSharedKeyID
	psk Secret
}

// derivePSKSecret combines the pre-shared keys of a commit in the order of its proposals; zeros when there are none
// (RFC 9420 §8.4).
func derivePSKSecret(suite Suite, psks []resolvedPSK) (Secret, error) {
	secret := suite.zeroSecret()
	if len(psks) > 1<<16-1 {
		return nil, failf(KindLimit, "combine pre-shared keys", ErrTooMany, "%d", len(psks))
	}
	for i := range psks {
		label := psks[i].id.append(nil)
		label = tlspl.AppendUint16(tlspl.AppendUint16(label, uint16(i)), uint16(len(psks)))
		extracted := suite.Extract(suite.zeroSecret(), psks[i].psk)
		input := suite.ExpandWithLabel(extracted, "derived psk", label, suite.HashLength())
		secret = suite.Extract(input, secret)
		extracted.Wipe()
		input.Wipe()
	}
	return secret, nil
}
