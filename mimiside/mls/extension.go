package mls

import (
	"github.com/matrix-mimi/bridge/internal/tlspl"
)

// Extension is one extension, its content undecoded (RFC 9420 §13).
type Extension struct {
	Type ExtensionType
	Data []byte
}

// Extensions is a list of extensions, in the order of the encoding.
type Extensions []Extension

func readExtension(r *tlspl.Reader) Extension {
	return Extension{Type: ExtensionType(r.Uint16()), Data: r.Opaque(-1)}
}

func (e *Extension) append(b []byte) []byte {
	return tlspl.AppendOpaque(tlspl.AppendUint16(b, uint16(e.Type)), e.Data)
}

// ReadExtensions reads a list of extensions from a stream. The same type twice is refused (RFC 9420 §13.4).
func ReadExtensions(r *tlspl.Reader) Extensions {
	list := Extensions(readList(r, maxExtensions, readExtension))
	for i := range list {
		for j := range i {
			if list[j].Type == list[i].Type {
				r.Fail(ErrOrder)
				return nil
			}
		}
	}
	return list
}

// UnmarshalExtensions decodes a list of extensions.
func UnmarshalExtensions(b []byte) (Extensions, error) {
	return decode("extensions", b, ReadExtensions)
}

func (l Extensions) append(b []byte) []byte { return appendList(b, l, (*Extension).append) }

// Marshal returns the encoding.
func (l Extensions) Marshal() []byte { return l.append(nil) }

// Find returns the content of the extension of the given type.
func (l Extensions) Find(t ExtensionType) ([]byte, bool) {
	for i := range l {
		if l[i].Type == t {
			return l[i].Data, true
		}
	}
	return nil, false
}

// With returns a copy of the list in which the extension of type t holds data: replaced in place, or put at the end.
func (l Extensions) With(t ExtensionType, data []byte) Extensions {
	out := append(make(Extensions, 0, len(l)+1), l...)
	for i := range out {
		if out[i].Type == t {
			out[i].Data = data
			return out
		}
	}
	return append(out, Extension{Type: t, Data: data})
}

// Without returns a copy of the list that lacks the extension of type t.
func (l Extensions) Without(t ExtensionType) Extensions {
	out := make(Extensions, 0, len(l))
	for i := range l {
		if l[i].Type != t {
			out = append(out, l[i])
		}
	}
	return out
}

// RequiredCapabilities is the content of the required_capabilities extension (RFC 9420 §11.1). The defaults of
// RFC 9420 §7.2 need not be listed.
type RequiredCapabilities struct {
	Extensions  []ExtensionType
	Proposals   []ProposalType
	Credentials []CredentialType
}

func readRequiredCapabilities(r *tlspl.Reader) RequiredCapabilities {
	return RequiredCapabilities{
		Extensions:  readUint16s[ExtensionType](r, maxCapabilities),
		Proposals:   readUint16s[ProposalType](r, maxCapabilities),
		Credentials: readUint16s[CredentialType](r, maxCapabilities),
	}
}

// UnmarshalRequiredCapabilities decodes the content of a required_capabilities extension.
func UnmarshalRequiredCapabilities(b []byte) (RequiredCapabilities, error) {
	return decode("RequiredCapabilities", b, readRequiredCapabilities)
}

// Marshal returns the encoding.
func (c *RequiredCapabilities) Marshal() []byte {
	return appendUint16s(appendUint16s(appendUint16s(nil, c.Extensions), c.Proposals), c.Credentials)
}

// Extension returns the required_capabilities extension.
func (c *RequiredCapabilities) Extension() Extension {
	return Extension{Type: ExtensionRequiredCapabilities, Data: c.Marshal()}
}

// ExternalSender is somebody outside the group who may send proposals (RFC 9420 §12.1.8.1).
type ExternalSender struct {
	SignatureKey []byte
	Credential   Credential
}

func readExternalSender(r *tlspl.Reader) ExternalSender {
	return ExternalSender{SignatureKey: r.Opaque(-1), Credential: ReadCredential(r)}
}

func (s *ExternalSender) append(b []byte) []byte {
	return s.Credential.append(tlspl.AppendOpaque(b, s.SignatureKey))
}

// UnmarshalExternalSenders decodes the content of an external_senders extension.
func UnmarshalExternalSenders(b []byte) ([]ExternalSender, error) {
	return decode("ExternalSenders", b, func(r *tlspl.Reader) []ExternalSender {
		return readList(r, maxExtensions, readExternalSender)
	})
}

// ExternalSendersExtension returns the external_senders extension with the senders in the given order, which is
// what their sender_index counts.
func ExternalSendersExtension(senders ...ExternalSender) Extension {
	return Extension{Type: ExtensionExternalSenders, Data: appendList(nil, senders, (*ExternalSender).append)}
}

// ExternalPubExtension returns the external_pub extension of a GroupInfo (RFC 9420 §12.4.3.2).
func ExternalPubExtension(pub []byte) Extension {
	return Extension{Type: ExtensionExternalPub, Data: tlspl.AppendOpaque(nil, pub)}
}

// UnmarshalExternalPub decodes the content of an external_pub extension: an HPKE public key.
func UnmarshalExternalPub(b []byte) ([]byte, error) {
	return decode("external_pub", b, func(r *tlspl.Reader) []byte { return r.Opaque(-1) })
}
