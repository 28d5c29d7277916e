// Package interop sets the MLS engine beside other implementations: github.com/thomas-vilte/mls-go, and ts-mls in a
// Node process (node/peer.mjs). It is a module of its own, so that their code stays out of the bridge's.
//
// The tests let both sides play a scenario in the same group, and compare the epoch, the tree hash, the epoch
// authenticator and an exported secret after every commit. Our side holds several own leaves in one Group, is loaded
// from its stored pieces after every change, and a public view of ours without any leaf follows too. Known defects of
// a peer are worked around in its adapter (mlsgo_test.go, tsmls_test.go, node/peer.mjs), and said there.
//
// The program in bench measures both Go implementations beside each other.
package interop
