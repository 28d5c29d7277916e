package peer

import "github.com/matrix-mimi/bridge/mimiside/wire"

// Shared tells whether an extension is used with a provider: our directory and theirs both offer it
// (docs/extensions.md). name is a verb or, for an extension without an endpoint, a feature.
func Shared(own, theirs *wire.Directory, name string) bool {
	return own.Offers(name) && theirs.Offers(name)
}
