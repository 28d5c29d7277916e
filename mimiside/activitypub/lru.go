package activitypub

import (
	"container/list"
	"sync"
	"time"
)

// cache is a bounded map with expiry: the least recently used entry goes first. It is safe for concurrent use.
type cache[V any] struct {
	mu    sync.Mutex
	max   int
	order *list.List // front: most recently used
	items map[string]*list.Element
}

type cached[V any] struct {
	key   string
	value V
	until time.Time
}

func newCache[V any](max int) *cache[V] {
	return &cache[V]{max: max, order: list.New(), items: map[string]*list.Element{}}
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
		c.order.Remove(e)
		delete(c.items, key)
		return v, false
	}
	c.order.MoveToFront(e)
	return item.value, true
}

func (c *cache[V]) put(key string, v V, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.items[key]; e != nil {
		e.Value = &cached[V]{key, v, until}
		c.order.MoveToFront(e)
		return
	}
	c.items[key] = c.order.PushFront(&cached[V]{key, v, until})
	for len(c.items) > c.max {
		last := c.order.Back()
		c.order.Remove(last)
		delete(c.items, last.Value.(*cached[V]).key)
	}
}

func (c *cache[V]) drop(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.items[key]; e != nil {
		c.order.Remove(e)
		delete(c.items, key)
	}
}
