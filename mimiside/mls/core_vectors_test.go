package mls

import (
	"bytes"
	"testing"

	"github.com/matrix-mimi/bridge/internal/tlspl"
)

func TestVectorsCryptoBasics(t *testing.T) {
	type labelled struct {
		Secret     hexBytes
		Label      string
		Context    hexBytes
		Generation uint32
		Length     int
		Out        hexBytes
	}
	type vector struct {
		Suite   Suite `json:"cipher_suite"`
		RefHash struct {
			Label string
			Value hexBytes
			Out   hexBytes
		} `json:"ref_hash"`
		Expand     labelled `json:"expand_with_label"`
		Derive     labelled `json:"derive_secret"`
		DeriveTree labelled `json:"derive_tree_secret"`
		Sign       struct {
			Priv, Pub, Content, Signature hexBytes
			Label                         string
		} `json:"sign_with_label"`
		Encrypt struct {
			Priv, Pub, Context, Plaintext, Ciphertext hexBytes
			KEMOutput                                 hexBytes `json:"kem_output"`
			Label                                     string
		} `json:"encrypt_with_label"`
	}
	count := countVectors(t, "crypto-basics.json")
	for _, v := range loadVectors[vector](t, "crypto-basics.json") {
		s := v.Suite
		if !count.suite(s) {
			continue
		}
		ref, err := RefHash(s, v.RefHash.Label, v.RefHash.Value)
		ok(t, "RefHash", err)
		same(t, "RefHash", ref, v.RefHash.Out)
		same(t, "ExpandWithLabel", s.ExpandWithLabel(Secret(v.Expand.Secret), v.Expand.Label, v.Expand.Context, v.Expand.Length), v.Expand.Out)
		same(t, "DeriveSecret", s.DeriveSecret(Secret(v.Derive.Secret), v.Derive.Label), v.Derive.Out)
		d := v.DeriveTree
		same(t, "DeriveTreeSecret", s.deriveTreeSecret(Secret(d.Secret), d.Label, d.Generation, d.Length), d.Out)

		ok(t, "VerifyWithLabel", VerifyWithLabel(s, v.Sign.Pub, v.Sign.Label, v.Sign.Content, v.Sign.Signature))
		key, err := NewSignatureKey(s, Secret(v.Sign.Priv))
		ok(t, "NewSignatureKey", err)
		same(t, "public key", key.Public(), v.Sign.Pub)
		sig, err := SignWithLabel(key, v.Sign.Label, v.Sign.Content)
		ok(t, "SignWithLabel", err)
		ok(t, "VerifyWithLabel of own signature", VerifyWithLabel(s, v.Sign.Pub, v.Sign.Label, v.Sign.Content, sig))

		e := v.Encrypt
		plain, err := DecryptWithLabel(s, Secret(e.Priv), e.Label, e.Context, HPKECiphertext{e.KEMOutput, e.Ciphertext})
		ok(t, "DecryptWithLabel", err)
		same(t, "DecryptWithLabel", plain, e.Plaintext)
		pub, err := PublicKeyOf(s, Secret(e.Priv))
		ok(t, "PublicKeyOf", err)
		same(t, "HPKE public key", pub, e.Pub)
		ct, err := EncryptWithLabel(s, e.Pub, e.Label, e.Context, e.Plaintext)
		ok(t, "EncryptWithLabel", err)
		plain, err = DecryptWithLabel(s, Secret(e.Priv), e.Label, e.Context, ct)
		ok(t, "DecryptWithLabel of own ciphertext", err)
		same(t, "DecryptWithLabel of own ciphertext", plain, e.Plaintext)
		count.ok()
	}
}

func TestVectorsDeserialization(t *testing.T) {
	type vector struct {
		Header hexBytes `json:"vlbytes_header"`
		Length int
	}
	count := countVectors(t, "deserialization.json")
	for _, v := range loadVectors[vector](t, "deserialization.json") {
		r := tlspl.NewReader(v.Header)
		n := r.Length()
		ok(t, "header", r.Close())
		if n != v.Length {
			t.Fatalf("header %x: %d, want %d", v.Header, n, v.Length)
		}
		same(t, "header", tlspl.AppendLength(nil, n), v.Header)
		count.ok()
	}
}

