//go:build tools

// Package homeserver pins the Matrix homeserver that the tests and the demo
// run against. It holds no code: it exists so that go.mod and go.sum of this
// nested module name one exact build of Dendrite and everything below it, and
// so that none of that reaches the module graph (or the licence) of the bridge.
//
// test/harness builds the commands from here; README.md says more.
package homeserver

import (
	_ "github.com/element-hq/dendrite/cmd/dendrite"
	_ "github.com/element-hq/dendrite/cmd/generate-keys"
)
