// Package load measures what a message costs. The bridge's own CPU time and delay are taken against a homeserver and a
// provider that answer at once (test/fakes), and its rate over a real homeserver beside that homeserver's own send rate
// in the same run.
//
// Each figure is one line, "<what> <condition> <figure> ratio=<x>". For CPU time and delay x is the figure by its goal
// (2 ms and 10 ms), so that less is better; for rates it is the rate through the bridge by the homeserver's own, so
// that more is better.
//
// BENCH_BRIDGE names the program to measure, by an absolute path; without it one is built quickly, without a profile.
// BENCH_PROFILE names a directory for the CPU profiles that `make profile` merges.
//
// Without BENCH only a few messages are sent, to see that the measurement works. Figures are in docs/benchmarks.md.
package load