func TestVectorsKeySchedule(t *testing.T) {
	type vector struct {
		Suite       Suite    `json:"cipher_suite"`
		GroupID     hexBytes `json:"group_id"`
		InitialInit hexBytes `json:"initial_init_secret"`
		Epochs      []struct {
			TreeHash      hexBytes `json:"tree_hash"`
			CommitSecret  hexBytes `json:"commit_secret"`
			PSKSecret     hexBytes `json:"psk_secret"`
			Confirmed     hexBytes `json:"confirmed_transcript_hash"`
			GroupContext  hexBytes `json:"group_context"`
			Joiner        hexBytes `json:"joiner_secret"`
			Welcome       hexBytes `json:"welcome_secret"`
			Init          hexBytes `json:"init_secret"`
			SenderData    hexBytes `json:"sender_data_secret"`
			Encryption    hexBytes `json:"encryption_secret"`
			ExporterS     hexBytes `json:"exporter_secret"`
			Authenticator hexBytes `json:"epoch_authenticator"`
			External      hexBytes `json:"external_secret"`
			Confirmation  hexBytes `json:"confirmation_key"`
			Membership    hexBytes `json:"membership_key"`
			Resumption    hexBytes `json:"resumption_psk"`
			ExternalPub   hexBytes `json:"external_pub"`
			Exporter      struct {
				Label   string
				Context hexBytes
				Length  int
				Secret  hexBytes
			}
		}
	}
	count := countVectors(t, "key-schedule.json")
	for _, v := range loadVectors[vector](t, "key-schedule.json") {
		if !count.suite(v.Suite) {
			continue
		}
		initSecret := Secret(v.InitialInit)
		for i, e := range v.Epochs {
			ctx := GroupContext{Version: VersionMLS10, Suite: v.Suite, GroupID: v.GroupID, Epoch: uint64(i),
				TreeHash: e.TreeHash, ConfirmedTranscriptHash: e.Confirmed}
			b := ctx.Marshal()
			same(t, "group_context", b, e.GroupContext)
			joiner := deriveJoinerSecret(v.Suite, initSecret, Secret(e.CommitSecret), b)
			same(t, "joiner_secret", joiner, e.Joiner)
			same(t, "welcome_secret", deriveWelcomeSecret(v.Suite, joiner, Secret(e.PSKSecret)), e.Welcome)
			s := deriveEpochSecrets(v.Suite, deriveEpochSecret(v.Suite, joiner, Secret(e.PSKSecret), b))
			same(t, "init_secret", s.init, e.Init)
			same(t, "sender_data_secret", s.senderData, e.SenderData)
			same(t, "encryption_secret", s.encryption, e.Encryption)
			same(t, "exporter_secret", s.exporter, e.ExporterS)
			same(t, "epoch_authenticator", s.authenticator, e.Authenticator)
			same(t, "external_secret", s.external, e.External)
			same(t, "confirmation_key", s.confirmation, e.Confirmation)
			same(t, "membership_key", s.membership, e.Membership)
			same(t, "resumption_psk", s.resumption, e.Resumption)
			priv, pub, err := s.externalKeyPair(v.Suite)
			ok(t, "external_pub", err)
			same(t, "external_pub", pub, e.ExternalPub)
			out, err := s.export(v.Suite, e.Exporter.Label, e.Exporter.Context, e.Exporter.Length)
			ok(t, "exporter", err)
			same(t, "exporter", out, e.Exporter.Secret)
			kem, sent, err := externalInitSend(v.Suite, pub)
			ok(t, "external init", err)
			got, err := externalInitReceive(v.Suite, priv, kem)
			ok(t, "external init", err)
			same(t, "external init", got, sent)
			initSecret = s.init
		}
		count.ok()
	}
}

func TestVectorsPSKSecret(t *testing.T) {
	type vector struct {
		Suite Suite `json:"cipher_suite"`
		PSKs  []struct {
			ID    hexBytes `json:"psk_id"`
			PSK   hexBytes `json:"psk"`
			Nonce hexBytes `json:"psk_nonce"`
		}
		Secret hexBytes `json:"psk_secret"`
	}
	count := countVectors(t, "psk_secret.json")
	for _, v := range loadVectors[vector](t, "psk_secret.json") {
		if !count.suite(v.Suite) {
			continue
		}
		var psks []resolvedPSK
		for _, p := range v.PSKs {
			psks = append(psks, resolvedPSK{PreSharedKeyID{Type: PSKExternal, ID: p.ID, Nonce: p.Nonce}, Secret(p.PSK)})
		}
		got, err := derivePSKSecret(v.Suite, psks)
		ok(t, "psk_secret", err)
		same(t, "psk_secret", got, v.Secret)
		count.ok()
	}
}

