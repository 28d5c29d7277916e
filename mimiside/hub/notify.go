package hub

import (
	"slices"

	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/room"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// WelcomeItem is a Welcome as providers get it: an MLSMessage, with the whole tree beside it
// (draft-ietf-mimi-protocol-06 §5.5).
func WelcomeItem(at uint64, welcome *mls.Welcome, tree []byte) wire.FanoutMessage {
	return wire.FanoutMessage{Timestamp: at, Message: wire.NewMessage(welcome.Message()),
		Tree: &mls.RatchetTreeOption{Representation: mls.RatchetTreeFull, Tree: tree}}
}

// WelcomeProviders are the providers, in order, that a Welcome goes to: by the KeyPackageRefs that the hub remembers
// from the claims, and for one that it does not, by the user in the credential that was added. route returns "" for
// a ref that is not known. The hub's own domain is among them when its users are added.
func WelcomeProviders(welcome *mls.Welcome, staged *mls.Staged, route func(ref []byte) string) []string {
	byCredential := map[string]string{}
	for _, p := range staged.Proposals() {
		if p.Proposal.Type != mls.ProposalAdd {
			continue
		}
		if id, err := room.IdentityOf(&p.Proposal.Add.Leaf.Credential); err == nil {
			byCredential[string(p.Proposal.Add.Ref())] = id.Domain()
		}
	}
	var out []string
	for i := range welcome.Secrets {
		ref := welcome.Secrets[i].NewMember
		domain := route(ref)
		if domain == "" {
			domain = byCredential[string(ref)]
		}
		if domain != "" && !slices.Contains(out, domain) {
			out = append(out, domain)
		}
	}
	slices.Sort(out)
	return out
}
