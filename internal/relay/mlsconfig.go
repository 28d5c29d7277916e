package relay

import (
	"errors"
	"fmt"

	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/room"
)

// mlsConfig is what all our groups have in common.
func (r *Relay) mlsConfig() mls.Config {
	c := mls.Config{
		Validator:  mls.ValidatorFunc(r.validate),
		Components: map[mls.ComponentID]mls.ComponentLogic{},
		Limits:     r.cfg.Limits,
	}
	for id, logic := range policy.Components() {
		c.Components[mls.ComponentID(id)] = logic
	}
	return c
}

var errCredential = errors.New("credential is not accepted")

// validate judges a credential that gets into a group (mimi-digest §4.8): it must name a MIMI user or, for an external
// sender, a provider; a member keeps its user for good. A basic credential proves nothing by itself: that it came
// from the provider whose user it names is checked where it comes in. One of X.509 is for CheckCredential.
func (r *Relay) validate(check mls.CredentialCheck) error {
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
		if r.CheckCredential == nil {
			return fmt.Errorf("%w: X.509 credentials of members are not configured", errCredential)
		}
		return r.CheckCredential(check)
	}
	return nil
}

// policyState reads a room's policy from a dictionary.
func policyState(dict mls.AppDataDictionary) (*policy.State, error) {
	return policy.ParseState(func(id uint16) ([]byte, bool) { return dict.Get(mls.ComponentID(id)) })
}
