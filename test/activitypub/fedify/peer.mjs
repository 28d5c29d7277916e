// A real ActivityPub server for the tests: Fedify with one person, behind one JSON object a line on standard input and output.
// A request is {id, op, ...}, the answer {id, ok, ...} or {id, error}. {event: "activity", ...} tells of an activity that was taken.
import { createInterface } from "node:readline"
import { createFederation, generateCryptoKeyPair, MemoryKvStore, signRequest } from "@fedify/fedify"
import { Accept, Add, Announce, Create, Delete, Endpoints, Follow, Note, Person, Reject, Remove, Update } from "@fedify/vocab"
import { Temporal } from "@js-temporal/polyfill"
import { listen } from "../place.mjs"

const say = (o) => process.stdout.write(JSON.stringify(o) + "\n")

let answer
const { origin } = await listen((req, res) => answer(req, res))
const federation = createFederation({ kv: new MemoryKvStore(), origin, allowPrivateAddress: true })
const keys = [await generateCryptoKeyPair("RSASSA-PKCS1-v1_5")]
let lastBody = ""

federation.setActorDispatcher("/u/{identifier}", async (ctx, identifier) => {
  if (identifier !== "fedi") return null
  const pairs = await ctx.getActorKeyPairs(identifier)
  return new Person({
    id: ctx.getActorUri(identifier), preferredUsername: identifier, name: "Fedi", inbox: ctx.getInboxUri(identifier),
    endpoints: new Endpoints({ sharedInbox: ctx.getInboxUri() }), publicKey: pairs[0].cryptographicKey,
  })
}).setKeyPairsDispatcher(async (_, identifier) => identifier === "fedi" ? keys : [])

const heard = async (ctx, activity) => say({ event: "activity", type: activity.constructor.name, id: activity.id?.href, actor: activity.actorId?.href, body: lastBody })
federation.setInboxListeners("/u/{identifier}/inbox", "/inbox")
  .on(Create, heard).on(Add, heard).on(Remove, heard).on(Update, heard).on(Announce, heard).on(Delete, heard)
  .on(Accept, heard).on(Reject, heard)

answer = async (req, res) => {
  const chunks = []
  for await (const c of req) chunks.push(c)
  const body = Buffer.concat(chunks)
  lastBody = body.toString()
  const headers = new Headers()
  for (let i = 0; i < req.rawHeaders.length; i += 2) headers.append(req.rawHeaders[i], req.rawHeaders[i + 1])
  const request = new Request(origin + req.url, { method: req.method, headers, body: req.method === "POST" ? body : undefined })
  try {
    const a = await federation.fetch(request, { contextData: undefined })
    res.writeHead(a.status, Object.fromEntries(a.headers))
    res.end(Buffer.from(await a.arrayBuffer()))
  } catch (e) {
    res.writeHead(500)
    res.end(String(e))
  }
}
say({ event: "ready", origin })

const context = () => federation.createContext(new URL(origin), undefined)
const operations = {
  // lookup fetches an actor of ours, by address or handle.
  async lookup({ what, signed }) {
    const ctx = context()
    const o = await ctx.lookupObject(what, signed ? { documentLoader: await ctx.getDocumentLoader({ identifier: "fedi" }) } : {})
    return { type: o?.constructor.name, actor: o?.id?.href, inbox: o?.inboxId?.href, shared: o?.endpoints?.sharedInbox?.href, name: o?.preferredUsername?.toString() }
  },
  // send delivers a Create of a Note to an inbox, signed and knocked as Fedify does it.
  async send({ to, inbox, content }) {
    const ctx = context()
    const id = `${origin}/a/${crypto.randomUUID()}`
    await ctx.sendActivity({ identifier: "fedi" }, { id: new URL(to), inboxId: new URL(inbox) }, new Create({
      id: new URL(id), actor: ctx.getActorUri("fedi"), to: new URL(to),
      object: new Note({ id: new URL(id + "/note"), attribution: ctx.getActorUri("fedi"), content, to: new URL(to) }),
    }), { immediate: true })
    return { activity: id }
  },
  // follow asks to follow an actor.
  async follow({ to, inbox }) {
    const ctx = context()
    const id = `${origin}/a/${crypto.randomUUID()}`
    await ctx.sendActivity({ identifier: "fedi" }, { id: new URL(to), inboxId: new URL(inbox) },
      new Follow({ id: new URL(id), actor: ctx.getActorUri("fedi"), object: new URL(to), to: new URL(to) }), { immediate: true })
    return { activity: id }
  },
  // raw signs a body with Fedify's own signer, posts it, or another one in its place, and returns the status.
  async raw({ inbox, body, instead, scheme, age, unsigned, key }) {
    const init = { method: "POST", headers: { "content-type": "application/activity+json" } }
    const request = new Request(inbox, { ...init, body })
    const signed = unsigned ? request : await signRequest(request, keys[0].privateKey, new URL(key ?? `${origin}/u/fedi#main-key`),
      { spec: scheme, currentTime: Temporal.Now.instant().subtract({ seconds: age ?? 0 }) })
    const sent = await fetch(inbox, { method: "POST", headers: signed.headers, body: instead ?? body })
    return { status: sent.status }
  },
}

for await (const line of createInterface({ input: process.stdin })) {
  const { id, op, ...rest } = JSON.parse(line)
  operations[op](rest).then((r) => say({ id, ok: true, ...r }), (e) => say({ id, error: String(e?.stack ?? e) }))
}
process.exit(0)
