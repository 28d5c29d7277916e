package activitypub

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestTheCacheIsBounded(t *testing.T) {
	now := time.Unix(0, 0)
	c := newCache[int](3, 10)
	put := func(key string, size int, want ...string) {
		t.Helper()
		c.put(key, size, size, now.Add(time.Hour))
		used := 0
		for _, k := range want {
			size, ok := c.get(k, now)
			if !ok {
				t.Errorf("after %s: %s is gone", key, k)
			}
			used += size
		}
		if len(c.items) != len(want) || c.order.Len() != len(want) || c.used != used {
			t.Errorf("after %s: %d entries of size %d, want %q", key, len(c.items), c.used, want)
		}
	}
	put("a", 1, "a")
	put("b", 1, "a", "b")
	put("c", 1, "c", "b", "a")
	put("d", 1, "b", "a", "d") // c was used before the others
	put("d", 8, "b", "a", "d")
	put("e", 2, "d", "e")
	put("f", 11) // is too large, and nothing else is left
	put("g", 10, "g")
	if _, ok := c.get("g", now.Add(2*time.Hour)); ok || c.used != 0 {
		t.Errorf("what has expired is there, or counted: %d", c.used)
	}
}

// Whoever makes the bridge remember many large actors fills no memory with them.
func TestLargeActorsDoNotFillTheMemory(t *testing.T) {
	w := newWeb(t)
	p := NewPeople(testFetcher(FetcherConfig{}))
	large := strings.Repeat("x", maxActorBody*3/4)
	for n := range 2 * actorsRoom / maxActorBody {
		id := fmt.Sprintf("%s/u/%d", w.URL, n)
		w.put(fmt.Sprintf("/u/%d", n), Object{"id": id, "type": "Person", "inbox": id + "/inbox", "keyPackages": []any{large}})
		if _, err := p.Actor(context.Background(), id, false); err != nil {
			t.Fatal(err)
		}
	}
	if p.actors.used > actorsRoom || p.actors.used < actorsRoom/2 {
		t.Errorf("documents of %d octets are remembered, %d may be", p.actors.used, actorsRoom)
	}
}
