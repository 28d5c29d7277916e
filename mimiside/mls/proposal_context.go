package mls

import (
	"bytes"
	"fmt"
	"slices"
)

// applyContext computes the extensions of the next GroupContext: GroupContextExtensions first, AppDataUpdate last
// (draft-ietf-mls-extensions-10 §2.8).
func (p *proposalList) applyContext(cfg *Config, now *groupRules, extensions Extensions) error {
	p.extensions = extensions
	if p.hasGCE {
		if slices.Contains(now.required.Proposals, ProposalAppDataUpdate) {
			before, _ := extensions.Find(ExtensionAppDataDictionary)
			after, _ := p.gce.Find(ExtensionAppDataDictionary)
			if !bytes.Equal(before, after) {
				return fail(KindInvalid, opProposals, ErrDictionaryChanged)
			}
		}
		p.extensions, p.newRules = p.gce, true
	}
	if err := p.applyAppData(cfg); err != nil {
		return err
	}
	if !p.hasGCE && !p.changesDictionary() {
		p.rules = now
		return nil
	}
	var err error
	p.rules, err = parseRules(p.extensions)
	return err
}

func (p *proposalList) changesDictionary() bool {
	return slices.ContainsFunc(p.items, func(r ResolvedProposal) bool { return r.Proposal.Type == ProposalAppDataUpdate })
}

// componentChange collects what a commit does to one component.
type componentChange struct {
	id      ComponentID
	remove  bool
	updates [][]byte
}

// applyAppData applies the AppDataUpdate proposals: for each component one remove, or updates that its logic applies
// in the order of the commit.
func (p *proposalList) applyAppData(cfg *Config) error {
	var changes []componentChange
	for i := range p.items {
		u := p.items[i].Proposal.AppDataUpdate
		if p.items[i].Proposal.Type != ProposalAppDataUpdate {
			continue
		}
		at := slices.IndexFunc(changes, func(c componentChange) bool { return c.id == u.Component })
		switch {
		case at < 0 && u.Operation == AppDataUpdateRemove:
			changes = append(changes, componentChange{id: u.Component, remove: true})
		case at < 0:
			changes = append(changes, componentChange{id: u.Component, updates: [][]byte{u.Update}})
		case changes[at].remove || u.Operation == AppDataUpdateRemove:
			return invalidList("component 0x%04x has a remove and another operation", uint16(u.Component))
		default:
			changes[at].updates = append(changes[at].updates, u.Update)
		}
	}
	if len(changes) == 0 {
		return nil
	}
	dict, err := p.extensions.Dictionary()
	if err != nil {
		return err
	}
	for i := range changes {
		if dict, err = p.applyComponent(cfg, dict, &changes[i]); err != nil {
			return err
		}
	}
	p.extensions = p.extensions.With(ExtensionAppDataDictionary, dict.Marshal())
	return nil
}

func (p *proposalList) applyComponent(cfg *Config, dict AppDataDictionary, c *componentChange) (AppDataDictionary, error) {
	logic := cfg.component(c.id)
	if logic == nil {
		return nil, failf(KindInvalid, opProposals, ErrUnknownComponent, "0x%04x", uint16(c.id))
	}
	if c.id <= ComponentContentMediaTypes {
		p.newRules = true
	}
	current, there := dict.Get(c.id)
	if c.remove {
		if !there {
			return nil, invalidProposal(ProposalAppDataUpdate, "component 0x%04x is absent and cannot be removed", uint16(c.id))
		}
		return dict.Remove(c.id), nil
	}
	if !there {
		current = nil
	} else if current == nil {
		current = []byte{}
	}
	next, err := logic.Apply(current, c.updates)
	if err != nil {
		return nil, &Error{Kind: KindInvalid, Op: fmt.Sprintf("update component 0x%04x", uint16(c.id)), Err: fmt.Errorf("%w: %w", ErrComponent, err)}
	}
	return dict.Set(c.id, next), nil
}

