// Package fakes has stand-ins that answer at once and remember everything: a Matrix homeserver with the endpoints that
// the bridge calls, and a link between two providers that can be cut. What they are for is the audit after a crash, where
// every request counts, and the bridge's own cost, which the work of a real homeserver would hide. Whether the bridge
// understands homeservers is shown with real ones, in test/dialogue.
//
// The homeserver knows no federation, no encryption, no media and no /sync, and checks of the authorisation rules only
// membership and power levels.
package fakes
