// Where a peer stands: on a free port of loopback over http; or, when PEER_DOMAIN is set, at https://PEER_DOMAIN, which is PEER_PORT of loopback
// with the certificate PEER_CERT and PEER_KEY. PEER_ROUTES, {domain: port}, says where on loopback other domains are.
import http from "node:http"
import https from "node:https"
import tls from "node:tls"
import { readFileSync } from "node:fs"

const { PEER_DOMAIN: domain, PEER_PORT: port, PEER_CERT, PEER_KEY, PEER_ROUTES } = process.env

if (PEER_ROUTES) {
  const routes = JSON.parse(PEER_ROUTES)
  const connect = tls.connect // fetch looks it up at each call; servername stays the domain, and so does what the certificate must say
  tls.connect = (options, ...rest) => connect(routes[options.host] ? { ...options, host: "127.0.0.1", port: routes[options.host] } : options, ...rest)
}

// listen serves and returns the address by which others know it.
export async function listen(handler) {
  const server = domain ? https.createServer({ cert: readFileSync(PEER_CERT), key: readFileSync(PEER_KEY) }, handler) : http.createServer(handler)
  await new Promise((r) => server.listen(Number(port ?? 0), "127.0.0.1", r))
  const host = domain ?? `127.0.0.1:${server.address().port}`
  return { host, origin: `${domain ? "https" : "http"}://${host}` }
}
