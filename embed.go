// Package bridge is the root of the module. It only carries files of the
// repository into the program; the program itself is cmd/bridge, and docs/
// architecture.md says what lies where.
package bridge

import _ "embed"

// ExampleConfig is config.example.yaml: every setting with its default and one
// sentence.
//
//go:embed config.example.yaml
var ExampleConfig []byte
