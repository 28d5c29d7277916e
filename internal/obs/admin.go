package obs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"time"
)

// Admin is the listener for operators and their tools.
type Admin struct {
	srv  *http.Server
	ln   net.Listener
	done chan error
}

// AdminOptions says what the admin listener serves.
type AdminOptions struct {
	Listen   string // host:port
	Health   *Health
	Registry *Registry
	Pprof    bool // serve /debug/pprof, to loopback only
}

// StartAdmin binds the address and serves until Stop.
func StartAdmin(o AdminOptions) (*Admin, error) {
	ln, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen for the operator (admin.listen): %w", err)
	}
	a := &Admin{ln: ln, done: make(chan error, 1), srv: &http.Server{
		Handler:           AdminHandler(o),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		// Longer than the 30 s profile that pprof takes by default.
		WriteTimeout:   2 * time.Minute,
		IdleTimeout:    time.Minute,
		MaxHeaderBytes: 16 << 10,
	}}
	go func() { a.done <- a.srv.Serve(ln) }()
	return a, nil
}

// Addr returns the bound address.
func (a *Admin) Addr() net.Addr { return a.ln.Addr() }

// Stop ends the listener and waits for its requests, at most until ctx ends.
func (a *Admin) Stop(ctx context.Context) error {
	err := a.srv.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, a.srv.Close())
	}
	if served := <-a.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// AdminHandler serves the paths of the admin listener.
func AdminHandler(o AdminOptions) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", o.Health.serveLive)
	mux.HandleFunc("GET /readyz", o.Health.serveReady)
	mux.HandleFunc("GET /statusz", o.Health.serveStatus)
	mux.Handle("GET /metrics", o.Registry.Handler())
	if o.Pprof {
		mux.HandleFunc("GET /debug/pprof/", loopbackOnly(pprof.Index))
		mux.HandleFunc("GET /debug/pprof/cmdline", loopbackOnly(pprof.Cmdline))
		mux.HandleFunc("GET /debug/pprof/profile", loopbackOnly(pprof.Profile))
		mux.HandleFunc("GET /debug/pprof/symbol", loopbackOnly(pprof.Symbol))
		mux.HandleFunc("GET /debug/pprof/trace", loopbackOnly(pprof.Trace))
	}
	return mux
}

// loopbackOnly keeps heap dumps, which hold secrets, from other machines, also
// when the rest of the listener is open to them.
func loopbackOnly(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		addr, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil || !addr.Addr().Unmap().IsLoopback() {
			http.Error(w, "only from this machine", http.StatusForbidden)
			return
		}
		next(w, r)
	}
}
