package interop

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"github.com/thomas-vilte/mls-go/ciphersuite"
	"github.com/thomas-vilte/mls-go/credentials"
	"github.com/thomas-vilte/mls-go/framing"
	"github.com/thomas-vilte/mls-go/group"
	"github.com/thomas-vilte/mls-go/keypackages"
	"github.com/thomas-vilte/mls-go/treesync"

	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// goPeer is a client of mls-go. Its known defects and what is done about them:
//   - It joins a Welcome without the tree silently with an empty tree: takesTreeApart is false.
//   - After its external commit its GroupInfo has no confirmation tag until the next epoch: groupInfo refuses.
//   - It finds no end in a padded proposal or commit: paddedHandshake is false.
//   - It puts two more lists into required_capabilities (RFC 9420 §11.1): requiredCapabilities is false.
//   - Its creator and its commits lose leaf extensions: it has none.
//   - GroupInfo and Welcome are made after merging: commit merges at once.
type goPeer struct {
	name  string
	suite ciphersuite.CipherSuite
	cred  *credentials.CredentialWithKey
	sign  *ciphersuite.SignaturePrivateKey
	kp    *keypackages.KeyPackage
	priv  *keypackages.KeyPackagePrivateKeys
	psks  map[string][]byte
	group *group.Group
}

func newGoPeer(suite mls.Suite, name string) (peer, error) {
	p := &goPeer{name: name, suite: ciphersuite.CipherSuite(suite), psks: map[string][]byte{}}
	var err error
	if p.cred, p.sign, err = credentials.GenerateCredentialWithKeyForCS([]byte(name), p.suite); err != nil {
		return nil, err
	}
	p.kp, p.priv, err = keypackages.Generate(p.cred, keypackages.CipherSuite(suite))
	return p, err
}

func (p *goPeer) identity() string { return p.name }

func (p *goPeer) can() abilities {
	return abilities{joinUnmerged: true, proposesUpdate: true, resync: true, commitsExtensions: true}
}

func (p *goPeer) keyPackage() []byte {
	return (&framing.MLSMessage{KeyPackage: p.kp.Marshal()}).Marshal()
}

func (p *goPeer) signatureKey() []byte { return p.sign.PublicKey().AsSlice() }

func (p *goPeer) create(groupID []byte) (err error) {
	p.group, err = group.NewGroup(group.NewGroupID(groupID), p.suite, p.kp, p.priv)
	return err
}

func (p *goPeer) join(welcome, tree []byte) error {
	if tree != nil {
		return errCannot
	}
	m, err := framing.UnmarshalMLSMessage(welcome)
	if err != nil {
		return err
	}
	w, err := group.UnmarshalWelcome(m.Welcome)
	if err != nil {
		return err
	}
	p.group, err = group.JoinFromWelcome(w, p.kp, p.priv, p.psks)
	return err
}

func goGroupInfo(message []byte) (*group.Info, error) {
	m, err := framing.UnmarshalMLSMessage(message)
	if err != nil {
		return nil, err
	}
	return group.UnmarshalGroupInfo(m.GroupInfo)
}

func (p *goPeer) joinExternal(info, tree []byte, resync bool) ([]byte, error) {
	i, err := goGroupInfo(info)
	if err != nil {
		return nil, err
	}
	if tree != nil {
		t, err := treesync.UnmarshalTreeFromExtension(tree, p.suite)
		if err != nil {
			return nil, err
		}
		i.RatchetTree = t.ExpandToPowerOf2()
	}
	var prior *group.LeafNodeIndex
	if resync {
		l := p.group.OwnLeafIndex()
		prior = &l
	}
	g, staged, err := group.ExternalCommit(i, p.suite, p.sign, p.sign.PublicKey(), prior, p.cred.Credential)
	if err != nil {
		return nil, err
	}
	p.group = g
	ac := staged.AuthenticatedContent()
	return framing.NewMLSMessagePublic(&framing.PublicMessage{Content: ac.Content, Auth: ac.Auth}).Marshal(), nil
}

func goKeyPackage(message []byte) (*keypackages.KeyPackage, error) {
	m, err := framing.UnmarshalMLSMessage(message)
	if err != nil {
		return nil, err
	}
	return keypackages.UnmarshalKeyPackage(m.KeyPackage)
}

// collect puts proposals into the group's list, where Commit finds them.
func (p *goPeer) collect(c changes) ([]*group.Proposal, error) {
	var out []*group.Proposal
	keep := func(q *group.Proposal, err error) error {
		out = append(out, q)
		return err
	}
	for _, message := range c.add {
		kp, err := goKeyPackage(message)
		if err != nil {
			return nil, err
		}
		if err := keep(p.group.AddMember(kp)); err != nil {
			return nil, err
		}
	}
	for _, l := range c.remove {
		if err := keep(p.group.RemoveMember(group.NewLeafNodeIndex(uint32(l)))); err != nil {
			return nil, err
		}
	}
	if c.update {
		if err := keep(p.group.SelfUpdate(p.sign)); err != nil {
			return nil, err
		}
	}
	for _, id := range c.psk {
		q := group.NewPreSharedKeyProposal(1, id)
		q.PreSharedKey.PskID.Nonce = p.nonce()
		p.group.Proposals().AddProposal(q, p.group.OwnLeafIndex())
		out = append(out, q)
	}
	for _, epoch := range c.resumption {
		q := group.NewResumptionPSKProposal(p.group.ID().AsSlice(), epoch, p.nonce())
		p.group.Proposals().AddProposal(q, p.group.OwnLeafIndex())
		out = append(out, q)
	}
	return out, nil
}

