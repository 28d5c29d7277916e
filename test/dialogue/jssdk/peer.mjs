// A person at a client that is built on matrix-js-sdk, as Element Web is: logs in, syncs, and does what it is told, one JSON object a line. It says
// {"event":"changed"} whenever something of what it shows may have changed.
import readline from "node:readline"
import { createHash, webcrypto } from "node:crypto"
import * as sdk from "matrix-js-sdk"
import { logger } from "matrix-js-sdk/lib/logger.js"

logger.setLevel("silent")
for (const level of ["log", "info", "debug", "warn", "error"]) console[level] = () => {} // standard output is ours

let client, crypto
const tell = (o) => process.stdout.write(JSON.stringify(o) + "\n")
const changed = () => tell({ event: "changed" })

const ops = {
  async login({ homeserver, user, password }) {
    const visitor = sdk.createClient({ baseUrl: homeserver })
    const got = await visitor.loginRequest({ type: "m.login.password", identifier: { type: "m.id.user", user }, password })
    client = sdk.createClient({ baseUrl: homeserver, userId: got.user_id, accessToken: got.access_token, deviceId: got.device_id,
      timelineSupport: true, cryptoCallbacks: {} })
    await client.initRustCrypto({ useIndexedDB: false })
    crypto = client.getCrypto()
    for (const e of ["Room.timeline", "Event.decrypted", "Event.replaced", "Room.myMembership", "RoomMember.membership", "Room.receipt", "Room.redaction", "RoomState.events"]) client.on(e, changed)
    const ready = new Promise((done, fail) => client.on("sync", (state, _, data) => {
      if (state === "PREPARED") done()
      if (state === "ERROR") fail(data?.error ?? new Error("sync"))
    }))
    await client.startClient({ initialSyncLimit: 50, threadSupport: true })
    await ready
    return { user: got.user_id, device: got.device_id }
  },
  rooms: () => ({ rooms: client.getRooms().map((r) => ({ id: r.roomId, name: r.name, membership: r.getMyMembership(), encrypted: r.hasEncryptionStateEvent(),
    members: r.getJoinedMembers().map((m) => ({ id: m.userId, name: m.name })) })) }),
  async create({ name, invite, encrypted }) {
    const initial_state = encrypted ? [{ type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } }] : []
    return { room: (await client.createRoom({ name, preset: "private_chat", invite, initial_state })).room_id }
  },
  async join({ room }) { await client.joinRoom(room); return {} },
  async send({ room, type, content }) { return { event_id: (await client.sendEvent(room, type ?? "m.room.message", content)).event_id } },
  async redact({ room, event_id }) { await client.redactEvent(room, event_id); return {} },
  async read({ room, event_id }) { await client.sendReadReceipt(find(room, event_id)); return {} },
  async timeline({ room }) {
    const r = client.getRoom(room)
    const all = [...(r?.getLiveTimeline().getEvents() ?? []), ...(r?.getThreads() ?? []).flatMap((t) => t.timeline)]
    const seen = new Set(), out = []
    for (const e of all) {
      if (seen.has(e.getId()) || e.isState()) continue
      seen.add(e.getId())
      const info = e.isEncrypted() && !e.isDecryptionFailure() ? await crypto.getEncryptionInfoForEvent(e) : null
      const wire = e.getWireContent()["m.relates_to"] ?? {} // what the homeserver sees: threads are found by it
      out.push({ id: e.getId(), sender: e.getSender(), type: e.getType(), content: e.getContent(), body: e.getContent()["body"] ?? "", edited: !!e.replacingEvent(),
        redacted: e.isRedacted(), encrypted: e.isEncrypted(), failed: e.isDecryptionFailure(), shield: info?.shieldColour ?? 0, reason: info?.shieldReason ?? null,
        thread: wire.rel_type === "m.thread" ? wire.event_id : null, reply: e.replyEventId ?? null, readers: r.getReceiptsForEvent(e).map((x) => x.userId),
        reactions: (r.relations.getChildEventsForEvent(e.getId(), "m.annotation", "m.reaction")?.getSortedAnnotationsByKey() ?? []).map(([k, v]) => [k, v.size]) })
    }
    return { timeline: out }
  },
  // fetch downloads the file of an event, decrypts it as the event says, and returns what it is.
  async fetch({ room, event_id }) {
    const c = find(room, event_id).getContent()
    const r = await fetch(client.mxcUrlToHttp(c.file?.url ?? c.url, undefined, undefined, undefined, false, true, true), { headers: { Authorization: `Bearer ${client.getAccessToken()}` } })
    if (!r.ok) throw new Error(`the file: ${r.status}`)
    let data = Buffer.from(await r.arrayBuffer())
    if (c.file) {
      if (createHash("sha256").update(data).digest("base64").replace(/=+$/, "") !== c.file.hashes.sha256) throw new Error("the file is another")
      const key = await webcrypto.subtle.importKey("jwk", c.file.key, "AES-CTR", false, ["decrypt"])
      data = Buffer.from(await webcrypto.subtle.decrypt({ name: "AES-CTR", counter: Buffer.from(c.file.iv, "base64"), length: 64 }, key, data))
    }
    return { sha256: createHash("sha256").update(data).digest("hex"), size: data.length, type: c.info?.mimetype ?? "" }
  },
  // upload encrypts a file and returns what an event says of it.
  async upload({ base64, type }) {
    const key = await webcrypto.subtle.generateKey({ name: "AES-CTR", length: 256 }, true, ["encrypt"])
    const iv = Buffer.concat([webcrypto.getRandomValues(Buffer.alloc(8)), Buffer.alloc(8)])
    const sealed = Buffer.from(await webcrypto.subtle.encrypt({ name: "AES-CTR", counter: iv, length: 64 }, key, Buffer.from(base64, "base64")))
    const { content_uri: url } = await client.uploadContent(sealed, { type: "application/octet-stream" })
    const plain = (b) => b.toString("base64").replace(/=+$/, "")
    return { file: { v: "v2", url, key: await webcrypto.subtle.exportKey("jwk", key), iv: plain(iv), hashes: { sha256: plain(createHash("sha256").update(sealed).digest()) } },
      info: { mimetype: type, size: Buffer.from(base64, "base64").length } }
  },
  // device says what this client makes of another's devices.
  async devices({ user }) {
    const own = (await crypto.getUserDeviceInfo([user], true)).get(user) ?? new Map()
    return { devices: await Promise.all([...own.keys()].map(async (d) => ({ id: d, signed: (await crypto.getDeviceVerificationStatus(user, d))?.signedByOwner ?? false }))) }
  },
}

const find = (room, id) => client.getRoom(room)?.findEventById(id) ?? (() => { throw new Error(`no event ${id}`) })()

readline.createInterface({ input: process.stdin }).on("line", async (line) => {
  const { id, op, ...args } = JSON.parse(line)
  try {
    tell({ id, ...(await ops[op](args)) })
  } catch (e) {
    tell({ id, error: String(e?.stack ?? e) })
  }
}).on("close", () => process.exit(0))
