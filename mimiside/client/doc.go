// Package client sends requests to other providers: one function a verb of draft-ietf-mimi-protocol-06 §5. It finds the
// endpoint in the peer's directory, connects with mutual TLS under the rule for the peer, sends exactly the bytes that it
// is given, and returns what came back. It keeps nothing but connections and directories, and repeats nothing: the outbox
// does.
package client
