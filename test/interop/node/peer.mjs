// MLS peers for the interop tests: clients of ts-mls behind one JSON object a line on standard input and output.
// Bytes travel as base64. A request is {id, client, op, ...}, the answer {id, ok, ...} or {id, error}. Each client
// is in at most one group.
import { createInterface } from "node:readline"
import {
  acceptAll, createApplicationMessage, createCommit, createGroup, createGroupInfoWithExternalPub,
  createGroupInfoWithExternalPubAndRatchetTree, createProposal, decodeMlsMessage, defaultCapabilities,
  defaultLifetime, encodeExternalSender, encodeMlsMessage, generateKeyPackage, getCiphersuiteFromName,
  getCiphersuiteImpl, joinGroup, joinGroupExternal, makePskIndex, mlsExporter, processMessage, proposeAddExternal,
  proposeExternal,
} from "ts-mls"
import { decodeVarLenType } from "ts-mls/codec/variableLength.js"
import { decodeExternalSender } from "ts-mls/externalSender.js"
import { ratchetTreeFromExtension, signGroupInfo, verifyGroupInfoSignature } from "ts-mls/groupInfo.js"
import { decodeRatchetTree, encodeRatchetTree, getSignaturePublicKeyFromLeafIndex } from "ts-mls/ratchetTree.js"

const suites = {
  1: "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519",
  3: "MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519",
}
const b64 = (bytes) => Buffer.from(bytes).toString("base64")
const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"))
const text = (s) => new TextEncoder().encode(s)

const clients = new Map() // name: { suite: CiphersuiteImpl, own: { publicPackage, privatePackage }, state, psks }

// decode reads one whole MLSMessage and refuses anything else.
function decode(encoded, wireformat) {
  const input = bytes(encoded)
  const result = decodeMlsMessage(input, 0)
  if (!result || result[1] !== input.length) throw new Error("not one MLSMessage")
  if (wireformat && result[0].wireformat !== wireformat) throw new Error(`${result[0].wireformat}, want ${wireformat}`)
  return result[0]
}

const encode = (wireformat, content) => b64(encodeMlsMessage({ version: "mls10", wireformat, ...content }))

function tree(encoded) {
  if (!encoded) return undefined
  const result = decodeRatchetTree(bytes(encoded), 0)
  if (!result) throw new Error("not a ratchet tree")
  return result[0]
}

const replace = (extensions, type, change) => extensions.flatMap((e) => e.extensionType === type ? change(e.extensionData) : [e])

// Defect of ts-mls: the extension external_pub has no vector header (RFC 9420 §12.4.3.2). A GroupInfo that leaves is
// therefore signed anew with the header in.
async function withHeader(info, client) {
  const extensions = replace(info.extensions, "external_pub", (d) =>
    [{ extensionType: "external_pub", extensionData: new Uint8Array([d.length, ...d]) }])
  return signGroupInfo({ ...info, extensions }, client.own.privatePackage.signaturePrivateKey, client.suite.signature)
}

// One that comes is verified as it is; then its header is taken out, and the suite that joins takes the signature of
// the changed GroupInfo as verified.
async function withoutHeader(info, nodes, client) {
  const s = client.suite.signature
  const key = getSignaturePublicKeyFromLeafIndex(nodes, info.signer)
  if (!(await verifyGroupInfoSignature(info, key, s))) throw new Error("signature of the GroupInfo")
  const extensions = replace(info.extensions, "external_pub", (d) => {
    if (d[0] !== d.length - 1) throw new Error("external_pub has no vector header")
    return [{ extensionType: "external_pub", extensionData: d.slice(1) }]
  })
  const same = (a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)) === 0
  const verify = (k, content, signature) => same(signature, info.signature) ? true : s.verify(k, content, signature)
  return [{ ...info, extensions }, { ...client.suite, signature: { ...s, verify } }]
}

// Defect of ts-mls: external_senders holds one ExternalSender without a vector (RFC 9420 §12.1.8.1), and a sender
// index counts extensions. senders gives the extensions that it understands. They only serve to find the key of an
// external sender, whose signature does not cover the GroupContext.
const senders = (context) => ({
  ...context,
  extensions: replace(context.extensions, "external_senders", (d) =>
    decodeVarLenType(decodeExternalSender)(d, 0)[0].map((s) =>
      ({ extensionType: "external_senders", extensionData: encodeExternalSender(s) }))),
})

const pskIndex = (client) => makePskIndex(client.state, client.psks)

const pskProposal = ({ id, nonce }) => ({
  proposalType: "psk",
  psk: { preSharedKeyId: { psktype: "external", pskId: bytes(id), pskNonce: bytes(nonce) } },
})

const resumptionProposal = ({ groupId, epoch, nonce }) => ({
  proposalType: "psk",
  psk: { preSharedKeyId: { psktype: "resumption", usage: "application", pskGroupId: bytes(groupId), pskEpoch: BigInt(epoch), pskNonce: bytes(nonce) } },
})

const addProposal = (kp) => ({ proposalType: "add", add: { keyPackage: decode(kp, "mls_key_package").keyPackage } })
const removeProposal = (removed) => ({ proposalType: "remove", remove: { removed } })

