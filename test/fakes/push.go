package fakes

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// maxBatch bounds the events of a transaction, as Synapse does.
const maxBatch = 100

// push sends the bridge its events: in order, one transaction at a time, the same again until it is acknowledged.
func (h *Homeserver) push(ctx context.Context) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2}, Timeout: time.Minute}
	defer client.CloseIdleConnections()
	for n := 1; ; n++ {
		var batch []map[string]any
		err := h.Wait(ctx, "events", func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			batch = h.queue[:min(len(h.queue), maxBatch)]
			return len(batch) > 0
		})
		if err != nil {
			return
		}
		body, err := json.Marshal(map[string]any{"events": batch})
		if err != nil {
			panic(err)
		}
		for pause := 10 * time.Millisecond; !h.deliver(ctx, client, n, body); pause = min(2*pause, 200*time.Millisecond) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
		}
		h.mu.Lock()
		h.queue = h.queue[len(batch):]
		h.pushed += len(batch)
		h.touch()
		h.mu.Unlock()
	}
}

func (h *Homeserver) deliver(ctx context.Context, client *http.Client, n int, body []byte) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, fmt.Sprintf("%s/_matrix/app/v1/transactions/%s-%d", h.Bridge, h.salt, n), bytes.NewReader(body))
	if err != nil {
		panic(err)
	}
	req.Header.Set("Authorization", "Bearer "+h.BridgeToken)
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return err == nil && resp.StatusCode == http.StatusOK
}

// Idle tells whether every event was acknowledged by the bridge.
func (h *Homeserver) Idle() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.queue) == 0
}
