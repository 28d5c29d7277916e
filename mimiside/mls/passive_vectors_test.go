package mls

import (
	"bytes"
	"fmt"
	"testing"
	"time"
)

// passiveVector is a member that only listens, in the files passive-client-*.json.
type passiveVector struct {
	Suite         Suite     `json:"cipher_suite"`
	PSKs          []psk     `json:"external_psks"`
	KeyPackage    hexBytes  `json:"key_package"`
	SignatureKey  hexBytes  `json:"signature_priv"`
	EncryptionKey hexBytes  `json:"encryption_priv"`
	InitKey       hexBytes  `json:"init_priv"`
	Welcome       hexBytes  `json:"welcome"`
	Tree          *hexBytes `json:"ratchet_tree"`
	Authenticator hexBytes  `json:"initial_epoch_authenticator"`
	Epochs        []struct {
		Proposals     []hexBytes `json:"proposals"`
		Commit        hexBytes   `json:"commit"`
		Authenticator hexBytes   `json:"epoch_authenticator"`
	} `json:"epochs"`
}

type psk struct {
	ID  hexBytes `json:"psk_id"`
	PSK hexBytes `json:"psk"`
}

// config accepts every credential and knows the PSKs of the vector.
func (v *passiveVector) config() Config {
	return Config{Validator: acceptAll, PSK: func(id *PreSharedKeyID) Secret {
		for _, p := range v.PSKs {
			if id.Type == PSKExternal && bytes.Equal(p.ID, id.ID) {
				return Secret(p.PSK)
			}
		}
		return nil
	}}
}

func (v *passiveVector) params() (JoinParams, error) {
	welcome, err := UnmarshalMLSMessage(v.Welcome)
	if err != nil {
		return JoinParams{}, err
	}
	kp, err := UnmarshalMLSMessage(v.KeyPackage)
	if err != nil {
		return JoinParams{}, err
	}
	key, err := NewSignatureKey(v.Suite, Secret(v.SignatureKey))
	if err != nil {
		return JoinParams{}, err
	}
	p := JoinParams{Welcome: welcome.Welcome, Keys: []JoinKey{{kp.KeyPackage, &KeyPackagePrivate{
		Suite: v.Suite, InitKey: Secret(v.InitKey), EncryptionKey: Secret(v.EncryptionKey), SignatureKey: key,
	}}}}
	if v.Tree != nil {
		p.Tree = *v.Tree
	}
	return p, nil
}

// follow joins and processes all epochs, and beside it a public view that knows no secret.
func (v *passiveVector) follow(now time.Time) error {
	params, err := v.params()
	if err != nil {
		return err
	}
	g, _, err := JoinWelcome(now, v.config(), params)
	if err != nil {
		return err
	}
	if !bytes.Equal(g.EpochAuthenticator(), v.Authenticator) {
		return fmt.Errorf("initial epoch authenticator differs")
	}
	public := &Group{}
	*public = *newGroup(v.config(), newEpoch(g.cur.context, g.cur.tree, g.cur.rules, g.cur.tag))
	if public.cur.tree, err = unmarshalTree(g.suite, g.RatchetTree()); err != nil {
		return err
	}
	for i, e := range v.Epochs {
		for _, p := range e.Proposals {
			if _, _, err := g.ReceiveProposal(now, p); err != nil {
				return fmt.Errorf("epoch %d: proposal: %w", i, err)
			}
			if _, _, err := public.ReceiveProposal(now, p); err != nil {
				return fmt.Errorf("epoch %d: public view: proposal: %w", i, err)
			}
		}
		for _, view := range []*Group{public, g} {
			s, err := view.StageReceived(now, e.Commit)
			if err != nil {
				return fmt.Errorf("epoch %d: %w", i, err)
			}
			if _, err := view.Merge(now, s); err != nil {
				return fmt.Errorf("epoch %d: merge: %w", i, err)
			}
		}
		if !bytes.Equal(g.EpochAuthenticator(), e.Authenticator) {
			return fmt.Errorf("epoch %d: epoch authenticator differs", i)
		}
		if !g.SamePublicState(public) {
			return fmt.Errorf("epoch %d: public view differs", i)
		}
	}
	return nil
}

func testPassive(t *testing.T, file string) {
	count := countVectors(t, file)
	for i, v := range loadVectors[passiveVector](t, file) {
		if !count.suite(v.Suite) {
			continue
		}
		if err := v.follow(time.Unix(1_700_000_000, 0)); err != nil {
			t.Errorf("%s: vector %d: %v", file, i, err)
			continue
		}
		count.ok()
	}
}

func TestVectorsPassiveClientWelcome(t *testing.T) { testPassive(t, "passive-client-welcome.json") }

func TestVectorsPassiveClientHandlingCommit(t *testing.T) {
	testPassive(t, "passive-client-handling-commit.json")
}

func TestVectorsPassiveClientRandom(t *testing.T) { testPassive(t, "passive-client-random.json") }
