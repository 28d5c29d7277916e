package activitypub

import (
	"container/list"
	"sync"
	"time"
)

// cache is a map with expiry that is bounded by the number of entries and by their size together: the least recently used go first. It is safe for
// concurrent use.
type cache[V any] struct {
	mu        sync.Mutex
	max, room int
	used      int        // of room
	order     *list.List // front: most recently used
	items     map[string]*list.Element
}

type cached[V any] struct {
	key   string
	value V
	size  int
	until time.Time
}

// newCache makes a cache of max entries; room bounds the sum of the sizes that put is told.
func newCache[V any](max, room int) *cache[V] {
	return &cache[V]{max: max, room: room, order: list.New(), items: map[string]*list.Element{}}
}

func (c *cache[V]) get(key string, now time.Time) (v V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.items[key]
	if e == nil {
		return v, false
	}
	item := e.Value.(*cached[V])
	if now.After(item.until) {
		c.remove(e)
		return v, false
	}
	c.order.MoveToFront(e)
	return item.value, true
}

func (c *cache[V]) put(key string, v V, size int, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(c.items[key])
	c.items[key] = c.order.PushFront(&cached[V]{key, v, size, until})
	c.used += size
	for len(c.items) > c.max || c.used > c.room {
		c.remove(c.order.Back())
	}
}

func (c *cache[V]) drop(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(c.items[key])
}

// remove takes an entry out; nil is none.
func (c *cache[V]) remove(e *list.Element) {
	if e == nil {
		return
	}
	item := c.order.Remove(e).(*cached[V])
	delete(c.items, item.key)
	c.used -= item.size
}
