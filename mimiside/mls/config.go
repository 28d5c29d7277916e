package mls

import "time"

// Config is what the caller decides about its groups. It is not part of the stored state.
type Config struct {
	// Validator judges every credential that gets into a tree or into external_senders. It must not be nil.
	Validator CredentialValidator
	// Components holds the logic of AppDataUpdate by component (draft-ietf-mls-extensions-10 §2.8). An update of a
	// component that is not here makes a commit invalid, except that app_components, safe_aad and
	// content_media_types are replaced whole unless they have a logic here.
	Components map[ComponentID]ComponentLogic
	// PSK finds external and application PSKs, and resumption PSKs of other groups. It returns nil when it does not
	// know one. A nil function knows none.
	PSK func(id *PreSharedKeyID) Secret
	// Limits bounds what peers can make a group hold; zero fields take their defaults.
	Limits Limits
}

// CredentialUse says where a credential stands.
type CredentialUse uint8

// Uses of credentials.
const (
	CredentialOfMember         CredentialUse = 1 // in a leaf node
	CredentialOfExternalSender CredentialUse = 2 // in external_senders
)

// CredentialCheck is one question to a CredentialValidator.
type CredentialCheck struct {
	Credential   *Credential
	SignatureKey []byte
	Use          CredentialUse
	Replaces     *Credential // the credential of the same member that this one takes the place of, nil if none
	Now          time.Time
	// InTree says that the leaf stands in a tree that is joined: it was judged when it came in, and may have expired since.
	InTree bool
}

// CredentialValidator is the authentication service as the group sees it (RFC 9420 §5.3.1). An error refuses the
// leaf, and with it the commit or the group.
type CredentialValidator interface {
	ValidateCredential(check CredentialCheck) error
}

// ValidatorFunc makes a function a CredentialValidator.
type ValidatorFunc func(check CredentialCheck) error

// ValidateCredential calls f.
func (f ValidatorFunc) ValidateCredential(check CredentialCheck) error { return f(check) }

// ComponentLogic applies the updates of one component that a commit carries, in the order of the commit
// (draft-ietf-mls-extensions-10 §2.8). current is nil when the component is absent. It must be a function of its
// arguments only, since every member computes it. An error makes the commit invalid.
type ComponentLogic interface {
	Apply(current []byte, updates [][]byte) (next []byte, err error)
}

// ComponentLogicFunc makes a function a ComponentLogic.
type ComponentLogicFunc func(current []byte, updates [][]byte) ([]byte, error)

// Apply calls f.
func (f ComponentLogicFunc) Apply(current []byte, updates [][]byte) ([]byte, error) {
	return f(current, updates)
}

// Limits bounds a group. A zero field takes the default that stands beside it; a negative one means none at all.
type Limits struct {
	MaxForward       int           // generations that a message may be ahead of the last one of its sender: 1,000
	MaxSkipped       int           // keys of skipped generations kept a sender, epoch and kind: 256
	PastEpochs       int           // epochs kept for late messages after their end: 2
	PastAge          time.Duration // how long after their end: 10 minutes
	ResumptionEpochs int           // epochs whose resumption PSK is kept, the present one apart: 8
	MaxProposals     int           // proposals cached an epoch: 4,096
}

// Default limits.
const (
	DefaultMaxForward       = 1000
	DefaultMaxSkipped       = 256
	DefaultPastEpochs       = 2
	DefaultPastAge          = 10 * time.Minute
	DefaultResumptionEpochs = 8
	DefaultMaxProposals     = 4096
)

// withDefaults fills zero fields in and makes negative ones zero.
func (l Limits) withDefaults() Limits {
	l.MaxForward = limitOr(l.MaxForward, DefaultMaxForward)
	l.MaxSkipped = limitOr(l.MaxSkipped, DefaultMaxSkipped)
	l.PastEpochs = limitOr(l.PastEpochs, DefaultPastEpochs)
	l.PastAge = limitOr(l.PastAge, DefaultPastAge)
	l.ResumptionEpochs = limitOr(l.ResumptionEpochs, DefaultResumptionEpochs)
	l.MaxProposals = limitOr(l.MaxProposals, DefaultMaxProposals)
	return l
}

func limitOr[T ~int | ~int64](v, def T) T {
	switch {
	case v == 0:
		return def
	case v < 0:
		return 0
	default:
		return v
	}
}
