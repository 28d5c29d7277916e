package server

import (
	"net/http"
	"time"
)

// writeTime is how long an answer may take to be sent beyond what was allowed for making it.
const writeTime = 30 * time.Second

// realNow is the clock of the operating system, which deadlines of connections are measured by whatever Config.Now says.
func realNow() time.Time { return time.Now() }

// noDeadline takes a deadline away.
var noDeadline time.Time

// setWriteDeadline bounds how long a peer may take to read the answer. A writer without deadlines is not of this server.
func setWriteDeadline(w http.ResponseWriter, d time.Duration) {
	_ = http.NewResponseController(w).SetWriteDeadline(realNow().Add(d))
}
