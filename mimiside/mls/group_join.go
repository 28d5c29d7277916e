package mls

import (
	"bytes"
	"maps"
	"slices"
	"time"
)

// opened is a Welcome after decryption.
type opened struct {
	info    *GroupInfo
	joiner  Secret
	psk     Secret
	secrets []*GroupSecrets // one for each JoinKey
}

// openWelcome decrypts the group secrets of all keys and, once, the GroupInfo. g may be nil.
func openWelcome(cfg *Config, g *Group, params *JoinParams) (*opened, error) {
	const op = "open Welcome"
	if params.Welcome == nil || len(params.Keys) == 0 {
		return nil, fail(KindBug, op, ErrEmpty)
	}
	w := params.Welcome
	if err := w.Suite.Check(); err != nil {
		return nil, fail(KindUnsupported, op, err)
	}
	byRef := make(map[string]*EncryptedGroupSecrets, len(w.Secrets))
	for i := range w.Secrets {
		byRef[string(w.Secrets[i].NewMember)] = &w.Secrets[i]
	}
	o := &opened{}
	for _, k := range params.Keys {
		s, err := openGroupSecrets(w, byRef, k)
		if err != nil {
			return nil, err
		}
		o.secrets = append(o.secrets, s)
		if o.joiner == nil {
			o.joiner = s.JoinerSecret
			psks, err := resolvePSKs(cfg, g, s.PSKs)
			if err != nil {
				return nil, err
			}
			if o.psk, err = derivePSKSecret(w.Suite, psks); err != nil {
				return nil, err
			}
		} else if !o.joiner.Equal(s.JoinerSecret) {
			return nil, failf(KindInvalid, op, ErrGroupInfo, "joiner secrets differ")
		}
	}
	welcomeSecret := deriveWelcomeSecret(w.Suite, o.joiner, o.psk)
	defer welcomeSecret.Wipe()
	b, err := openWelcomeGroupInfo(w.Suite, welcomeSecret, w.EncryptedGroupInfo)
	if err != nil {
		return nil, err
	}
	if o.info, err = UnmarshalGroupInfo(b); err != nil {
		return nil, err
	}
	if o.info.Context.Suite != w.Suite {
		return nil, failf(KindInvalid, op, ErrGroupInfo, "suite differs from the Welcome's")
	}
	return o, o.checkPSKs()
}

func openGroupSecrets(w *Welcome, byRef map[string]*EncryptedGroupSecrets, k JoinKey) (*GroupSecrets, error) {
	const op = "open Welcome"
	if k.KeyPackage == nil || k.Private == nil || k.KeyPackage.Suite != w.Suite {
		return nil, failf(KindInvalid, op, ErrNoKeyPackage, "suite differs")
	}
	s := byRef[string(k.KeyPackage.Ref())]
	if s == nil {
		return nil, fail(KindInvalid, op, ErrNoKeyPackage)
	}
	b, err := DecryptWithLabel(w.Suite, k.Private.InitKey, labelWelcome, w.EncryptedGroupInfo, s.Secrets)
	if err != nil {
		return nil, fail(KindInvalid, op, err)
	}
	return UnmarshalGroupSecrets(b)
}

const labelWelcome = "Welcome"

// checkPSKs applies the rules for PSKs in a Welcome (RFC 9420 §12.4.3.1): a reinit or branch PSK stands alone and
// leads to epoch 1.
func (o *opened) checkPSKs() error {
	special := 0
	for i := range o.secrets[0].PSKs {
		id := &o.secrets[0].PSKs[i]
		if id.Type == PSKResumption && id.Usage != ResumptionApplication {
			special++
		}
	}
	if special > 1 || special == 1 && o.info.Context.Epoch != 1 {
		return failf(KindInvalid, "open Welcome", ErrProposalList, "PSK of usage reinit or branch")
	}
	return nil
}

// JoinWelcome joins a group by Welcome with one or more own leaves (RFC 9420 §12.4.3.1).
func JoinWelcome(now time.Time, cfg Config, params JoinParams) (*Group, []LeafIndex, error) {
	const op = "join by Welcome"
	if err := cfg.check(op); err != nil {
		return nil, nil, err
	}
	o, err := openWelcome(&cfg, nil, &params)
	if err != nil {
		return nil, nil, fail(KindInvalid, op, err)
	}
	tree, rules, err := treeFor(now, &cfg, o.info, params.Tree)
	if err != nil {
		return nil, nil, fail(KindInvalid, op, err)
	}
	e := newEpoch(o.info.Context, tree, rules, o.info.ConfirmationTag)
	if err := e.join(o); err != nil {
		return nil, nil, fail(KindInvalid, op, err)
	}
	g := newGroup(cfg, e)
	j, err := g.joinLeaves(o, params.Keys)
	if err != nil {
		return nil, nil, fail(KindInvalid, op, err)
	}
	g.adopt(j)
	g.welcomedBy = &o.info.Signer
	return g, j.leaves, nil
}

// join derives the secrets of the epoch from a Welcome and checks the confirmation tag.
func (e *epoch) join(o *opened) error {
	suite := e.context.Suite
	epochSecret := deriveEpochSecret(suite, o.joiner, o.psk, e.encoded)
	defer epochSecret.Wipe()
	secrets := deriveEpochSecrets(suite, epochSecret)
	defer secrets.wipe()
	if err := secrets.checkConfirmationTag(suite, e.context.ConfirmedTranscriptHash, o.info.ConfirmationTag); err != nil {
		return err
	}
	e.setSecrets(epochSecret)
	return nil
}

