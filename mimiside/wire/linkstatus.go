package wire

import "github.com/matrix-mimi/bridge/internal/tlspl"

// LinkStatusRequest asks the hub why a joining code was refused (docs/extensions.md, linkStatus):
//
//	struct { opaque joiningCode<V>; } LinkStatusRequest;
type LinkStatusRequest struct{ JoiningCode []byte }

// Marshal returns the encoding.
func (q *LinkStatusRequest) Marshal() []byte { return tlspl.AppendOpaque(nil, q.JoiningCode) }

// UnmarshalLinkStatusRequest decodes a request.
func UnmarshalLinkStatusRequest(b []byte) (*LinkStatusRequest, error) {
	r := tlspl.NewReader(b)
	q := &LinkStatusRequest{r.Opaque(maxCode)}
	return q, finish("LinkStatusRequest", r)
}

// LinkStatus says how a link stands.
type LinkStatus uint8

// Statuses.
const (
	LinkUnknown    LinkStatus = 0 // there is no such code, or the hub does not say
	LinkGood       LinkStatus = 1
	LinkUsed       LinkStatus = 2
	LinkRevoked    LinkStatus = 3
	LinkExpired    LinkStatus = 4
	LinkPassphrase LinkStatus = 5 // the passphrase is wrong or missing
	LinkLocked     LinkStatus = 6 // too many wrong passphrases
)

// LinkStatusResponse is the answer:
//
//	enum { unknown(0), good(1), used(2), revoked(3), expired(4), passphrase(5), locked(6), (255) } LinkStatus;
//	struct { LinkStatus status; } LinkStatusResponse;
type LinkStatusResponse struct{ Status LinkStatus }

// Marshal returns the encoding.
func (a *LinkStatusResponse) Marshal() []byte { return []byte{byte(a.Status)} }

// UnmarshalLinkStatusResponse decodes an answer.
func UnmarshalLinkStatusResponse(b []byte) (*LinkStatusResponse, error) {
	r := tlspl.NewReader(b)
	a := &LinkStatusResponse{readEnum(r, LinkUnknown, LinkLocked)}
	return a, finish("LinkStatusResponse", r)
}
