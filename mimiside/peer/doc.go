// Package peer says who a provider is: it ties a TLS certificate, a domain and a From header together
// (draft-ietf-mimi-protocol-06 §4.1), holds what the operator decided about each provider, counts what each one may
// do, and remembers where its endpoints are.
//
// It moves no bytes itself: mimiside/server and mimiside/client do, with the TLS configurations made here.
package peer
