// A person on an ActivityPub server whose client does MLS with ts-mls, as the client of Emissary does it: the shapes that it sends, and
// what it demands of others. One JSON object a line on standard input and output: {id, op, ...} → {id, ok, ...} or {id, error}; {event: ...}
// tells of what came.
import { createHash, createPrivateKey, createPublicKey, createSign, createVerify, generateKeyPairSync, randomUUID } from "node:crypto"
import { createInterface } from "node:readline"
import {
  acceptAll, createApplicationMessage, createCommit, createGroup, decodeMlsMessage, defaultCapabilities, defaultLifetime, emptyPskIndex,
  encodeMlsMessage, generateKeyPackage, getCiphersuiteFromName, getCiphersuiteImpl, joinGroup, makePskIndex, processMessage,
} from "ts-mls"
import { decodeKeyPackage, encodeKeyPackage } from "ts-mls/keyPackage.js"
import { listen } from "../place.mjs"

const suiteName = "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519"
const suite = await getCiphersuiteImpl(getCiphersuiteFromName(suiteName))
const say = (o) => process.stdout.write(JSON.stringify(o) + "\n")
const b64 = (b) => Buffer.from(b).toString("base64")
const unb64 = (s) => new Uint8Array(Buffer.from(s, "base64"))
const activityType = "application/activity+json"

const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 })
const { host, origin } = await listen((req, res) => serve(req, res).catch((e) => { say({ event: "fault", error: String(e?.stack ?? e) }); res.writeHead(500).end() }))
const me = `${origin}/@bob`
const text = (s) => new TextEncoder().encode(s)
const credential = { credentialType: "basic", identity: text(me) }
const packages = new Map() // id: { publicPackage, privatePackage }
const groups = new Map() // group id as text: state

async function newPackage() {
  const own = await generateKeyPackage(credential, defaultCapabilities(), defaultLifetime, [], suite)
  packages.set(`${origin}/kp/${randomUUID()}`, own)
}
await newPackage()

const actor = () => ({
  "@context": ["https://www.w3.org/ns/activitystreams", "https://purl.archive.org/socialweb/mls", "https://w3id.org/security/v1"],
  id: me, type: "Person", preferredUsername: "bob", name: "Bob", inbox: `${me}/pub/inbox`, outbox: `${me}/pub/outbox`,
  keyPackages: `${me}/pub/keyPackages`, "emissary:messages": `${me}/pub/mlsMessages`,
  publicKey: { id: `${me}#main-key`, owner: me, publicKeyPem: rsa.publicKey.export({ type: "pkcs1", format: "pem" }) },
})
const packageObject = (id) => ({
  "@context": ["https://www.w3.org/ns/activitystreams", "https://purl.archive.org/socialweb/mls"], id, type: "KeyPackage", attributedTo: me,
  mediaType: "message/mls", encoding: "base64", ciphersuite: suiteName, generator: "conversations-mls", content: b64(encodeKeyPackage(packages.get(id).publicPackage)),
})

// sign is draft-cavage over the decoded path, as hannibal does it.
function sign(method, url, body) {
  const u = new URL(url)
  const headers = { host: u.host, date: new Date().toUTCString() }
  const names = ["(request-target)", "host", "date"]
  if (body !== undefined) {
    headers.digest = "SHA-256=" + createHash("sha256").update(body).digest("base64")
    names.push("digest")
  }
  const lines = names.map((n) => n === "(request-target)" ? `${n}: ${method.toLowerCase()} ${decodeURIComponent(u.pathname)}${u.search}` : `${n}: ${headers[n]}`)
  const signature = createSign("sha256").update(lines.join("\n")).sign(rsa.privateKey, "base64")
  return { ...headers, signature: `keyId="${me}#main-key",algorithm="rsa-sha256",headers="${names.join(" ")}",signature="${signature}"` }
}

async function get(url) {
  const res = await fetch(url, { headers: { ...sign("GET", url), accept: activityType } })
  if (!res.ok) throw new Error(`GET ${url}: ${res.status}`)
  return res.json()
}

async function post(inbox, activity) {
  const body = JSON.stringify(activity)
  const res = await fetch(inbox, { method: "POST", body, headers: { ...sign("POST", inbox, body), "content-type": activityType } })
  return res.status
}

