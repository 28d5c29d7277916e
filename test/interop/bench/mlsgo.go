package main

import (
	"runtime"
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

func measureMLSGo(n int) *figures {
	var f figures
	outside := newClient(0)
	var clients []*client
	var kps []*keypackages.KeyPackage
	for i := range n {
		c := newClient(i + 1)
		clients = append(clients, c)
		kps = append(kps, c.kp)
	}
	runtime.GC()
	var welcome *group.Welcome
	f.makeAdds = median(addRounds, addRounds, func() time.Duration {
		outside.group = must(group.NewGroup(group.NewGroupID([]byte("group")), ciphersuite.CipherSuite(suite), outside.kp, outside.priv))
		return timed(func() { _, welcome = outside.commit(kps) })
	})
	before := heap()
	f.joinAll = timed(func() {
		for _, c := range clients {
			c.group = must(group.JoinFromWelcome(welcome, c.kp, c.priv, nil))
		}
	})
	var made []time.Duration
	rounds := 3
	if n >= 500 {
		rounds = 2
	}
	f.pathCommit = median(rounds, rounds, func() time.Duration {
		var commit []byte
		made = append(made, timed(func() { commit, _ = outside.commit(nil) }))
		return timed(func() {
			for _, c := range clients {
				c.receive(commit)
			}
		})
	})
	f.makePath, f.singleCommit = middle(made), f.pathCommit/time.Duration(n)
	f.heap = heap() - before
	f.message = median(rounds, 20, func() time.Duration {
		m := outside.send()
		return timed(func() {
			for _, c := range clients {
				c.read(m)
			}
		})
	})
	f.sendMessage = median(10, 1000, func() time.Duration { return timed(func() { clients[0].send() }) })
	// What every client has to store is its whole state.
	for _, c := range clients {
		f.storeMessage += int64(len(must(c.group.MarshalState())))
	}
	f.storeCommit = f.storeMessage
	f.makeAddOne = median(addRounds, addRounds, func() time.Duration {
		extra := newClient(n + 1)
		return timed(func() { outside.commit([]*keypackages.KeyPackage{extra.kp}) })
	})
	runtime.KeepAlive(clients)
	return &f
}