func TestVectorsTranscriptHashes(t *testing.T) {
	type vector struct {
		Suite         Suite    `json:"cipher_suite"`
		Key           hexBytes `json:"confirmation_key"`
		Content       hexBytes `json:"authenticated_content"`
		InterimBefore hexBytes `json:"interim_transcript_hash_before"`
		Confirmed     hexBytes `json:"confirmed_transcript_hash_after"`
		InterimAfter  hexBytes `json:"interim_transcript_hash_after"`
	}
	count := countVectors(t, "transcript-hashes.json")
	for _, v := range loadVectors[vector](t, "transcript-hashes.json") {
		if !count.suite(v.Suite) {
			continue
		}
		a, err := UnmarshalAuthenticatedContent(v.Content)
		ok(t, "authenticated_content", err)
		confirmed := confirmedTranscriptHash(v.Suite, v.InterimBefore, a)
		same(t, "confirmed", confirmed, v.Confirmed)
		same(t, "interim", interimTranscriptHash(v.Suite, confirmed, a.Auth.ConfirmationTag), v.InterimAfter)
		s := &epochSecrets{confirmation: Secret(v.Key)}
		ok(t, "confirmation tag", s.checkConfirmationTag(v.Suite, confirmed, a.Auth.ConfirmationTag))
		count.ok()
	}
}

func TestVectorsSecretTree(t *testing.T) {
	type vector struct {
		Suite      Suite    `json:"cipher_suite"`
		Encryption hexBytes `json:"encryption_secret"`
		SenderData struct {
			Secret     hexBytes `json:"sender_data_secret"`
			Ciphertext hexBytes
			Key, Nonce hexBytes
		} `json:"sender_data"`
		Leaves [][]struct {
			Generation       uint32
			HandshakeKey     hexBytes `json:"handshake_key"`
			HandshakeNonce   hexBytes `json:"handshake_nonce"`
			ApplicationKey   hexBytes `json:"application_key"`
			ApplicationNonce hexBytes `json:"application_nonce"`
		}
	}
	count := countVectors(t, "secret-tree.json")
	for _, v := range loadVectors[vector](t, "secret-tree.json") {
		if !count.suite(v.Suite) {
			continue
		}
		key, nonce := senderDataKey(v.Suite, Secret(v.SenderData.Secret), v.SenderData.Ciphertext)
		same(t, "sender data key", key, v.SenderData.Key)
		same(t, "sender data nonce", nonce, v.SenderData.Nonce)
		height := uint(0)
		for 1<<height < len(v.Leaves) {
			height++
		}
		limits := Limits{MaxForward: 1000, MaxSkipped: 256}
		receiving := newSecretTree(v.Suite, 0, height, Secret(v.Encryption).Clone())
		sending := newSecretTree(v.Suite, 0, height, Secret(v.Encryption).Clone())
		for leaf, generations := range v.Leaves {
			for _, g := range generations {
				for kind, want := range map[ratchetKind][2]hexBytes{
					ratchetHandshake:   {g.HandshakeKey, g.HandshakeNonce},
					ratchetApplication: {g.ApplicationKey, g.ApplicationNonce},
				} {
					var changes Changes
					f, err := receiving.findKey(LeafIndex(leaf), kind, g.Generation, limits)
					ok(t, "findKey", err)
					same(t, "key", f.key.key, want[0])
					same(t, "nonce", f.key.nonce, want[1])
					f.use(&changes)
					for {
						k, err := sending.nextSendKey(LeafIndex(leaf), kind, &changes)
						ok(t, "nextSendKey", err)
						if k.generation == g.Generation {
							same(t, "sending key", k.key, want[0])
							same(t, "sending nonce", k.nonce, want[1])
							break
						}
					}
				}
			}
		}
		if len(receiving.seeds)+len(sending.seeds) != 0 && 1<<height == len(v.Leaves) {
			t.Fatal("seeds are left though every leaf was used")
		}
		count.ok()
	}
}

