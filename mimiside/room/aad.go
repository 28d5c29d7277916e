package room

import (
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// HandshakeAAD is the authenticated_data of a proposal or commit: an empty SafeAAD where the group demands SafeAAD
// (draft-ietf-mls-extensions-10 §2.10), nothing elsewhere.
func HandshakeAAD(dict mls.AppDataDictionary) []byte {
	if _, ok := dict.Get(mls.ComponentSafeAAD); ok {
		return mls.SafeAAD{}.Marshal()
	}
	return nil
}

// MessageAAD is the authenticated_data of an application message: a SafeAAD with the franking tag where the group has a
// franking agent, an empty one where it demands SafeAAD without, nothing elsewhere. salt is that of the content,
// applicationData what is encrypted (draft-ietf-mimi-protocol-06 §5.4.1).
func MessageAAD(dict mls.AppDataDictionary, salt, applicationData []byte) []byte {
	if _, ok := dict.Get(mls.ComponentSafeAAD); !ok {
		return nil
	}
	if _, ok := dict.Get(mls.ComponentFrankingAgent); !ok {
		return mls.SafeAAD{}.Marshal()
	}
	return wire.NewFrankingTag(salt, applicationData).AuthenticatedData()
}
