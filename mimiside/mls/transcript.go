package mls

import (
	"crypto/hmac"

	"github.com/matrix-mimi/bridge/internal/tlspl"
)

// confirmedTranscriptHash adds a commit, its tag apart, to the transcript (RFC 9420 §8.2).
func confirmedTranscriptHash(suite Suite, interimBefore []byte, commit *AuthenticatedContent) []byte {
	commit.Content.freeze()
	head := tlspl.AppendUint16(make([]byte, 0, 2), uint16(commit.WireFormat))
	return suite.Hash(interimBefore, head, commit.Content.raw, tlspl.AppendOpaque(nil, commit.Auth.Signature))
}

// interimTranscriptHash adds the confirmation tag of the commit that led to the epoch (RFC 9420 §8.2).
func interimTranscriptHash(suite Suite, confirmed, confirmationTag []byte) []byte {
	return suite.Hash(confirmed, tlspl.AppendOpaque(nil, confirmationTag))
}

// confirmationTag returns the tag by which a commit shows that its sender knows the new epoch (RFC 9420 §6.1).
func (s *epochSecrets) confirmationTag(suite Suite, confirmed []byte) []byte {
	return suite.MAC(s.confirmation, confirmed)
}

// checkConfirmationTag compares tag in constant time: ErrConfirmationTag.
func (s *epochSecrets) checkConfirmationTag(suite Suite, confirmed, tag []byte) error {
	if !hmac.Equal(s.confirmationTag(suite, confirmed), tag) {
		return fail(KindInvalid, "check commit", ErrConfirmationTag)
	}
	return nil
}
