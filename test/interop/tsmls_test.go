package interop

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"

	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/test/harness/nodejs"
)

// node is the process that holds all clients of ts-mls.
type node struct{ *nodejs.Process }

// startNode starts node/peer.mjs. The packages are installed first when they are not there yet.
func startNode() (*node, error) {
	if _, err := os.Stat("node/node_modules/ts-mls"); err != nil {
		install := exec.Command("npm", "ci", "--no-audit", "--no-fund", "--silent")
		install.Dir = "node"
		if out, err := install.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%w: npm ci: %w: %s", nodejs.ErrNone, err, out)
		}
	}
	p, err := nodejs.Start("node")
	if err != nil {
		return nil, err
	}
	return &node{p}, nil
}

// fields is a request or an answer; bytes travel as base64.
type fields map[string]any

type answer struct {
	KeyPackage    []byte
	SignatureKey  []byte
	Commit        []byte
	Welcome       []byte
	RatchetTree   []byte
	Proposal      []byte
	Message       []byte
	Data          []byte
	GroupInfo     []byte
	Epoch         uint64
	Authenticator []byte
	TreeHash      []byte
	Exported      []byte
	Leaf          mls.LeafIndex
}

func (n *node) do(client, op string, f fields) (*answer, error) {
	request := maps.Clone(f)
	if request == nil {
		request = fields{}
	}
	request["client"] = client
	got, err := n.Ask(context.Background(), op, request)
	if err != nil {
		return nil, fmt.Errorf("ts-mls: %w", err)
	}
	b, err := json.Marshal(got)
	if err != nil {
		return nil, err
	}
	var a answer
	return &a, json.Unmarshal(b, &a)
}

// tsPeer is a client of ts-mls. Known defects that node/peer.mjs does not get around, and what is done about them:
//   - A commit of GroupContextExtensions by it has no path, which RFC 9420 §12.4 asks for: commitsExtensions is false.
//   - It takes an empty list of GroupContextExtensions for no change: such a list is never proposed to it.
//   - Who joins refuses a tree in which the unmerged leaves of a node differ from those of any node above, not only
//     where one is missing between (RFC 9420 §7.9.2): joinUnmerged is false.
//   - It makes no Update proposals: proposesUpdate is false.
//   - external_senders in GroupContextExtensions are taken for one ExternalSender: the group is made with them.
type tsPeer struct {
	name  string
	node  *node
	start *answer
	nonce int // length
}

func newTSPeer(n *node, suite mls.Suite, name string) (peer, error) {
	a, err := n.do(name, "start", fields{"suite": suite, "identity": name})
	return &tsPeer{name: name, node: n, start: a, nonce: suite.HashLength()}, err
}

func (p *tsPeer) do(op string, f fields) (*answer, error) { return p.node.do(p.name, op, f) }

func (p *tsPeer) identity() string { return p.name }

func (p *tsPeer) can() abilities {
	return abilities{takesTreeApart: true, privateCommits: true, privateProposal: true, paddedHandshake: true, requiredCapabilities: true}
}

func (p *tsPeer) keyPackage() []byte { return p.start.KeyPackage }

func (p *tsPeer) signatureKey() []byte { return p.start.SignatureKey }

func (p *tsPeer) create(groupID []byte) error {
	_, err := p.do("create", fields{"groupId": groupID})
	return err
}

func (p *tsPeer) join(welcome, tree []byte) error {
	_, err := p.do("join", fields{"welcome": welcome, "ratchetTree": tree})
	return err
}

func (p *tsPeer) joinExternal(info, tree []byte, resync bool) ([]byte, error) {
	a, err := p.do("joinExternal", fields{"groupInfo": info, "ratchetTree": tree, "resync": resync})
	if err != nil {
		return nil, err
	}
	return a.Commit, nil
}

// fields names the changes as peer.mjs does, as lists or, for a proposal, alone.
func (p *tsPeer) fields(c changes, alone bool) fields {
	f := fields{"private": c.private, "treeInWelcome": !c.treeOutside}
	put := func(key string, list []any) {
		switch {
		case len(list) == 0:
		case alone:
			f[key] = list[0]
		default:
			f[key] = list
		}
	}
	var add, remove, psk, resumption []any
	for _, kp := range c.add {
		add = append(add, kp)
	}
	for _, l := range c.remove {
		remove = append(remove, l)
	}
	for _, id := range c.psk {
		psk = append(psk, fields{"id": id, "nonce": make([]byte, p.nonce)})
	}
	for _, epoch := range c.resumption {
		resumption = append(resumption, fields{"groupId": groupID, "epoch": epoch, "nonce": make([]byte, p.nonce)})
	}
	put("add", add)
	put("remove", remove)
	put("psk", psk)
	put("resumption", resumption)
	return f
}

func (p *tsPeer) commit(c changes) (*made, error) {
	a, err := p.do("commit", p.fields(c, false))
	if err != nil {
		return nil, err
	}
	return &made{a.Commit, a.Welcome, a.RatchetTree}, nil
}

func (p *tsPeer) propose(c changes) ([]byte, error) {
	if c.update {
		return nil, errCannot
	}
	a, err := p.do("propose", p.fields(c, true))
	if err != nil {
		return nil, err
	}
	return a.Proposal, nil
}

func (p *tsPeer) proposeOwnAdd(info []byte) ([]byte, error) {
	a, err := p.do("proposeAddExternal", fields{"groupInfo": info})
	if err != nil {
		return nil, err
	}
	return a.Proposal, nil
}

func (p *tsPeer) proposeExternal(info []byte, c changes) ([]byte, error) {
	f := p.fields(c, true)
	f["groupInfo"] = info
	a, err := p.do("proposeExternal", f)
	if err != nil {
		return nil, err
	}
	return a.Proposal, nil
}

func (p *tsPeer) setPSK(id, secret []byte) error {
	_, err := p.do("psk", fields{"pskId": id, "secret": secret})
	return err
}

func (p *tsPeer) send(data []byte) ([]byte, error) {
	a, err := p.do("send", fields{"data": data})
	if err != nil {
		return nil, err
	}
	return a.Message, nil
}

func (p *tsPeer) receive(message []byte) ([]byte, error) {
	a, err := p.do("receive", fields{"message": message})
	if err != nil {
		return nil, err
	}
	return a.Data, nil
}

func (p *tsPeer) groupInfo(withTree bool) (info, tree []byte, err error) {
	a, err := p.do("groupInfo", fields{"withTree": withTree})
	if err != nil {
		return nil, nil, err
	}
	return a.GroupInfo, a.RatchetTree, nil
}

func (p *tsPeer) state() (*state, error) {
	a, err := p.do("epoch", nil)
	if err != nil {
		return nil, err
	}
	return &state{epoch: a.Epoch, treeHash: a.TreeHash, authenticator: a.Authenticator, exported: a.Exported, leaf: a.Leaf}, nil
}
