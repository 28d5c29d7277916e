package server_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/server"
)

// from is a listener whose connections seem to come from an address.
type from struct {
	net.Listener
	address string
}

func (f from) Accept() (net.Conn, error) {
	c, err := f.Listener.Accept()
	return fromConn{c, f.address}, err
}

type fromConn struct {
	net.Conn
	address string
}

func (c fromConn) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.address))
}

// Connections over a bound are closed, and room is made when one goes.
func TestConnectionsOverABoundAreClosed(t *testing.T) {
	for name, bounds := range map[string][2]int{"in all": {2, 10}, "from one address": {10, 2}} {
		inner, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l := server.Limit(from{inner, "[2001:db8::7]:1234"}, bounds[0], bounds[1])
		accepted := make(chan net.Conn)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				accepted <- c
			}
		}()
		dial := func() net.Conn {
			t.Helper()
			c, err := net.Dial("tcp", inner.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		first, second := dial(), dial()
		one, two := <-accepted, <-accepted
		over := dial()
		if _, err := over.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: a connection over the bound is open", name)
		} else if !errors.Is(err, io.EOF) {
			t.Logf("%s: closed with %v", name, err)
		}
		if err := one.Close(); err != nil {
			t.Error(err)
		}
		_ = one.Close() // counted once
		third := dial()
		three := <-accepted
		for _, c := range []net.Conn{first, second, over, third, two, three} {
			c.Close()
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		<-done
	}
}

// A web server that passes everybody's connections on is not taken for one visitor.
func TestForwardersAreNotOneVisitor(t *testing.T) {
	for _, address := range []string{"127.0.0.1:5", "[::1]:5", "[::ffff:172.17.0.1]:5", "[fd00::1]:5"} {
		inner, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if err := inner.(*net.TCPListener).SetDeadline(time.Now().Add(10 * time.Second)); err != nil { // so that Accept fails instead of waiting
			t.Fatal(err)
		}
		l := server.Limit(from{inner, address}, 2, 1)
		var open []net.Conn
		for range 2 {
			c, err := net.Dial("tcp", inner.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			accepted, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, c, accepted)
		}
		over, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			if c, err := l.Accept(); err == nil {
				t.Errorf("%s has more than the bound in all", address)
				c.Close()
			}
		}()
		if _, err := over.Read(make([]byte, 1)); err == nil {
			t.Error("a connection over the bound is open")
		}
		for _, c := range append(open, over) {
			c.Close()
		}
		l.Close()
		<-done
	}
}