const operations = {
  async start(_, { suite: number, identity }) {
    const suite = await getCiphersuiteImpl(getCiphersuiteFromName(suites[number]))
    const credential = { credentialType: "basic", identity: text(identity) }
    const own = await generateKeyPackage(credential, defaultCapabilities(), defaultLifetime, [], suite)
    clients.set(identity, { suite, own, psks: {} })
    return {
      keyPackage: encode("mls_key_package", { keyPackage: own.publicPackage }),
      signatureKey: b64(own.publicPackage.leafNode.signaturePublicKey),
    }
  },
  async create(c, { groupId }) {
    c.state = await createGroup(bytes(groupId), c.own.publicPackage, c.own.privatePackage, [], c.suite)
    return {}
  },
  async join(c, { welcome, ratchetTree }) {
    const message = decode(welcome, "mls_welcome")
    c.state = await joinGroup(message.welcome, c.own.publicPackage, c.own.privatePackage, pskIndex(c), c.suite, tree(ratchetTree))
    return {}
  },
  async joinExternal(c, { groupInfo, ratchetTree, resync = false }) {
    const sent = decode(groupInfo, "mls_group_info").groupInfo
    const nodes = tree(ratchetTree) ?? ratchetTreeFromExtension(sent)
    const [info, suite] = await withoutHeader(sent, nodes, c)
    const result = await joinGroupExternal(info, c.own.publicPackage, c.own.privatePackage, resync, suite, nodes)
    c.state = result.newState
    return { commit: encode("mls_public_message", { publicMessage: result.publicMessage }) }
  },
  async psk(c, { pskId, secret }) {
    c.psks[pskId] = bytes(secret)
    return {}
  },
  async commit(c, { add = [], remove = [], psk = [], resumption = [], treeInWelcome = true, private: asPrivate = false }) {
    const extraProposals = [...add.map(addProposal), ...remove.map(removeProposal), ...psk.map(pskProposal), ...resumption.map(resumptionProposal)]
    const result = await createCommit({ state: c.state, cipherSuite: c.suite, pskIndex: pskIndex(c) },
      { extraProposals, wireAsPublicMessage: !asPrivate, ratchetTreeExtension: treeInWelcome })
    c.state = result.newState
    return {
      commit: b64(encodeMlsMessage(result.commit)),
      welcome: result.welcome && encode("mls_welcome", { welcome: result.welcome }),
      ratchetTree: b64(encodeRatchetTree(c.state.ratchetTree)),
    }
  },
  async propose(c, { add, remove, psk, private: asPrivate = false }) {
    const proposal = add ? addProposal(add) : psk ? pskProposal(psk) : removeProposal(remove)
    const result = await createProposal(c.state, !asPrivate, proposal, c.suite)
    c.state = result.newState
    return { proposal: b64(encodeMlsMessage(result.message)) }
  },
  async proposeAddExternal(c, { groupInfo }) {
    const info = decode(groupInfo, "mls_group_info").groupInfo
    return { proposal: b64(encodeMlsMessage(await proposeAddExternal(info, c.own.publicPackage, c.own.privatePackage, c.suite))) }
  },
  async proposeExternal(c, { groupInfo, add, remove }) {
    const info = decode(groupInfo, "mls_group_info").groupInfo
    const message = await proposeExternal({ ...info, groupContext: senders(info.groupContext) },
      add ? addProposal(add) : removeProposal(remove),
      c.own.publicPackage.leafNode.signaturePublicKey, c.own.privatePackage.signaturePrivateKey, c.suite)
    return { proposal: b64(encodeMlsMessage(message)) }
  },
  async send(c, { data }) {
    const result = await createApplicationMessage(c.state, bytes(data), c.suite)
    c.state = result.newState
    return { message: encode("mls_private_message", { privateMessage: result.privateMessage }) }
  },
  async receive(c, { message }) {
    const decoded = decode(message)
    const external = decoded.publicMessage?.content.sender.senderType === "external"
    const state = external ? { ...c.state, groupContext: senders(c.state.groupContext) } : c.state
    const result = await processMessage(decoded, state, pskIndex(c), acceptAll, c.suite)
    c.state = external ? { ...result.newState, groupContext: c.state.groupContext } : result.newState
    return result.kind === "applicationMessage" ? { data: b64(result.message) } : {}
  },
  async groupInfo(c, { withTree = true }) {
    const make = withTree ? createGroupInfoWithExternalPubAndRatchetTree : createGroupInfoWithExternalPub
    const groupInfo = await withHeader(await make(c.state, [], c.suite), c)
    return { groupInfo: encode("mls_group_info", { groupInfo }), ratchetTree: b64(encodeRatchetTree(c.state.ratchetTree)) }
  },
  async epoch({ state, suite }) {
    return {
      epoch: Number(state.groupContext.epoch),
      authenticator: b64(state.keySchedule.epochAuthenticator),
      treeHash: b64(state.groupContext.treeHash),
      exported: b64(await mlsExporter(state.keySchedule.exporterSecret, "interop", text("context"), 32, suite)),
      leaf: Number(state.privatePath.leafIndex),
      active: state.groupActiveState.kind === "active",
    }
  },
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line)
  let answer
  try {
    answer = { ok: true, ...(await operations[request.op](clients.get(request.client), request)) }
  } catch (error) {
    answer = { error: String(error?.stack ?? error) }
  }
  process.stdout.write(JSON.stringify({ id: request.id, ...answer }) + "\n")
}
