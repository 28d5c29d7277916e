package obs

import (
	"net/http"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Namespace begins the name of every metric.
const Namespace = "mimibridge"

// Registry keeps the metrics of one process. Packages declare their metrics
// through it, in the file that counts, with the help text that docs/metrics.md
// repeats (a test compares the two).
type Registry struct {
	reg *prometheus.Registry
}

// NewRegistry makes a registry with the runtime's metrics and build_info.
func NewRegistry(version string) *Registry {
	r := &Registry{reg: prometheus.NewRegistry()}
	r.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	r.Gauge("build_info", "Always 1; the labels say which build runs.", "version", "go").
		WithLabelValues(version, runtime.Version()).Set(1)
	return r
}

// Counter declares a counter mimibridge_<name>. Declaring a name twice is a bug
// and panics.
func (r *Registry) Counter(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: Namespace, Name: name, Help: help}, labels)
	r.reg.MustRegister(c)
	return c
}

// Gauge declares a gauge mimibridge_<name>.
func (r *Registry) Gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: Namespace, Name: name, Help: help}, labels)
	r.reg.MustRegister(g)
	return g
}

// GaugeFunc declares a gauge mimibridge_<name> that is read when it is scraped.
func (r *Registry) GaugeFunc(name, help string, read func() float64) {
	r.reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: Namespace, Name: name, Help: help}, read))
}

// Seconds declares a histogram mimibridge_<name> of durations in seconds, from
// 0.5 ms to about 2 minutes.
func (r *Registry) Seconds(name, help string, labels ...string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: Namespace, Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(0.0005, 2, 18),
	}, labels)
	r.reg.MustRegister(h)
	return h
}

// Handler serves /metrics.
func (r *Registry) Handler() http.Handler {
	return promhttp.HandlerFor(r.reg, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
}

// Gather returns what /metrics would show, for tests and /statusz.
func (r *Registry) Gather() prometheus.Gatherer { return r.reg }

// MaxPeers bounds the values of a peer label.
const MaxPeers = 200

// PeerLabel bounds the number of values that a label with domains of peers
// takes: the first 200 domains keep their names, the rest share "other".
// Without the bound anybody who calls from many domains could fill the memory.
type PeerLabel struct {
	mu   sync.Mutex
	seen map[string]struct{}
}

// Value returns what the label says for a domain.
func (p *PeerLabel) Value(domain string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.seen[domain]; ok {
		return domain
	}
	if len(p.seen) >= MaxPeers {
		return "other"
	}
	if p.seen == nil {
		p.seen = map[string]struct{}{}
	}
	p.seen[domain] = struct{}{}
	return domain
}
