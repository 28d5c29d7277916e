package mls

import (
	"bytes"
	"slices"

	"github.com/matrix-mimi/bridge/internal/tlspl"
)

// Credential says who a member is (RFC 9420 §5.3). The engine does not judge it; a CredentialValidator does.
type Credential struct {
	Type         CredentialType
	Identity     []byte   // of a basic credential
	Certificates [][]byte // DER, leaf first, of an X.509 credential
	Raw          []byte   // body of a credential of another type: the content of its one vector
}

// BasicCredential returns a basic credential.
func BasicCredential(identity []byte) Credential {
	return Credential{Type: CredentialBasic, Identity: identity}
}

// X509Credential returns an X.509 credential with a chain of DER certificates, leaf first.
func X509Credential(chain ...[]byte) Credential {
	return Credential{Type: CredentialX509, Certificates: chain}
}

// ReadCredential reads a Credential from a stream. A credential of unknown type is taken to be one vector, as all
// that were ever proposed are; anything else could not be told from what follows.
func ReadCredential(r *tlspl.Reader) Credential {
	c := Credential{Type: CredentialType(r.Uint16())}
	switch c.Type {
	case CredentialBasic:
		c.Identity = r.Opaque(-1)
	case CredentialX509:
		c.Certificates = readList(r, maxCertificates, func(r *tlspl.Reader) []byte { return r.Opaque(-1) })
	default:
		c.Raw = r.Opaque(-1)
	}
	return c
}

// UnmarshalCredential decodes a Credential.
func UnmarshalCredential(b []byte) (Credential, error) {
	return decode("Credential", b, ReadCredential)
}

func (c *Credential) append(b []byte) []byte {
	b = tlspl.AppendUint16(b, uint16(c.Type))
	switch c.Type {
	case CredentialBasic:
		return tlspl.AppendOpaque(b, c.Identity)
	case CredentialX509:
		return appendList(b, c.Certificates, func(der *[]byte, b []byte) []byte { return tlspl.AppendOpaque(b, *der) })
	default:
		return tlspl.AppendOpaque(b, c.Raw)
	}
}

// Marshal returns the encoding.
func (c *Credential) Marshal() []byte { return c.append(nil) }

// Equal tells whether both have the same encoding.
func (c *Credential) Equal(other *Credential) bool {
	return c.Type == other.Type && bytes.Equal(c.Identity, other.Identity) && bytes.Equal(c.Raw, other.Raw) &&
		slices.EqualFunc(c.Certificates, other.Certificates, bytes.Equal)
}
