package fakes

import (
	"bytes"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Link carries the connections to one server and can be cut. It sees only ciphertext.
type Link struct {
	listener net.Listener
	to       string

	// Asked and Answered count the octets that went towards the server and back.
	Asked, Answered atomic.Int64

	// Latency is how long what goes towards the server is under way, in nanoseconds: for new connections.
	Latency atomic.Int64

	gate  sync.RWMutex // held for writing while nothing may pass towards the server
	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
	wg    sync.WaitGroup
}

// NewLink listens on listen (host:port) and passes on to a server.
func NewLink(listen, to string) (*Link, error) {
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, err
	}
	l := &Link{listener: ln, to: to, conns: map[net.Conn]bool{}}
	l.wg.Go(l.accept)
	return l, nil
}

// Addr is where the link listens.
func (l *Link) Addr() string { return l.listener.Addr().String() }

func (l *Link) accept() {
	for {
		in, err := l.listener.Accept()
		if err != nil {
			return
		}
		if !l.keep(in) {
			continue
		}
		l.wg.Go(func() { l.carry(in) })
	}
}

// keep notes a connection, or closes it when the link is cut.
func (l *Link) keep(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		c.Close()
		return false
	}
	l.conns[c] = true
	return true
}

func (l *Link) drop(c net.Conn) {
	c.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

type counter struct {
	io.Writer
	n    *atomic.Int64
	gate *sync.RWMutex // nil for none
}

func (c counter) Write(b []byte) (int, error) {
	if c.gate != nil {
		c.gate.RLock()
		defer c.gate.RUnlock()
	}
	n, err := c.Writer.Write(b)
	c.n.Add(int64(n))
	return n, err
}

func (l *Link) carry(in net.Conn) {
	defer l.drop(in)
	out, err := net.Dial("tcp", l.to)
	if err != nil || !l.keep(out) {
		return
	}
	defer l.drop(out)
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.towards(counter{out, &l.Asked, &l.gate}, in)
		out.Close()
	}()
	_, _ = io.Copy(counter{in, &l.Answered, nil}, out)
	in.Close()
	<-done
}

// towards copies to the server, late where there is a latency.
func (l *Link) towards(out io.Writer, in io.Reader) {
	latency := time.Duration(l.Latency.Load())
	if latency == 0 {
		_, _ = io.Copy(out, in)
		return
	}
	type piece struct {
		data []byte
		at   time.Time
	}
	way := make(chan piece, 1024)
	var wg sync.WaitGroup
	wg.Go(func() {
		for p := range way {
			time.Sleep(time.Until(p.at))
			if _, err := out.Write(p.data); err != nil {
				for range way { // nobody listens any more
				}
			}
		}
	})
	buffer := make([]byte, 32<<10)
	for {
		n, err := in.Read(buffer)
		if n > 0 {
			way <- piece{bytes.Clone(buffer[:n]), time.Now().Add(latency)}
		}
		if err != nil {
			break
		}
	}
	close(way)
	wg.Wait()
}

// Cut ends all connections and refuses new ones.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	for c := range l.conns {
		c.Close()
	}
}

// Hold lets nothing pass towards the server until Release, without ending a connection.
func (l *Link) Hold() { l.gate.Lock() }

// Release ends a Hold.
func (l *Link) Release() { l.gate.Unlock() }

// Close ends the link. It must not be held.
func (l *Link) Close() {
	l.Cut()
	l.listener.Close()
	l.wg.Wait()
}
