package event

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"maunium.net/go/mautrix/id"
)

// pendingPrefix cannot begin a Matrix event identifier, which begins with `$`.
const pendingPrefix = "mimi-pending:"

// PendingID stands in a stored Matrix request for the identifier of an event
// that is itself still waiting to be sent: part number part of the MIMI message
// with that id. The request is completed when it is sent; rows of one room are
// sent in order, so the earlier one has its identifier by then.
func PendingID(mimiID []byte, part int) id.EventID {
	return id.EventID(pendingPrefix + hex.EncodeToString(mimiID) + ":" + strconv.Itoa(part))
}

// IsPending reports whether e was made by [PendingID].
func IsPending(e id.EventID) bool {
	_, _, err := ParsePending(e)
	return err == nil
}

// ParsePending takes apart what [PendingID] made.
func ParsePending(e id.EventID) (mimiID []byte, part int, err error) {
	rest, ok := strings.CutPrefix(string(e), pendingPrefix)
	if !ok || len(rest) > MaxIdentifier {
		return nil, 0, fmt.Errorf("read pending event reference: it is none")
	}
	h, p, ok := strings.Cut(rest, ":")
	if !ok || h != strings.ToLower(h) {
		return nil, 0, fmt.Errorf("read pending event reference: bad form")
	}
	if mimiID, err = hex.DecodeString(h); err != nil || len(mimiID) == 0 {
		return nil, 0, fmt.Errorf("read pending event reference: bad message id")
	}
	if part, err = strconv.Atoi(p); err != nil || part < 0 || strconv.Itoa(part) != p {
		return nil, 0, fmt.Errorf("read pending event reference: bad part")
	}
	return mimiID, part, nil
}
