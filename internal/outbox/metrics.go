package outbox

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/matrix-mimi/bridge/internal/obs"
)

// metrics counts what the outbox does. Without a registry it counts for nobody.
type metrics struct {
	attempts, dead *prometheus.CounterVec
	seconds, delay *prometheus.HistogramVec
	lost           *prometheus.CounterVec
}

func newMetrics(reg *obs.Registry, o *Outbox) *metrics {
	if reg == nil {
		reg = obs.NewRegistry("")
	}
	m := &metrics{
		attempts: reg.Counter("outbound_attempts_total", "Requests sent, by their result: done, retry, refused, panic.", "side", "result"),
		dead:     reg.Counter("outbound_dead_total", "Rows given up: expired, broken, unroutable, refused without anybody to tell.", "side", "reason"),
		seconds:  reg.Seconds("outbound_request_seconds", "Duration of requests.", "side", "verb"),
		delay:    reg.Seconds("outbound_delay_seconds", "Time from storing a row to its delivery.", "side"),
		lost:     reg.Counter("lease_lost_total", "Leases that ended while they were in use.", "kind"),
	}
	reg.GaugeFunc("lane_claimed", "Lanes that are worked on in this process.", func() float64 {
		n, _, _ := o.sched.numbers()
		return float64(n)
	})
	reg.GaugeFunc("lane_waiting", "Lanes that wait for their turn in this process.", func() float64 {
		_, n, _ := o.sched.numbers()
		return float64(n)
	})
	reg.GaugeFunc("peer_breaker_open_count", "Destinations that get one probe at a time because they fail.", func() float64 {
		_, _, n := o.sched.numbers()
		return float64(n)
	})
	return m
}

// firstWord is the word before the colon of a reason, for a label.
func firstWord(reason string) string {
	word, _, found := strings.Cut(reason, ":")
	if !found || strings.Contains(word, " ") {
		return "other"
	}
	return word
}
