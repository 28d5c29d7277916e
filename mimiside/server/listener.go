package server

import (
	"net"
	"net/netip"
	"sync"
)

// Limit bounds the connections that a listener hands out: in all, and from one address. One more is closed as soon as it is
// accepted. It is for connections that show no certificate or have not got so far; those of peers are counted beside it. An
// address of this machine or of a private network may pass on the connections of everybody, and has the bound in all only.
func Limit(l net.Listener, total, perAddress int) net.Listener {
	return &limited{Listener: l, total: total, perAddress: perAddress, open: map[string]int{}}
}

type limited struct {
	net.Listener
	total, perAddress int

	mu   sync.Mutex
	all  int
	open map[string]int
}

// Accept waits for a connection that is within the bounds.
func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		host, _, err := net.SplitHostPort(c.RemoteAddr().String())
		if err != nil {
			host = c.RemoteAddr().String()
		}
		if !l.take(host) {
			c.Close()
			continue
		}
		return &limitedConn{Conn: c, release: sync.OnceFunc(func() { l.release(host) })}, nil
	}
}

func (l *limited) take(host string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all >= l.total || l.open[host] >= l.perAddress && !forwards(host) {
		return false
	}
	l.all++
	l.open[host]++
	return true
}

// forwards tells whether an address may be that of a web server that passes connections on unopened.
func forwards(host string) bool {
	ip, err := netip.ParseAddr(host)
	ip = ip.Unmap()
	return err == nil && (ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast())
}

func (l *limited) release(host string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.open[host]--; l.open[host] == 0 {
		delete(l.open, host)
	}
}

type limitedConn struct {
	net.Conn
	release func()
}

// Close closes the connection.
func (c *limitedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
