// Package puppets says which puppets must exist on each side and what they hold: the MLS clients of
// bridged Matrix users with their signature keys, their stock of KeyPackages and the renewal of
// their leaves, and the Matrix ghosts of MIMI users with their names.
//
// The package is pure: it has no IO and no clock, and takes randomness as an argument. It says
// what is missing; internal/relay stores and sends it.
package puppets