func TestVectorsMessageProtection(t *testing.T) {
	type vector struct {
		Suite      Suite    `json:"cipher_suite"`
		GroupID    hexBytes `json:"group_id"`
		Epoch      uint64
		TreeHash   hexBytes `json:"tree_hash"`
		Confirmed  hexBytes `json:"confirmed_transcript_hash"`
		SigPriv    hexBytes `json:"signature_priv"`
		SigPub     hexBytes `json:"signature_pub"`
		Encryption hexBytes `json:"encryption_secret"`
		SenderData hexBytes `json:"sender_data_secret"`
		Membership hexBytes `json:"membership_key"`

		Proposal        hexBytes
		ProposalPriv    hexBytes `json:"proposal_priv"`
		ProposalPub     hexBytes `json:"proposal_pub"`
		Commit          hexBytes
		CommitPriv      hexBytes `json:"commit_priv"`
		CommitPub       hexBytes `json:"commit_pub"`
		Application     hexBytes
		ApplicationPriv hexBytes `json:"application_priv"`
	}
	const sender = LeafIndex(1)
	count := countVectors(t, "message-protection.json")
	for _, v := range loadVectors[vector](t, "message-protection.json") {
		s := v.Suite
		if !count.suite(s) {
			continue
		}
		gc := GroupContext{Version: VersionMLS10, Suite: s, GroupID: v.GroupID, Epoch: v.Epoch, TreeHash: v.TreeHash,
			ConfirmedTranscriptHash: v.Confirmed}
		ctx := gc.Marshal()
		secrets := &epochSecrets{senderData: Secret(v.SenderData), membership: Secret(v.Membership)}
		key, err := NewSignatureKey(s, Secret(v.SigPriv))
		ok(t, "signature key", err)
		limits := Limits{MaxForward: 1000, MaxSkipped: 256}
		newTree := func() *secretTree { return newSecretTree(s, v.Epoch, 1, Secret(v.Encryption).Clone()) }

		openPriv := func(tree *secretTree, message []byte) []byte {
			m, err := UnmarshalMLSMessage(message)
			ok(t, "PrivateMessage", err)
			d, err := openSenderData(s, secrets.senderData, m.Private)
			ok(t, "sender data", err)
			f, err := tree.findKey(d.leaf, ratchetKindOf(m.Private.ContentType), d.generation, limits)
			ok(t, "key", err)
			a, err := openPrivate(s, m.Private, d, f.key)
			ok(t, "open", err)
			ok(t, "signature", verifyContent(s, v.SigPub, a, ctx))
			f.use(&Changes{})
			return a.Content.appendContent(nil)
		}
		openPub := func(message []byte) []byte {
			m, err := UnmarshalMLSMessage(message)
			ok(t, "PublicMessage", err)
			a, err := secrets.openPublic(s, m.Public, ctx)
			ok(t, "membership tag", err)
			ok(t, "signature", verifyContent(s, v.SigPub, a, ctx))
			return a.Content.appendContent(nil)
		}
		same(t, "proposal_priv", openPriv(newTree(), v.ProposalPriv), v.Proposal)
		same(t, "commit_priv", openPriv(newTree(), v.CommitPriv), v.Commit)
		same(t, "application_priv", openPriv(newTree(), v.ApplicationPriv), tlspl.AppendOpaque(nil, v.Application))
		same(t, "proposal_pub", openPub(v.ProposalPub), v.Proposal)
		same(t, "commit_pub", openPub(v.CommitPub), v.Commit)

		proposal, err := UnmarshalProposal(v.Proposal)
		ok(t, "proposal", err)
		commit, err := UnmarshalCommit(v.Commit)
		ok(t, "commit", err)
		sending, receiving := newTree(), newTree()
		for _, c := range []FramedContent{
			{ContentType: ContentProposal, Proposal: proposal},
			{ContentType: ContentCommit, Commit: commit},
			{ContentType: ContentApplication, Application: v.Application},
		} {
			c.GroupID, c.Epoch, c.Sender, c.AuthenticatedData = v.GroupID, v.Epoch, MemberSender(sender), []byte("aad")
			for _, format := range []WireFormat{WireFormatPublicMessage, WireFormatPrivateMessage} {
				if c.ContentType == ContentApplication && format == WireFormatPublicMessage {
					continue
				}
				a, err := signContent(key, format, c, ctx)
				ok(t, "sign", err)
				if c.ContentType == ContentCommit {
					a.Auth.ConfirmationTag = make([]byte, s.HashLength())
				}
				var got []byte
				if format == WireFormatPublicMessage {
					got = openPub(secrets.sealPublic(s, a, ctx).Message())
				} else {
					k, err := sending.nextSendKey(sender, ratchetKindOf(c.ContentType), &Changes{})
					ok(t, "sending key", err)
					m, err := sealPrivate(testRand(1), s, secrets.senderData, a, k, 17)
					ok(t, "seal", err)
					got = openPriv(receiving, m.Message())
				}
				same(t, "own message", got, c.appendContent(nil))
			}
		}
		count.ok()
	}
}

