package obs

import (
	"net/http"
	"runtime"
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
