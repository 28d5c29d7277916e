package server_test

import (
	"errors"
	"io"
	"net"
	"testing"

	"github.com/matrix-mimi/bridge/mimiside/server"
)

// Connections over a bound are closed, and room is made when one goes.
func TestLimit(t *testing.T) {
	for name, bounds := range map[string][2]int{"in all": {2, 10}, "from one address": {10, 2}} {
		inner, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l := server.Limit(inner, bounds[0], bounds[1])
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
