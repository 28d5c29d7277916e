// Package relay is the bridge's mind: it turns every thing that arrives into what must be
// stored and sent because of it.
//
// # One input, one step, one transaction
//
// Everything that arrives becomes an input of a room: an event of the Matrix room, an item of a
// hub's fan-out, a request of a follower to us as the hub, the answer to a request of ours, a wish
// (intent) or a time that has come. step.go is the one place where an input is worked off:
//
//	load the room under its version → decide (pure code) → write the Effects, move the version on
//	and mark the input done, in ONE transaction
//
// Nothing is acknowledged before it is committed and nothing is sent before it is stored. The
// room's version is compared and set in that transaction, so whoever decided on a stale view
// changes nothing. The room in memory (MLS group, policy, members) is a cache that carries the
// version; at any conflict, rollback or error it is dropped, because the MLS group has then moved
// on while the stored one has not.
//
// An input may also be told to wait: for a commit of an earlier epoch, for our own pending commit,
// for KeyPackages. Waiting is a success that writes a row; what ends the wait puts the input back
// to ready in the same transaction as its cause. An input that fails three times is set aside as
// broken, an alert is raised, and the room goes on.
//
// # Rooms
//
// Every Matrix room that concerns the bridge has a room row:
//
//	plain      a Matrix room without a MIMI side: a chat with the bot, or one that a ghost was
//	           just invited to
//	hub        the Matrix room leads; we are the hub (draft-ietf-mimi-protocol-06 §5)
//	follower   a remote hub leads; the Matrix room is a portal
//
//	                      ghost invited, KeyPackages claimed, Matrix state read
//	    plain ──────────────────────────────────────────────────────────────→ hub/active
//
//	    Welcome from a hub ─────────→ follower/active ⇄ follower/desynced
//	    join <uri> → follower/joining ↗      │  last own leaf gone
//	                                         └────────────→ follower/closed
//
// # Intents
//
// A wish to change the group (add a user, remove one, rename the room, renew a leaf) is an intent.
// Intents survive epochs, commits do not: a commit that lost its epoch is thrown away with its
// secrets and built anew from the intents that still make sense. As the hub a commit is accepted
// when our transaction commits. As a follower it is staged, stored with its whole next state, sent
// to the hub, and merged or discarded by evidence only: the hub's answer, the commit that comes
// back in the fan-out, or the confirmed transcript hash in a GroupInfo.
//
// T1 to T17 in comments are the transactions of docs/flow.md, "What is written together".
//
// # Where to look
//
// The step itself:
//
//	relay.go worker.go queue.go     the object, its settings and loops; who works off which room
//	input.go intent.go step.go      kinds of inputs and intents; one input becomes one transaction
//	effects.go rows.go word.go      what a step has decided to write and to send
//	room.go state.go members.go     the room in memory, the Matrix state that is known, the members
//	clients.go links.go             our users' clients and the pairs of event and message, read when needed
//	accept.go loops.go              what the homeserver says, stored; what is our own or would go round
//	quota.go                        how often strangers may
//
// A room's life:
//
//	open.go creation.go direct.go   a ghost is invited: the MIMI room is made; direct chats
//	portal.go join.go external.go   an invitation or a wish to join: the portal, GroupInfo, external commits
//	fixed.go knock.go               rooms of fixed membership; knocks
//	joinlink.go joinlink_act.go linkstatus.go
//	                                join links: of a hub room, their commands, why a code was refused
//	leave.go logging.go upgrade.go destroyed.go deleted.go
//	                                users who leave, rooms that come to forbid logging, are replaced or end, users who are deleted
//
// Messages:
//
//	matrix_in.go message_out.go     from Matrix to MIMI
//	notify_in.go message_in.go      from MIMI to Matrix: the fan-out, and what a message shows
//	relations.go expiry.go          edits, replies, reactions, deletions; messages that end
//	media.go media_in.go media_out.go assetpolicy.go
//	                                files
//	receipts.go statuspolicy.go     read and delivery reports, and what the room's policy says of them
//	status.go delay.go              what the sender is told of failure
//	encrypted.go                    encrypted Matrix rooms
//	current.go current_status.go presence.go profiles.go
//	                                typing, presence, names and pictures of people
//
// Membership and policy:
//
//	plan.go commit.go answer.go     which commit follows from the intents, and what became of it
//	claim.go claims.go              KeyPackages of those who are to be added
//	reconcile.go compare.go care.go the two sides are brought in line after a change, hourly, and by timers
//	roles.go moderate.go metadata.go
//	                                power levels, the commands for what they cannot say, name, topic, conditions
//	mlsconfig.go identity.go authority.go
//	                                who may be in a group: logic of components, credentials, authorities
//	restored.go                     after a restore
//
// As a provider:
//
//	handler.go notify.go groupinfo.go bulk.go extension.go
//	                                requests of other providers
//	hubkeys.go keymaterial.go keymaterials.go stock.go
//	                                the hub's keys; KeyPackages given out and forwarded, and their stock
//	consent.go consent_own.go consent_wish.go introduction.go
//	                                consent: what other providers say, what users of ours say, wishes that wait for it
//	identifier.go findable.go search.go cursor.go
//	                                who can be found, and finding others
//	report.go report_out.go         abuse reports as the hub, and of our users
//	actions.go roominfo.go puppet.go
//	                                commands of people and operators, what they are told of rooms; acting as Matrix users
//
// ActivityPub (docs/activitypub.md), a conversation or channel being a room of its own kind:
//
//	activitypub.go activitypub_room.go activitypub_work.go
//	                                the face, a step of its rooms, their tasks
//	activitypub_start.go activitypub_group.go activitypub_message.go activitypub_pull.go
//	                                conversations: begun, their commits, what is said, what was missed
//	activitypub_keys.go activitypub_packages.go
//	                                keys of others, KeyPackages of ours
//	activitypub_profile.go activitypub_names.go activitypub_media.go activitypub_box.go activitypub_block.go activitypub_deleted.go activitypub_told.go activitypub_cover.go
//	                                profiles, names of groups, files, collections, blocked servers, users who are deleted, errors in words, cover messages
//	channel.go channel_hub.go channel_in.go channel_matrix.go channel_member.go channel_actions.go channel_work.go
//	                                channels: state, our own, those of others, Matrix, membership, commands, tasks
//	worlds.go                       one Matrix room of three worlds
//
// # What this package does not do
//
// It makes no HTTP request and no SQL statement of its own, knows no bytes of MLS (mimiside/mls),
// no TLS structure of a verb (mimiside/wire), no rule of policy (mimiside/policy) and no conversion
// between Matrix and MIMI things (mapping). It holds no goroutine that outlives Run.
package relay
