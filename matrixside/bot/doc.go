// Package bot is the bridge's bot as people talk to it: commands in a chat with
// the bot, or after a prefix in a room.
//
// A command is parsed here, checked against the permissions of its sender and
// carried out through [Actions]; what comes of an action later is told by those
// who carry it out. One file is one command. Replies are notices that quote the
// command; a reply has a transaction id made of the command's event, so that a
// command that is tried again does not answer twice.
//
// The package stores nothing and does not read the homeserver's events.
package bot
