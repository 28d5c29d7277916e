package main

import (
	"time"

	"github.com/thomas-vilte/mls-go/ciphersuite"
	"github.com/thomas-vilte/mls-go/credentials"
	"github.com/thomas-vilte/mls-go/framing"
	"github.com/thomas-vilte/mls-go/group"
	"github.com/thomas-vilte/mls-go/keypackages"
)

// client is a client of mls-go.
type client struct {
	sign  *ciphersuite.SignaturePrivateKey
	kp    *keypackages.KeyPackage
	priv  *keypackages.KeyPackagePrivateKeys
	group *group.Group
}

func newClient(i int) *client {
	c := &client{}
	cred, sign, err := credentials.GenerateCredentialWithKeyForCS(identity(i), ciphersuite.CipherSuite(suite))
	check(err)
	c.sign = sign
	c.kp, c.priv, err = keypackages.Generate(cred, keypackages.CipherSuite(suite))
	check(err)
	return c
}

// commit commits the proposals of the group's list, merges, and returns the encoded commit and the Welcome.
func (c *client) commit(added []*keypackages.KeyPackage) ([]byte, *group.Welcome) {
	for _, kp := range added {
		must(c.group.AddMember(kp))
	}
	staged := must(c.group.Commit(c.sign, c.sign.PublicKey(), nil))
	joiner := staged.JoinerSecret()
	check(c.group.MergeCommit(staged))
	var w *group.Welcome
	if len(added) > 0 {
		w = must(c.group.CreateWelcomeWithOpts(added, c.sign, group.WithJoinerSecret(joiner), group.WithPSKIDs(staged.PskIDs()),
			group.WithPSKSecret(staged.RawPskSecret()), group.WithStagedCommit(staged)))
		w = must(group.UnmarshalWelcome(w.Marshal()))
	}
	ac := staged.AuthenticatedContent()
	return framing.NewMLSMessagePublic(&framing.PublicMessage{Content: ac.Content, Auth: ac.Auth,
		MembershipTag: staged.MembershipTag()}).Marshal(), w
}

func (c *client) receive(commit []byte) {
	m, _ := must(framing.UnmarshalMLSMessage(commit)).AsPublic()
	check(c.group.ProcessPublicMessage(m))
}

func (c *client) send() []byte {
	return framing.NewMLSMessagePrivate(must(c.group.SendMessage([]byte("hello everybody"), c.sign))).Marshal()
}

func (c *client) read(message []byte) {
	m, _ := must(framing.UnmarshalMLSMessage(message)).AsPrivate()
	_, _, _, err := c.group.ReceiveApplicationMessage(m)
	check(err)
}

// theirs is a group of mls-go: a member outside the process, who adds the clients.
type theirs struct {
	outside *client
	clients []*client
	kps     []*keypackages.KeyPackage
	welcome *group.Welcome
}

func newTheirs(n int) *theirs {
	t := &theirs{outside: newClient(0)}
	for i := range n {
		c := newClient(i + 1)
		t.clients = append(t.clients, c)
		t.kps = append(t.kps, c.kp)
	}
	t.create()
	return t
}

// create makes the group of the outside member alone.
func (t *theirs) create() {
	t.outside.group = must(group.NewGroup(group.NewGroupID([]byte("group")), ciphersuite.CipherSuite(suite), t.outside.kp, t.outside.priv))
}

// add adds all clients with one commit.
func (t *theirs) add() { _, t.welcome = t.outside.commit(t.kps) }

func measureMLSGo(n int) *figures {
	var f figures
	t := newTheirs(n)
	t.add()
	before := heap()
	f.joinAll = timed(func() {
		for _, c := range t.clients {
			c.group = must(group.JoinFromWelcome(t.welcome, c.kp, c.priv, nil))
		}
	})
	rounds := 3
	if n >= 500 {
		rounds = 2
	}
	f.pathCommit = median(rounds, rounds, func() time.Duration {
		commit, _ := t.outside.commit(nil)
		return timed(func() {
			for _, c := range t.clients {
				c.receive(commit)
			}
		})
	})
	f.singleCommit = f.pathCommit / time.Duration(n)
	f.heap = heap() - before
	f.message = median(rounds, 20, func() time.Duration {
		m := t.outside.send()
		return timed(func() {
			for _, c := range t.clients {
				c.read(m)
			}
		})
	})
	// What every client has to store is its whole state.
	for _, c := range t.clients {
		f.storeMessage += int64(len(must(c.group.MarshalState())))
	}
	f.storeCommit = f.storeMessage
	return &f
}
