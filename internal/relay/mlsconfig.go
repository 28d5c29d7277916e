package relay

import (
	"errors"
	"fmt"

	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/room"
)

// newJudge gives a room its authentication service, and with it what its group is made and loaded with.
func (r *Relay) newJudge(v *roomView) {
	v.judge = &judge{r: r}
	v.mlsc = mls.Config{
		Validator:  mls.ValidatorFunc(v.judge.validate),
		Components: r.components,
		Limits:     r.cfg.Limits,
	}
}

// componentLogic is what all our groups have in common.
func componentLogic() map[mls.ComponentID]mls.ComponentLogic {
	out := map[mls.ComponentID]mls.ComponentLogic{}
	for id, logic := range policy.Components() {
		out[mls.ComponentID(id)] = logic
	}
	return out
}

var errCredential = errors.New("credential is not accepted")

// validate judges a credential that gets into a group (docs/credentials.md): it must name a MIMI user or, for an external
// sender, a provider; a member keeps its user for good. A basic credential proves nothing by itself: that it came
// from the provider whose user it names is checked where it comes in. One of X.509 must be of that provider's authority.
func (j *judge) validate(check mls.CredentialCheck) error {
	if check.Use == mls.CredentialOfExternalSender {
		if _, err := room.ProviderOf(check.Credential); err != nil {
			return fmt.Errorf("external sender: %w", err)
		}
		return nil
	}
	id, err := room.IdentityOf(check.Credential)
	if err != nil {
		return err
	}
	if check.Replaces != nil {
		was, err := room.IdentityOf(check.Replaces)
		if err != nil || !was.User.Same(id.User) {
			return fmt.Errorf("%w: a leaf changes its user", errCredential)
		}
	}
	if check.Credential.Type == mls.CredentialX509 {
		return j.verify(check, id.Domain())
	}
	if demand := j.r.DemandCertificates; demand != nil && demand(id.Domain()) {
		return fmt.Errorf("%w: %s must certify its users", errCredential, id.Domain())
	}
	return nil
}

// policyState reads a room's policy from a dictionary.
func policyState(dict mls.AppDataDictionary) (*policy.State, error) {
	return policy.ParseState(func(id uint16) ([]byte, bool) { return dict.Get(mls.ComponentID(id)) })
}
