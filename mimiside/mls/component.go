package mls

import (
	"github.com/matrix-mimi/bridge/internal/tlspl"
)

// componentBaseLabel is the base label since draft-ietf-mls-extensions-09; up to -08 it was "Application", with ids of
// 32 bits.
const componentBaseLabel = "MLS Component"

// ComponentOperationLabel returns the encoded label of an operation of a component (draft-ietf-mls-extensions-10
// §2.1): what the Safe functions hand to the functions of RFC 9420 as their label.
func ComponentOperationLabel(component ComponentID, label string) []byte {
	b := tlspl.AppendString(nil, componentBaseLabel)
	b = tlspl.AppendUint16(b, uint16(component))
	return tlspl.AppendString(b, label)
}

// SafeSignWithLabel signs on behalf of a component (draft-ietf-mls-extensions-10 §2.3).
func SafeSignWithLabel(key *SignatureKey, component ComponentID, label string, content []byte) ([]byte, error) {
	return SignWithLabel(key, string(ComponentOperationLabel(component, label)), content)
}

// SafeVerifyWithLabel verifies what SafeSignWithLabel signed.
func SafeVerifyWithLabel(suite Suite, pub []byte, component ComponentID, label string, content, sig []byte) error {
	return VerifyWithLabel(suite, pub, string(ComponentOperationLabel(component, label)), content, sig)
}

// SafeEncryptWithLabel encrypts on behalf of a component (draft-ietf-mls-extensions-10 §2.2).
func SafeEncryptWithLabel(suite Suite, pub []byte, component ComponentID, label string,
	context, plaintext []byte) (HPKECiphertext, error) {
	return EncryptWithLabel(suite, pub, string(ComponentOperationLabel(component, label)), context, plaintext)
}

// SafeDecryptWithLabel decrypts what SafeEncryptWithLabel encrypted.
func SafeDecryptWithLabel(suite Suite, priv Secret, component ComponentID, label string, context []byte,
	c HPKECiphertext) (Secret, error) {
	return DecryptWithLabel(suite, priv, string(ComponentOperationLabel(component, label)), context, c)
}
