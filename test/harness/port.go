package harness

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

var ports struct {
	sync.Mutex
	given map[int]bool
}

// Ports are taken below the kernel's range for outgoing connections (32768 and
// up on Linux): a port that was free a moment ago is then not lost to some
// client's connection before its server binds it.
const (
	firstPort = 20000
	lastPort  = 32000
)

// FreePort returns a loopback TCP port that nothing listens on. It is never
// handed out twice by one process.
func FreePort() (int, error) {
	ports.Lock()
	defer ports.Unlock()
	if ports.given == nil {
		ports.given = map[int]bool{}
	}
	for range 1000 {
		p := firstPort + rand.IntN(lastPort-firstPort)
		if ports.given[p] {
			continue
		}
		l, err := net.Listen("tcp", Loopback(p))
		if err != nil {
			continue
		}
		l.Close()
		ports.given[p] = true
		return p, nil
	}
	return 0, errors.New("find a free port: 1000 tries between 20000 and 32000 were taken")
}

// Loopback returns 127.0.0.1:port.
func Loopback(port int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}