func (p *goPeer) nonce() []byte {
	b := make([]byte, mls.Suite(p.suite).HashLength())
	_, _ = rand.Read(b)
	return b
}

func (p *goPeer) commit(c changes) (*made, error) {
	if c.private {
		return nil, errCannot
	}
	if _, err := p.collect(c); err != nil {
		return nil, err
	}
	staged, err := p.group.Commit(p.sign, p.sign.PublicKey(), nil)
	if err != nil {
		return nil, err
	}
	ac := staged.AuthenticatedContent()
	out := &made{commit: framing.NewMLSMessagePublic(&framing.PublicMessage{
		Content: ac.Content, Auth: ac.Auth, MembershipTag: staged.MembershipTag()}).Marshal()}
	joiner := staged.JoinerSecret()
	if err := p.group.MergeCommit(staged); err != nil {
		return nil, err
	}
	out.tree = p.group.MarshalRatchetTreeRFC()
	var added []*keypackages.KeyPackage
	for _, q := range staged.Proposals() {
		if q.Type == group.ProposalTypeAdd {
			added = append(added, q.Add.KeyPackage)
		}
	}
	if len(added) == 0 {
		return out, nil
	}
	w, err := p.group.CreateWelcomeWithOpts(added, p.sign, group.WithJoinerSecret(joiner), group.WithPSKIDs(staged.PskIDs()),
		group.WithPSKSecret(staged.RawPskSecret()), group.WithStagedCommit(staged),
		group.WithGroupInfoOptions(group.WithRatchetTree(!c.treeOutside)))
	if err != nil {
		return nil, err
	}
	out.welcome = (&framing.MLSMessage{Welcome: w.Marshal()}).Marshal()
	return out, nil
}

func (p *goPeer) propose(c changes) ([]byte, error) {
	if c.private {
		return nil, errCannot
	}
	list, err := p.collect(c)
	if err != nil {
		return nil, err
	}
	return p.group.SignProposalAsPublicMessage(list[0], p.sign)
}

// external signs a proposal of one who is no member.
func (p *goPeer) external(info []byte, sender framing.Sender, q *group.Proposal) ([]byte, error) {
	i, err := goGroupInfo(info)
	if err != nil {
		return nil, err
	}
	m, err := framing.NewPublicMessage(framing.FramedContent{GroupID: i.GroupContext.GroupID.AsSlice(), Epoch: i.GroupContext.Epoch.AsUint64(),
		Sender: sender, Body: framing.ProposalBody{Data: group.ProposalMarshal(q)}}, p.sign, nil, nil, p.suite)
	if err != nil {
		return nil, err
	}
	return framing.NewMLSMessagePublic(m).Marshal(), nil
}

func (p *goPeer) proposeOwnAdd(info []byte) ([]byte, error) {
	return p.external(info, framing.Sender{Type: framing.SenderTypeNewMemberProposal}, group.NewAddProposal(p.kp))
}

func (p *goPeer) proposeExternal(info []byte, c changes) ([]byte, error) {
	var q *group.Proposal
	if len(c.add) > 0 {
		kp, err := goKeyPackage(c.add[0])
		if err != nil {
			return nil, err
		}
		q = group.NewAddProposal(kp)
	} else {
		q = group.NewRemoveProposal(group.NewLeafNodeIndex(uint32(c.remove[0])))
	}
	return p.external(info, framing.Sender{Type: framing.SenderTypeExternal}, q)
}

func (p *goPeer) setPSK(id, secret []byte) error {
	p.psks[string(id)] = secret
	if p.group != nil {
		p.group.LoadPsk(id, secret)
	}
	return nil
}

func (p *goPeer) send(data []byte) ([]byte, error) {
	m, err := p.group.SendMessage(data, p.sign)
	if err != nil {
		return nil, err
	}
	return framing.NewMLSMessagePrivate(m).Marshal(), nil
}

func (p *goPeer) receive(message []byte) ([]byte, error) {
	m, err := framing.UnmarshalMLSMessage(message)
	if err != nil {
		return nil, err
	}
	if public, ok := m.AsPublic(); ok {
		return nil, p.group.ProcessPublicMessage(public)
	}
	private, ok := m.AsPrivate()
	if !ok {
		return nil, fmt.Errorf("wire format %d", m.WireFormat())
	}
	if contentType(message) != 1 {
		return nil, p.group.ProcessPrivateMessage(private)
	}
	data, _, _, err := p.group.ReceiveApplicationMessage(private)
	return data, err
}

// contentType reads the content type of an encoded PrivateMessage with a short group id.
func contentType(message []byte) byte {
	const header = 4 // version, wire format
	n := int(message[header])
	if n >= 64 {
		n = int(binary.BigEndian.Uint16(message[header:])&0x3fff) + 1
	}
	return message[header+1+n+8]
}

func (p *goPeer) groupInfo(withTree bool) (info, tree []byte, err error) {
	i, err := p.group.GetGroupInfoWithOptions(p.sign, group.WithRatchetTree(withTree))
	if err != nil {
		return nil, nil, err
	}
	if len(i.ConfirmationTag) == 0 {
		return nil, nil, errCannot
	}
	return (&framing.MLSMessage{GroupInfo: i.Marshal()}).Marshal(), p.group.MarshalRatchetTreeRFC(), nil
}

func (p *goPeer) state() (*state, error) {
	exported, err := p.group.Export(exportLabel, []byte(exportContext), exportLength)
	return &state{
		epoch: p.group.Epoch().AsUint64(), treeHash: p.group.GroupContext().TreeHash,
		authenticator: p.group.EpochAuthenticator(), exported: exported, leaf: mls.LeafIndex(p.group.OwnLeafIndex()),
	}, err
}
