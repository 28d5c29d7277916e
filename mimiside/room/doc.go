// Package room is what hub and follower have in common: who a leaf is, which participant a leaf belongs to, what the
// authenticated data of a room's messages looks like, and which proposals carry out a change of the participant
// list. It is pure: no IO, no clock, no randomness of its own.
//
// It decides nothing about who may do what (mimiside/policy) and orders nothing (mimiside/hub, mimiside/follower).
package room
