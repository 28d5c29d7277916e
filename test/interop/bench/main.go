// Command bench measures the MLS engine beside the package group of github.com/thomas-vilte/mls-go, for a process that
// holds N clients of the same group, and then how the cost of the engine grows with the group:
//
//	go run ./bench [-n 10,50,200,500] [-leaves 1000,10000,50000] [-cpuprofile file]
//
// Both sides play the same: a member outside the process makes a group, adds the N clients with one commit, commits
// with a path, and sends messages. Times are CPU times of the process (user and system, all threads), the median of
// the repetitions. Each side runs alone, but for what one member makes, in which they take turns.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	sizes := flag.String("n", "10,50,200,500", "`numbers` of clients in the process")
	leaves := flag.String("leaves", "1000,10000,50000", "`numbers` of leaves of the growth table, with 1,000 own ones")
	profile := flag.String("cpuprofile", "", "write a CPU profile of our side to this `file`")
	flag.Parse()
	if *profile != "" {
		f, err := os.Create(*profile)
		check(err)
		defer f.Close()
		defer pprof.StopCPUProfile()
		check(pprof.StartCPUProfile(f))
	}
	warm()
	fmt.Printf("%s, %d CPUs, suite 1, CPU times\n", runtime.Version(), runtime.NumCPU())
	for _, n := range numbers(*sizes) {
		us := measureOurs(n)
		runtime.GC()
		var they *figures
		if *profile == "" {
			they = measureMLSGo(n)
		}
		runtime.GC()
		measureMaking(n, us, they)
		runtime.GC()
		compare(n, us, they)
	}
	for _, n := range numbers(*leaves) {
		measureGrowth(n)
		runtime.GC()
	}
}

// warm runs both sides once, so that neither is measured while the process starts.
func warm() {
	measureOurs(2)
	measureMLSGo(2)
}

func numbers(list string) []int {
	var out []int
	for s := range strings.SplitSeq(list, ",") {
		if s == "" {
			continue
		}
		n, err := strconv.Atoi(s)
		check(err)
		out = append(out, n)
	}
	return out
}

// figures is what one side costs with N clients. Times and bytes are for all N clients unless they say otherwise.
type figures struct {
	makeAdds     time.Duration // the commit that adds N clients, merged, and its Welcome
	checkAdds    time.Duration // the same, and N KeyPackages decoded and verified as they come; the other side does a part of that in makeAdds
	joinAll      time.Duration
	makePath     time.Duration // a commit with a path by one member of the group of N+1, merged
	makeAddOne   time.Duration // a commit with a path that adds one client to the group, merged, and its Welcome
	pathCommit   time.Duration // processed by all
	singleCommit time.Duration // processed by one client alone
	message      time.Duration // received by all
	sendMessage  time.Duration // made by one client
	storeMessage int64         // bytes to store for a message that all receive
	storeCommit  int64         // bytes to store for a path commit
	heap         int64
}

// compare prints the lines of one N. A figure of the other side that is nil prints ours alone.
func compare(n int, us, they *figures) {
	duration := func(what string, get func(*figures) time.Duration) {
		if they == nil {
			fmt.Printf("%s N=%d ours=%s\n", what, n, short(get(us)))
			return
		}
		fmt.Printf("%s N=%d ours=%s mls-go=%s ratio=%.4g\n", what, n, short(get(us)), short(get(they)), float64(get(they))/float64(get(us)))
	}
	size := func(what string, get func(*figures) int64) {
		if they == nil {
			fmt.Printf("%s N=%d ours=%d\n", what, n, get(us))
			return
		}
		fmt.Printf("%s N=%d ours=%d mls-go=%d ratio=%.4g\n", what, n, get(us), get(they), float64(get(they))/float64(get(us)))
	}
	duration("path commit processed by all", func(f *figures) time.Duration { return f.pathCommit })
	duration("path commit processed by one member", func(f *figures) time.Duration { return f.singleCommit })
	duration("message received by all", func(f *figures) time.Duration { return f.message })
	duration("joining all by Welcome", func(f *figures) time.Duration { return f.joinAll })
	size("bytes to store per message", func(f *figures) int64 { return f.storeMessage })
	size("bytes to store per path commit", func(f *figures) int64 { return f.storeCommit })
	size("heap of all in bytes", func(f *figures) int64 { return f.heap })
	duration("making the commit and Welcome that add all", func(f *figures) time.Duration { return f.makeAdds })
	duration("the same with the check of KeyPackages as they come", func(f *figures) time.Duration { return f.checkAdds })
	duration("making a path commit", func(f *figures) time.Duration { return f.makePath })
	duration("making a path commit and Welcome that add one", func(f *figures) time.Duration { return f.makeAddOne })
	duration("sending a message", func(f *figures) time.Duration { return f.sendMessage })
}

// short prints a duration with three digits.
func short(d time.Duration) string {
	switch {
	case d >= time.Second:
		return fmt.Sprintf("%.3gs", d.Seconds())
	case d >= time.Millisecond:
		return fmt.Sprintf("%.3gms", float64(d)/1e6)
	default:
		return fmt.Sprintf("%.3gµs", float64(d)/1e3)
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func must[T any](v T, err error) T {
	check(err)
	return v
}

// cpu is the CPU time that the process has used.
func cpu() time.Duration {
	var r syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &r))
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// timed returns the CPU time of f.
func timed(f func()) time.Duration {
	start := cpu()
	f()
	return cpu() - start
}

// heap is what lives on the heap.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// median lets a round return the part of it that counts, and repeats it, at least least times and until it has taken
// enough time, at most most times.
func median(least, most int, round func() time.Duration) time.Duration {
	const enough = 500 * time.Millisecond
	var all []time.Duration
	for start := time.Now(); len(all) < least || len(all) < most && time.Since(start) < enough; {
		all = append(all, round())
	}
	return middle(all)
}

// middle is the median; of two the mean.
func middle(all []time.Duration) time.Duration {
	slices.Sort(all)
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2
}
