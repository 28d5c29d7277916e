// Package credential is the provider's word on who its users are: X.509 certificates that bind the signature key of an
// MLS client to the URIs of the client and of its user (docs/decisions/0008, docs/credentials.md; RFC 9420 §5.3,
// draft-mahy-mimi-identity).
//
// An [Authority] issues them for the users of one provider, and [Verify] judges those of others. Where the authorities of
// another provider come from, and whether a basic credential will do, is the matter of the caller. Nothing is revoked
// here: certificates are short-lived, and an authority that its provider does not name any more counts for nothing.
package credential
