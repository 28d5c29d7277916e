package stack_test

import (
	"testing"
	"time"

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

// BenchmarkRequest lets goroutines go 30 KB deep, as a step in SQLite does, and back, with a deepened stack and without in turn. The
// figures are of one goroutine; ratio is how many times less it costs with.
func BenchmarkRequest(b *testing.B) {
	done := make(chan int)
	run := func(first func()) time.Duration {
		began := time.Now()
		go func() {
			first()
			done <- down(100, make([]int, 1))
		}()
		<-done
		return time.Since(began)
	}
	var with, without time.Duration
	for b.Loop() {
		with += run(stack.Deepen)
		without += run(func() {})
	}
	b.ReportMetric(float64(with.Nanoseconds())/float64(b.N), "deepened-ns")
	b.ReportMetric(float64(without.Nanoseconds())/float64(b.N), "plain-ns")
	b.ReportMetric(float64(without)/float64(with), "ratio")
}