// joined is what own leaves bring into the pool.
type joined struct {
	leaves []LeafIndex
	own    map[LeafIndex]*ownLeaf
	path   map[nodeIndex]Secret
}

// joinLeaves finds the leaves of the keys in the tree, and derives from the path secrets the keys that the pool lacks.
func (g *Group) joinLeaves(o *opened, keys []JoinKey) (*joined, error) {
	const op = "find own leaf"
	j := &joined{own: map[LeafIndex]*ownLeaf{}, path: map[nodeIndex]Secret{}}
	tree := g.cur.tree
	have := func(x nodeIndex) Secret {
		if s := j.path[x]; s != nil {
			return s
		}
		return g.path[x]
	}
	for i, k := range keys {
		leaf := &k.KeyPackage.Leaf
		x, there := tree.index.at[keyIDOf(useEncryption, leaf.EncryptionKey)]
		if !there || !x.isLeaf() || !bytes.Equal(tree.leaf(x.leaf()).Marshal(), leaf.Marshal()) {
			return nil, failf(KindInvalid, op, ErrNoKeyPackage, "its leaf is not in the tree")
		}
		l := x.leaf()
		if g.own[l] != nil || j.own[l] != nil {
			return nil, failf(KindInvalid, op, ErrAlreadyMember, "leaf %d", l)
		}
		if err := k.matches(g.suite); err != nil {
			return nil, err
		}
		j.leaves = append(j.leaves, l)
		j.own[l] = &ownLeaf{signature: k.Private.SignatureKey, encryptionKey: k.Private.EncryptionKey.Clone()}
		secret := o.secrets[i].PathSecret
		if secret == nil {
			continue
		}
		steps := tree.sharedPath(o.info.Signer, l)
		if len(steps) == 0 {
			return nil, failf(KindInvalid, op, ErrPathSecret, "no node above leaf %d takes it", l)
		}
		got, _, err := climb(g.suite, steps, secret, have)
		if err != nil {
			return nil, err
		}
		for x, s := range got {
			j.path[x] = s
		}
	}
	return j, nil
}

// matches checks that the private keys belong to the KeyPackage.
func (k *JoinKey) matches(suite Suite) error {
	pub, err := PublicKeyOf(suite, k.Private.EncryptionKey)
	if err != nil {
		return err
	}
	if !bytes.Equal(pub, k.KeyPackage.Leaf.EncryptionKey) || !bytes.Equal(k.Private.SignatureKey.Public(), k.KeyPackage.Leaf.SignatureKey) {
		return failf(KindBug, "use KeyPackage", ErrKey, "private keys belong to another KeyPackage")
	}
	return nil
}

// adopt takes joined leaves into the pool.
func (g *Group) adopt(j *joined) {
	for l, o := range j.own {
		g.own[l] = o
	}
	for x, s := range j.path {
		g.path[x] = s
	}
}

// AddOwnFromWelcome joins with further own leaves. The group must be in the epoch of the Welcome. When it already has
// an own leaf, the epoch comes from it and the Welcome gives only the path secrets that the pool lacks; a public view
// gets the secrets of the epoch from the Welcome.
func (g *Group) AddOwnFromWelcome(now time.Time, params JoinParams) ([]LeafIndex, Changes, error) {
	const op = "add own leaf by Welcome"
	o, err := openWelcome(&g.cfg, g, &params)
	if err != nil {
		return nil, Changes{}, fail(KindInvalid, op, err)
	}
	if err := g.sameEpoch(o); err != nil {
		return nil, Changes{}, fail(KindInvalid, op, err)
	}
	if err := checkGroupInfo(o.info, g.cur.tree); err != nil {
		return nil, Changes{}, fail(KindInvalid, op, err)
	}
	j, err := g.joinLeaves(o, params.Keys)
	if err != nil {
		return nil, Changes{}, fail(KindInvalid, op, err)
	}
	var c Changes
	if g.cur.secrets == nil {
		if err := g.cur.join(o); err != nil {
			return nil, Changes{}, fail(KindInvalid, op, err)
		}
		c.Put = append(c.Put, g.epochPiece(), g.exportsPiece())
		c.Put = append(c.Put, g.cur.keys.pieces()...)
	} else {
		epochSecret := deriveEpochSecret(g.suite, o.joiner, o.psk, g.cur.encoded)
		defer epochSecret.Wipe()
		if !g.suite.DeriveSecret(epochSecret, "authentication").Equal(g.cur.secrets.authenticator) {
			return nil, Changes{}, failf(KindInvalid, op, ErrGroupInfo, "secrets differ from those of the group")
		}
	}
	g.adopt(j)
	for _, l := range slices.Sorted(maps.Keys(j.own)) {
		c.Put = append(c.Put, ownPiece(l, g.own[l]))
	}
	for _, x := range sortedNodes(j.path) {
		c.Put = append(c.Put, pathPiece(x, g.path[x]))
	}
	return j.leaves, c, nil
}

// sameEpoch checks that a Welcome leads into the present epoch of the group.
func (g *Group) sameEpoch(o *opened) error {
	const op = "compare GroupInfo with group"
	c := &o.info.Context
	switch {
	case !bytes.Equal(c.GroupID, g.groupID):
		return fail(KindInvalid, op, ErrWrongGroup)
	case c.Epoch != g.cur.context.Epoch:
		return failf(KindEpoch, op, ErrWrongEpoch, "%d, the group is in %d", c.Epoch, g.cur.context.Epoch)
	case !bytes.Equal(c.Marshal(), g.cur.encoded) || !bytes.Equal(o.info.ConfirmationTag, g.cur.tag):
		return fail(KindInvalid, op, ErrGroupInfo)
	}
	return nil
}
