//go:build !killpoint

package killpoint

// Enabled says whether the program was built with kill points.
const Enabled = false

// Hit does nothing in this build.
func Hit(string) {}
