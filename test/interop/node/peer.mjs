// An MLS peer for the interop tests: ts-mls behind one JSON object a line on standard input and output.
// Bytes travel as base64. A request is {id, op, ...}; the answer {id, ok, ...} or {id, error}.
import { createInterface } from "node:readline"
import {
  acceptAll, createApplicationMessage, createCommit, createGroup, createGroupInfoWithExternalPub,
  createGroupInfoWithExternalPubAndRatchetTree, createProposal, decodeMlsMessage, defaultCapabilities,
  defaultLifetime, emptyPskIndex, encodeMlsMessage, generateKeyPackage, getCiphersuiteFromName,
  getCiphersuiteImpl, joinGroup, joinGroupExternal, mlsExporter, processMessage, proposeAddExternal,
} from "ts-mls"
import { decodeRatchetTree, encodeRatchetTree } from "ts-mls/ratchetTree.js"

const suites = {
  1: "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519",
  3: "MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519",
}
const b64 = (bytes) => Buffer.from(bytes).toString("base64")
const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"))
const text = (s) => new TextEncoder().encode(s)

let suite // CiphersuiteImpl
let own // { publicPackage, privatePackage }
let state // ClientState of the one group

// decode reads one whole MLSMessage and refuses anything else.
function decode(encoded, wireformat) {
  const input = bytes(encoded)
  const result = decodeMlsMessage(input, 0)
  if (!result || result[1] !== input.length) throw new Error("not one MLSMessage")
  if (wireformat && result[0].wireformat !== wireformat) throw new Error(`${result[0].wireformat}, want ${wireformat}`)
  return result[0]
}

const tree = (encoded) => {
  if (!encoded) return undefined
  const result = decodeRatchetTree(bytes(encoded), 0)
  if (!result) throw new Error("not a ratchet tree")
  return result[0]
}

// ts-mls writes the external_pub extension without the vector header of RFC 9420 §12.4.3.2; these two put it in
// and take it out, so that the other side sees the RFC's form.
const withHeader = (e) => e.extensionType === "external_pub" && e.extensionData.length < 33
  ? { ...e, extensionData: new Uint8Array([e.extensionData.length, ...e.extensionData]) } : e
const withoutHeader = (e) => e.extensionType === "external_pub" && e.extensionData[0] === e.extensionData.length - 1
  ? { ...e, extensionData: e.extensionData.slice(1) } : e

const operations = {
  async start({ suite: number, identity }) {
    suite = await getCiphersuiteImpl(getCiphersuiteFromName(suites[number]))
    const credential = { credentialType: "basic", identity: text(identity) }
    own = await generateKeyPackage(credential, defaultCapabilities(), defaultLifetime, [], suite)
    return { keyPackage: b64(encodeMlsMessage({ version: "mls10", wireformat: "mls_key_package", keyPackage: own.publicPackage })) }
  },
  async create({ groupId }) {
    state = await createGroup(bytes(groupId), own.publicPackage, own.privatePackage, [], suite)
    return {}
  },
  async join({ welcome, ratchetTree }) {
    const message = decode(welcome, "mls_welcome")
    state = await joinGroup(message.welcome, own.publicPackage, own.privatePackage, emptyPskIndex, suite, tree(ratchetTree))
    return {}
  },
  async joinExternal({ groupInfo, ratchetTree, resync }) {
    const info = decode(groupInfo, "mls_group_info").groupInfo
    const adapted = { ...info, extensions: info.extensions.map(withoutHeader) }
    // The signature covers the extensions as sent, so the adapted form is only given where nothing is signed.
    const result = await joinGroupExternal(adapted, own.publicPackage, own.privatePackage, resync ?? false, suite, tree(ratchetTree))
    state = result.newState
    return { commit: b64(encodeMlsMessage({ version: "mls10", wireformat: "mls_public_message", publicMessage: result.publicMessage })) }
  },
  async commit({ add = [], remove = [], treeInWelcome = true, private: asPrivate = false }) {
    const extraProposals = [
      ...add.map((kp) => ({ proposalType: "add", add: { keyPackage: decode(kp, "mls_key_package").keyPackage } })),
      ...remove.map((removed) => ({ proposalType: "remove", remove: { removed } })),
    ]
    const result = await createCommit({ state, cipherSuite: suite },
      { extraProposals, wireAsPublicMessage: !asPrivate, ratchetTreeExtension: treeInWelcome })
    state = result.newState
    return {
      commit: b64(encodeMlsMessage(result.commit)),
      welcome: result.welcome && b64(encodeMlsMessage({ version: "mls10", wireformat: "mls_welcome", welcome: result.welcome })),
      ratchetTree: b64(encodeRatchetTree(state.ratchetTree)),
    }
  },
  async propose({ remove, private: asPrivate = false }) {
    const result = await createProposal(state, !asPrivate, { proposalType: "remove", remove: { removed: remove } }, suite)
    state = result.newState
    return { proposal: b64(encodeMlsMessage(result.message)) }
  },
  async proposeAddExternal({ groupInfo }) {
    const info = decode(groupInfo, "mls_group_info").groupInfo
    return { proposal: b64(encodeMlsMessage(await proposeAddExternal(info, own.publicPackage, own.privatePackage, suite))) }
  },
  async send({ data }) {
    const result = await createApplicationMessage(state, bytes(data), suite)
    state = result.newState
    return { message: b64(encodeMlsMessage({ version: "mls10", wireformat: "mls_private_message", privateMessage: result.privateMessage })) }
  },
  async receive({ message }) {
    const result = await processMessage(decode(message), state, emptyPskIndex, acceptAll, suite)
    state = result.newState
    return result.kind === "applicationMessage" ? { data: b64(result.message) } : {}
  },
  async groupInfo({ withTree = true }) {
    const make = withTree ? createGroupInfoWithExternalPubAndRatchetTree : createGroupInfoWithExternalPub
    const groupInfo = await make(state, [], suite)
    return {
      groupInfo: b64(encodeMlsMessage({ version: "mls10", wireformat: "mls_group_info", groupInfo })),
      ratchetTree: b64(encodeRatchetTree(state.ratchetTree)),
    }
  },
  async epoch() {
    return {
      epoch: Number(state.groupContext.epoch),
      authenticator: b64(state.keySchedule.epochAuthenticator),
      treeHash: b64(state.groupContext.treeHash),
      exported: b64(await mlsExporter(state.keySchedule.exporterSecret, "interop", text("context"), 32, suite)),
      leaf: Number(state.privatePath.leafIndex),
    }
  },
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line)
  let answer
  try {
    answer = { ok: true, ...(await operations[request.op](request)) }
  } catch (error) {
    answer = { error: String(error?.stack ?? error) }
  }
  process.stdout.write(JSON.stringify({ id: request.id, ...answer }) + "\n")
}
