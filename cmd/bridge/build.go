package main

import "context"

// build makes the parts of the bridge and puts them together: this is the only
// place that knows all of them.
func (a *app) build(_ context.Context) error {
	return nil
}
