// Package harness starts the real parts that tests and the demo run against:
// a Matrix homeserver (Dendrite, built from the pinned module in
// test/homeserver), a throwaway PostgreSQL cluster, and child processes in
// general.
//
// Everything listens on loopback, keeps its files in a directory of the
// caller's choice and is ended by process id. Nothing here knows the bridge:
// test/dialogue puts bridges, homeservers and people together.
package harness