// component returns the logic of a component, nil when there is none.
func (c *Config) component(id ComponentID) ComponentLogic {
	if logic := c.Components[id]; logic != nil {
		return logic
	}
	switch id {
	case ComponentAppComponents, ComponentSafeAAD:
		return ComponentLogicFunc(func(_ []byte, updates [][]byte) ([]byte, error) {
			next := updates[len(updates)-1]
			_, err := UnmarshalComponentsList(next)
			return next, err
		})
	case ComponentContentMediaTypes:
		return ComponentLogicFunc(func(_ []byte, updates [][]byte) ([]byte, error) {
			next := updates[len(updates)-1]
			_, err := UnmarshalMediaTypeList(next)
			return next, err
		})
	}
	return nil
}

// checkMembers validates the leaves that the proposals bring, and all leaves when the rules of the group change. The
// tree has them already.
func (p *proposalList) checkMembers(c *leafChecker, base *ratchetTree, e *treeEdit) error {
	for i := range p.items {
		it := &p.items[i]
		switch it.Proposal.Type {
		case ProposalUpdate:
			if err := p.checkUpdate(c, base, e, it); err != nil {
				return err
			}
		case ProposalAdd:
			if err := p.checkAdd(c, e, it.Proposal.Add); err != nil {
				return err
			}
		}
	}
	if p.hasGCE {
		if err := c.checkExternalSenders(); err != nil {
			return err
		}
	}
	if p.alone {
		return nil
	}
	if err := p.checkSupport(e); err != nil || !p.newRules {
		return err
	}
	var err error
	e.each(func(l LeafIndex, leaf *LeafNode) bool {
		if err = c.rules.admits(leaf); err != nil {
			err = fail(KindInvalid, fmt.Sprintf("check new rules against leaf %d", l), err)
		}
		return err == nil
	})
	return err
}

func (p *proposalList) checkUpdate(c *leafChecker, base *ratchetTree, e *treeEdit, it *ResolvedProposal) error {
	leaf, old := it.Proposal.Update, base.leaf(it.Sender.Leaf)
	if leaf.Source != LeafSourceUpdate {
		return failf(KindInvalid, opProposals, ErrLeafNode, "source of an Update is %d", leaf.Source)
	}
	if bytes.Equal(leaf.EncryptionKey, old.EncryptionKey) {
		return failf(KindInvalid, opProposals, ErrDuplicateKey, "Update keeps the encryption key")
	}
	if err := c.check(it.Sender.Leaf, leaf, &old.Credential); err != nil || p.alone {
		return err
	}
	return e.checkCredentialTypes(leaf)
}

func (p *proposalList) checkAdd(c *leafChecker, e *treeEdit, kp *KeyPackage) error {
	const op = "check Add"
	if kp.Suite != c.suite {
		return failf(KindInvalid, op, ErrUnknownSuite, "KeyPackage is for suite %d", kp.Suite)
	}
	if !kp.checked {
		if err := kp.Verify(); err != nil {
			return fail(KindInvalid, op, err)
		}
	}
	if err := c.rules.admits(&kp.Leaf); err != nil {
		return fail(KindInvalid, op, err)
	}
	if err := c.credential(op, &kp.Leaf, nil); err != nil || p.alone {
		return err
	}
	return e.checkCredentialTypes(&kp.Leaf)
}

// checkSupport checks that everybody who processes the commit supports the proposals in it that are not in RFC 9420
// (§12.2).
func (p *proposalList) checkSupport(e *treeEdit) error {
	seen := map[ProposalType]bool{}
	for i := range p.items {
		t := p.items[i].Proposal.Type
		if t <= ProposalGroupContextExtensions || seen[t] {
			continue
		}
		seen[t] = true
		support := e.stat(statKey{statProposalSupport, uint16(t)})
		for _, l := range p.added {
			if slices.Contains(e.leaf(l).Capabilities.Proposals, t) {
				support--
			}
		}
		if support != int(e.root.leaves)-len(p.added) {
			return failf(KindInvalid, opProposals, ErrCapabilities, "proposal type 0x%04x is not supported by all", uint16(t))
		}
	}
	return nil
}
