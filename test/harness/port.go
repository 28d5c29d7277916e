package harness

import (
	"errors"
	"math/rand/v2"
	"net"
	"runtime"
	"strconv"
	"sync"
)

// ports are those that were handed out, each with the listener that reserves it.
var ports struct {
	sync.Mutex
	given map[int]net.Listener
}

// Ports are taken below the kernel's range for outgoing connections (32768 and
// up on Linux): a port that was free a moment ago is then not lost to some
// client's connection before its server binds it.
const (
	firstPort = 20000
	lastPort  = 32000
)

// FreePort returns a loopback TCP port that nothing listens on. It is never
// handed out twice: on Linux not by another process either, as long as this
// one lives, so that who was killed gets its port again.
func FreePort() (int, error) {
	ports.Lock()
	defer ports.Unlock()
	if ports.given == nil {
		ports.given = map[int]net.Listener{}
	}
	for range 1000 {
		p := firstPort + rand.IntN(lastPort-firstPort)
		if _, had := ports.given[p]; had {
			continue
		}
		l, err := net.Listen("tcp", Loopback(p))
		if err != nil {
			continue
		}
		l.Close()
		reserved, err := reserve(p)
		if err != nil {
			continue
		}
		ports.given[p] = reserved
		return p, nil
	}
	return 0, errors.New("find a free port: 1000 tries between 20000 and 32000 were taken")
}

// reserve keeps a port from other processes that ask for one: by a name in the
// kernel, which ends with this process and belongs to the same network.
func reserve(port int) (net.Listener, error) {
	if runtime.GOOS != "linux" {
		return nil, nil
	}
	return net.Listen("unix", "@mimi-bridge-test-port-"+strconv.Itoa(port))
}

// Loopback returns 127.0.0.1:port.
func Loopback(port int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}
