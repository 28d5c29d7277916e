package stack_test

import (
	"testing"

	"github.com/matrix-mimi/bridge/internal/stack"
)

//go:noinline
func down(n int, s []int) int {
	var frame [24]int
	frame[n%24] = n
	if n > 0 {
		frame[0] += down(n-1, frame[:])
	}
	return frame[n%24] + s[0]
}

// BenchmarkRequest is a goroutine that goes 30 KB deep, as a step in SQLite does, and back.
func BenchmarkRequest(b *testing.B) {
	for _, c := range []struct {
		name  string
		first func()
	}{{"deepened", stack.Deepen}, {"as it is", func() {}}} {
		b.Run(c.name, func(b *testing.B) {
			done := make(chan int)
			for b.Loop() {
				go func() {
					c.first()
					done <- down(100, make([]int, 1))
				}()
				<-done
			}
		})
	}
}
