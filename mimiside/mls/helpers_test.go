package mls

import "math/rand"

// testRand is a reproducible source of randomness.
func testRand(seed int64) *rand.Rand { return rand.New(rand.NewSource(seed)) }
