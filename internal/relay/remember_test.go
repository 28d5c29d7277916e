package relay

import "testing"

// However large the rooms are, no more members are remembered than are allowed: the room that was used last is, others are read again.
func TestRememberedMembersAreBounded(t *testing.T) {
	p := newPair(t, warm).begin()
	r := p.a.relay
	sum := func() (n int) {
		for _, s := range r.slots {
			if n += s.members; s.mem != nil && s.members != len(s.mem.members.byMXID) {
				t.Errorf("a room of %d members counts as %d", len(s.mem.members.byMXID), s.members)
			}
		}
		if n != r.members {
			t.Errorf("the rooms have %d members, counted are %d", n, r.members)
		}
		return n
	}
	first := p.a.room(p.room).ID
	r.cfg.CachedMembers = sum()
	if r.slots[first] == nil || r.cfg.CachedMembers < 3 {
		t.Fatalf("%d members are remembered", r.cfg.CachedMembers)
	}
	p.botChat(t)
	if n := sum(); n > r.cfg.CachedMembers || r.slots[first] != nil {
		t.Errorf("%d members are remembered, %d are allowed", n, r.cfg.CachedMembers)
	}
	p.talk(2)
	if n := sum(); n > r.cfg.CachedMembers {
		t.Errorf("%d members are remembered, %d are allowed", n, r.cfg.CachedMembers)
	}
	p.noTrouble()
}