func TestVectorsMessages(t *testing.T) {
	count := countVectors(t, "messages.json")
	kinds := map[string]func([]byte) ([]byte, error){
		"mls_welcome":     messageKind(func(m *MLSMessage) bool { return m.Welcome != nil }),
		"mls_group_info":  messageKind(func(m *MLSMessage) bool { return m.GroupInfo != nil }),
		"mls_key_package": messageKind(func(m *MLSMessage) bool { return m.KeyPackage != nil }),
		"public_message_application": messageKind(func(m *MLSMessage) bool {
			return m.Public != nil && m.Public.Content.ContentType == ContentApplication
		}),
		"public_message_proposal": messageKind(func(m *MLSMessage) bool { return m.Public != nil && m.Public.Content.Proposal != nil }),
		"public_message_commit":   messageKind(func(m *MLSMessage) bool { return m.Public != nil && m.Public.Content.Commit != nil }),
		"private_message":         messageKind(func(m *MLSMessage) bool { return m.Private != nil }),
		"ratchet_tree":            recodeRatchetTree,
		"group_secrets":           recoder(UnmarshalGroupSecrets, func(s *GroupSecrets) []byte { return s.Marshal() }),
		"commit":                  recoder(UnmarshalCommit, (*Commit).Marshal),
		"add_proposal":            bodyOf(ProposalAdd),
		"update_proposal":         bodyOf(ProposalUpdate),
		"remove_proposal":         bodyOf(ProposalRemove),
		"pre_shared_key_proposal": bodyOf(ProposalPSK),
		"re_init_proposal":        bodyOf(ProposalReInit),
		"external_init_proposal":  bodyOf(ProposalExternalInit),

		"group_context_extensions_proposal": bodyOf(ProposalGroupContextExtensions),
	}
	for _, v := range loadVectors[map[string]hexBytes](t, "messages.json") {
		for name, b := range v {
			recode := kinds[name]
			if recode == nil {
				t.Fatalf("no decoder for %s", name)
			}
			got, err := recode(b)
			ok(t, name, err)
			same(t, name, got, b)
			if _, err := recode(append(bytes.Clone(b), 0)); err == nil {
				t.Fatalf("%s: a trailing byte was accepted", name)
			}
			count.ok()
		}
	}
}

// recoder decodes, forgets the remembered bytes and encodes.
func recoder[T any](unmarshal func([]byte) (T, error), marshal func(T) []byte) func([]byte) ([]byte, error) {
	return func(b []byte) ([]byte, error) {
		v, err := unmarshal(b)
		if err != nil {
			return nil, err
		}
		forgetRaw(v)
		return marshal(v), nil
	}
}

func messageKind(is func(*MLSMessage) bool) func([]byte) ([]byte, error) {
	return recoder(UnmarshalMLSMessage, func(m *MLSMessage) []byte {
		if !is(m) {
			return nil
		}
		return m.Marshal()
	})
}

// bodyOf recodes a proposal whose vector lacks the type.
func bodyOf(t ProposalType) func([]byte) ([]byte, error) {
	return func(b []byte) ([]byte, error) {
		out, err := recoder(UnmarshalProposal, (*Proposal).Marshal)(append(tlspl.AppendUint16(nil, uint16(t)), b...))
		if err != nil {
			return nil, err
		}
		return out[2:], nil
	}
}
