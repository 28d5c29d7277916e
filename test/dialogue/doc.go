// Package dialogue plays text scripts: lines spoken by people on real
// homeservers, with real bridges in between. A script says who does what and
// what everybody sees of it; README.md has the words.
//
// The people are ordinary Matrix clients with a /sync of their own. A line that
// sees something waits for it, at most Options.Wait; nothing sleeps. When a
// script is through, an audit compares everything that was said with everything
// that every person saw: nothing twice, nothing out of order.
//
// World is the stage without a script, for tests that need more than words:
// crash, load and the demonstration.
package dialogue
