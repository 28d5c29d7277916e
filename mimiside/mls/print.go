package mls

import "fmt"

// Package fmt calls no methods on unexported fields, so a Group and a Staged must say themselves what they print.

// Format prints the epoch and the numbers of members and own leaves, whatever the verb is.
func (g Group) Format(f fmt.State, _ rune) {
	if g.cur == nil {
		_, _ = fmt.Fprint(f, "mls.Group{}")
		return
	}
	_, _ = fmt.Fprintf(f, "mls.Group{epoch %d, %d members, %d own}", g.Epoch(), g.MemberCount(), len(g.own))
}

// Format prints the epoch that the commit leads to, whatever the verb is.
func (s Staged) Format(f fmt.State, _ rune) {
	if s.next == nil {
		_, _ = fmt.Fprint(f, "mls.Staged{}")
		return
	}
	_, _ = fmt.Fprintf(f, "mls.Staged{to epoch %d}", s.Epoch())
}
