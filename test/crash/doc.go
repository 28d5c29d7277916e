// Package crash kills real bridges at named places and looks whether anything was lost, doubled, reused or forked.
//
// Two bridges with a fake homeserver each talk over mutual TLS. A round is a whole conversation in a room of its own: a
// hub's room is made, people are invited across, join, talk both ways, rename, are kicked, leave, come back, and two
// commits collide. In each round one bridge is killed at one kill point (internal/killpoint), is started again at once, and
// the round goes on as if nothing had been. In the end the auditor compares what the homeservers sent and got with the
// databases of both bridges.
//
// Without CRASH it plays 20 random kills, with CRASH=all every point that the conversation passes, on both sides and both
// databases, in some theatres at the same time. It fails when the conversation never passes a point, or when nothing could be
// killed there, and prints what became of every point and the totals. CRASH_SEED repeats a run. CRASH_POINT=K11 or K11:2 plays
// only that point.
//
// What the conversation of two bridges cannot show has tests of its own: a hub killed between two followers, refusals, restores,
// a failover of PostgreSQL, and a bridge that is told to stop while people talk.
package crash
