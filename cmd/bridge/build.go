package main

import "context"

// build makes the parts of the bridge and puts them together: this is the only
// place that knows all of them.
func (a *app) build(_ context.Context) error {
	p, err := newProvider(a.cfg)
	if err != nil {
		return err
	}
	a.reload = append(a.reload, func() error { return p.reload(a.cfg) })
	a.metrics.GaugeFunc("cert_expiry_seconds", "Seconds until the provider's certificate ends.", p.certificateExpiry)
	hs, err := a.newMatrixClient()
	if err != nil {
		return err
	}
	out, err := a.newOutbox(hs, p, nil)
	if err != nil {
		return err
	}
	a.work = append(a.work, part{"outbox", out.Run})
	return nil
}
