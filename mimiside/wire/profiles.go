package wire

import "github.com/matrix-mimi/bridge/internal/tlspl"

// maxAsked bounds the users of one ProfilesRequest.
const maxAsked = 256

// ProfilesRequest asks a provider for what its users call themselves (docs/extensions.md, profiles):
//
//	struct { IdentifierUri users<V>; } ProfilesRequest;
type ProfilesRequest struct{ Users []IdentifierURI }

// Marshal returns the encoding.
func (q *ProfilesRequest) Marshal() []byte {
	return tlspl.AppendVector(nil, func(b []byte) []byte {
		for _, u := range q.Users {
			b = u.append(b)
		}
		return b
	})
}

// ReceivedProfilesRequest is a request as it came, before anything was checked but its encoding.
type ReceivedProfilesRequest struct{ request ProfilesRequest }

// UnmarshalProfilesRequest decodes a request.
func UnmarshalProfilesRequest(b []byte) (*ReceivedProfilesRequest, error) {
	r := tlspl.NewReader(b)
	q := ProfilesRequest{Users: readVector(r, maxAsked, -1, readURI)}
	if err := finish("ProfilesRequest", r); err != nil {
		return nil, err
	}
	return &ReceivedProfilesRequest{q}, nil
}

// Marshal returns the bytes that were decoded.
func (q *ReceivedProfilesRequest) Marshal() []byte { return q.request.Marshal() }

// Check demands that all are users of ours.
func (q *ReceivedProfilesRequest) Check(own string) (*ProfilesRequest, error) {
	for _, u := range q.request.Users {
		if err := checkURIOf("users", u, own, KindUser, KindPseudonym); err != nil {
			return nil, err
		}
	}
	return &q.request, nil
}

// Profile is what a user shows of itself to those it shares a room with:
//
//	struct { IdentifierUri user; uint64 time; opaque name<V>; opaque avatar<V>; } Profile;
type Profile struct {
	User IdentifierURI
	// Time orders profiles of the same user, in milliseconds since 1970 by the clock of its provider.
	Time uint64
	Name string // "" for none
	// Avatar is an https address that everybody can fetch, "" for none.
	Avatar string
}

// ProfilesResponse holds the profiles that may be told; users are missing otherwise:
//
//	struct { Profile profiles<V>; } ProfilesResponse;
type ProfilesResponse struct{ Profiles []Profile }

// Marshal returns the encoding.
func (a *ProfilesResponse) Marshal() []byte {
	return tlspl.AppendVector(nil, func(b []byte) []byte {
		for i := range a.Profiles {
			p := &a.Profiles[i]
			b = tlspl.AppendUint64(p.User.append(b), p.Time)
			b = tlspl.AppendString(tlspl.AppendString(b, p.Name), p.Avatar)
		}
		return b
	})
}

// ReceivedProfilesResponse is an answer as it came, before anything was checked but its encoding.
type ReceivedProfilesResponse struct{ response ProfilesResponse }

// UnmarshalProfilesResponse decodes an answer.
func UnmarshalProfilesResponse(b []byte) (*ReceivedProfilesResponse, error) {
	r := tlspl.NewReader(b)
	a := ProfilesResponse{Profiles: readVector(r, maxAsked, -1, func(r *tlspl.Reader) Profile {
		return Profile{User: readURI(r), Time: r.Uint64(), Name: readStatusText(r), Avatar: readStatusText(r)}
	})}
	if err := finish("ProfilesResponse", r); err != nil {
		return nil, err
	}
	return &ReceivedProfilesResponse{a}, nil
}

// Marshal returns the bytes that were decoded.
func (a *ReceivedProfilesResponse) Marshal() []byte { return a.response.Marshal() }

// Check demands that all are users of the provider that answers.
func (a *ReceivedProfilesResponse) Check(provider string) (*ProfilesResponse, error) {
	for i := range a.response.Profiles {
		if err := checkURIOf("profiles", a.response.Profiles[i].User, provider, KindUser, KindPseudonym); err != nil {
			return nil, err
		}
	}
	return &a.response, nil
}