// verify demands all four fields, the digest, and that the key's owner is the activity's actor.
async function verify(req, path, body, activity) {
  const params = Object.fromEntries([...(req.headers.signature ?? "").matchAll(/(\w+)="([^"]*)"/g)].map((m) => [m[1], m[2]]))
  const names = (params.headers ?? "").split(" ")
  for (const need of ["(request-target)", "host", "date", "digest"]) if (!names.includes(need)) throw new Error(`${need} is not signed`)
  if (req.headers.digest !== "SHA-256=" + createHash("sha256").update(body).digest("base64")) throw new Error("digest")
  const owner = params.keyId.split("#")[0]
  if (owner !== activity.actor) throw new Error(`key of ${owner}, actor is ${activity.actor}`)
  const pem = (await get(owner)).publicKey
  if (pem.id !== params.keyId) throw new Error("key id")
  const lines = names.map((n) => n === "(request-target)" ? `${n}: post ${decodeURIComponent(path)}` : `${n}: ${req.headers[n]}`)
  if (!createVerify("sha256").update(lines.join("\n")).verify(createPublicKey(pem.publicKeyPem), params.signature, "base64")) throw new Error("signature")
}

async function serve(req, res) {
  const chunks = []
  for await (const c of req) chunks.push(c)
  const body = Buffer.concat(chunks)
  const path = decodeURIComponent(new URL(req.url, origin).pathname)
  const json = (o, type = activityType) => res.writeHead(200, { "content-type": type }).end(JSON.stringify(o))
  if (path === "/.well-known/webfinger") {
    return json({ subject: `acct:bob@${host}`, links: [{ rel: "self", type: activityType, href: me }] }, "application/jrd+json")
  }
  if (path === "/@bob") return json(actor())
  if (path.startsWith("/kp/") || path === "/@bob/pub/keyPackages") {
    if (!req.headers.signature) return res.writeHead(401).end() // gated
    if (path.startsWith("/kp/")) return packages.has(origin + path) ? json(packageObject(origin + path)) : res.writeHead(404).end()
    return json({ "@context": "https://www.w3.org/ns/activitystreams", id: origin + path, type: "Collection", items: [...packages.keys()] })
  }
  if (path === "/@bob/pub/inbox" && req.method === "POST") {
    const activity = JSON.parse(body)
    try {
      await verify(req, path, body, activity)
    } catch (e) {
      say({ event: "refused", reason: String(e.message) })
      return res.writeHead(401).end()
    }
    res.writeHead(202).end()
    queue = queue.then(() => receive(activity)).catch((e) => say({ event: "fault", error: String(e?.stack ?? e) }))
    return
  }
  res.writeHead(404).end()
}

let queue = Promise.resolve()
const identities = (state) => state.ratchetTree.filter((n) => n?.nodeType === "leaf").map((n) => new TextDecoder().decode(n.leaf.credential.identity))
const nameOf = (groupId) => new TextDecoder("utf-8", { fatal: true }).decode(groupId)

// receive goes by the wire format of the bytes and by nothing else that the envelope says, but demands that the author is in the group.
async function receive(activity) {
  const object = activity.object
  const [message, end] = decodeMlsMessage(unb64(object.content), 0)
  if (end !== unb64(object.content).length) throw new Error("not one MLSMessage")
  if (message.wireformat === "mls_welcome") {
    for (const [id, own] of packages) {
      try {
        const state = await joinGroup(message.welcome, own.publicPackage, own.privatePackage, emptyPskIndex, suite)
        packages.delete(id)
        await newPackage()
        groups.set(nameOf(state.groupContext.groupId), state)
        return say({ event: "welcome", group: nameOf(state.groupContext.groupId), members: identities(state) })
      } catch (e) { say({ event: "no-join", error: String(e?.message ?? e) }) }
    }
    return
  }
  if (message.wireformat !== "mls_private_message" && message.wireformat !== "mls_public_message") throw new Error(message.wireformat)
  const inner = message.privateMessage ?? message.publicMessage.content
  const group = nameOf(inner.groupId)
  const state = groups.get(group)
  if (!identities(state).includes(object.attributedTo)) throw new Error(`${object.attributedTo} is not in the group`)
  const result = await processMessage(message, state, makePskIndex(state, {}), acceptAll, suite)
  groups.set(group, result.newState)
  if (result.kind === "applicationMessage") {
    const said = JSON.parse(new TextDecoder().decode(result.message))
    if ((said.type === "Create" || said.type === "Update") && said.actor !== said.object.attributedTo) throw new Error("actor and attributedTo differ")
    return say({ event: "said", group, activity: said, from: object.attributedTo })
  }
  say({ event: "handshake", group, members: identities(result.newState), epoch: Number(result.newState.groupContext.epoch) })
}

const envelope = (type, content, to) => ({
  "@context": ["https://www.w3.org/ns/activitystreams", "https://purl.archive.org/socialweb/mls"], id: `${origin}/a/${randomUUID()}`, type: "Create", actor: me, to,
  object: { id: `${origin}/o/${randomUUID()}`, type, attributedTo: me, to, mediaType: "message/mls", encoding: "base64", content: b64(content) },
})
const others = (state) => identities(state).filter((i) => i !== me)

// deliver posts to every member's own inbox, derived from the credentials.
async function deliver(type, content, to) {
  const statuses = []
  for (const id of to) {
    last = { inbox: (await get(id)).inbox, activity: envelope(type, content, to), type, content, to }
    statuses.push(await post(last.inbox, last.activity))
  }
  return statuses
}
let last

const operations = {
  async start() { return { origin, actor: me, handle: `@bob@${host}` } },
  // create makes a group with the actors and sends their Welcome.
  async create({ actors }) {
    const group = `uri:uuid:${randomUUID()}`
    const [[, own]] = packages
    let state = await createGroup(text(group), own.publicPackage, own.privatePackage, [], suite)
    const proposals = []
    for (const id of actors) {
      const a = await get(id)
      const list = typeof a.keyPackages === "string" ? await get(a.keyPackages) : a.keyPackages
      for (const item of list.items ?? list.orderedItems) {
        const kp = typeof item === "string" ? await get(item) : item
        if (kp.ciphersuite !== suiteName) continue
        proposals.push({ proposalType: "add", add: { keyPackage: decodeKeyPackage(unb64(kp.content), 0)[0] } })
      }
    }
    if (proposals.length !== actors.length) throw new Error(`${proposals.length} packages for ${actors.length} actors`)
    const result = await createCommit({ state, cipherSuite: suite, pskIndex: emptyPskIndex }, { extraProposals: proposals, ratchetTreeExtension: true })
    groups.set(group, result.newState)
    const welcome = encodeMlsMessage({ version: "mls10", wireformat: "mls_welcome", welcome: result.welcome })
    return { group, statuses: await deliver("Welcome", welcome, actors) }
  },
  async send({ group, activity }) {
    const state = groups.get(group)
    const result = await createApplicationMessage(state, text(JSON.stringify(activity)), suite)
    groups.set(group, result.newState)
    const bytes = encodeMlsMessage({ version: "mls10", wireformat: "mls_private_message", privateMessage: result.privateMessage })
    return { statuses: await deliver("PrivateMessage", bytes, others(state)) }
  },
  // again sends what was sent last once more: as it was, and in a new activity.
  async again() {
    return { statuses: [await post(last.inbox, last.activity), await post(last.inbox, envelope(last.type, last.content, last.to))] }
  },
  // remove commits the removal of an actor; Emissary labels such commits GroupInfo.
  async remove({ group, actor }) {
    const state = groups.get(group)
    const removed = identities(state).indexOf(actor)
    const result = await createCommit({ state, cipherSuite: suite, pskIndex: makePskIndex(state, {}) }, { extraProposals: [{ proposalType: "remove", remove: { removed } }] })
    groups.set(group, result.newState)
    return { statuses: await deliver("GroupInfo", encodeMlsMessage(result.commit), others(state)) }
  },
}

for await (const line of createInterface({ input: process.stdin })) {
  const { id, op, ...rest } = JSON.parse(line)
  operations[op](rest).then((r) => say({ id, ok: true, ...r }), (e) => say({ id, error: String(e?.stack ?? e) }))
}
process.exit(0)
