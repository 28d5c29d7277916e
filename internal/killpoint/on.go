//go:build killpoint

package killpoint

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Enabled says whether the program was built with kill points.
const Enabled = true

var state struct {
	sync.Mutex
	name string
	left int
	log  *os.File
}

func init() {
	name, count, counted := strings.Cut(os.Getenv(Env), ":")
	state.name, state.left = name, 1
	if counted {
		n, err := strconv.Atoi(count)
		if err != nil || n < 1 {
			panic(fmt.Sprintf("%s: %q is not a number of hits", Env, count))
		}
		state.left = n
	}
	if name != "" && !slices.Contains(Names, name) {
		panic(fmt.Sprintf("%s: there is no kill point %q", Env, name))
	}
	if path := os.Getenv(EnvLog); path != "" {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			panic(fmt.Sprintf("%s: %v", EnvLog, err))
		}
		state.log = f
	}
}

// Hit says that the program is at a place. If it is the place and the time to die, the process is
// killed as by kill -9: nothing deferred runs and nothing is flushed.
func Hit(name string) {
	state.Lock()
	defer state.Unlock()
	if state.log != nil {
		_, _ = state.log.WriteString(name + "\n")
	}
	if name != state.name {
		return
	}
	if state.left--; state.left == 0 {
		kill()
	}
}
