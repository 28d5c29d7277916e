package wire

import (
	"strings"
	"unicode/utf8"

	"github.com/matrix-mimi/bridge/internal/tlspl"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// SearchIdentifierType says what a QueryElement looks for (draft-ietf-mimi-protocol-06 §5.8).
type SearchIdentifierType uint8

// Types of search. Values that are not listed decode and are answered with unsupportedField.
const (
	SearchHandle       SearchIdentifierType = 1 // a whole handle URI, exactly
	SearchNick         SearchIdentifierType = 2 // the user part of a handle, exactly
	SearchEmail        SearchIdentifierType = 3 // an addr-spec, exactly
	SearchPhone        SearchIdentifierType = 4 // E.164 with "+", exactly
	SearchPartialName  SearchIdentifierType = 5 // part of a name, without regard to case
	SearchWholeProfile SearchIdentifierType = 6 // part of any searchable field
	SearchOIDCStdClaim SearchIdentifierType = 7 // the claim Field, exactly
	SearchVCardField   SearchIdentifierType = 8 // the property Field, exactly
)

// QueryElement is one condition:
//
//	struct {
//	  SearchIdentifierType searchType;
//	  select (searchType) {
//	    case oidcStdClaim: opaque claimName<V>;
//	    case vcardField:   opaque propertyName<V>;
//	  };
//	  opaque searchValue<V>;
//	} QueryElement;
type QueryElement struct {
	Type  SearchIdentifierType
	Field string // oidcStdClaim, vcardField
	Value string // UTF-8
}

// hasField tells whether the type comes with a field name.
func (t SearchIdentifierType) hasField() bool {
	return t == SearchOIDCStdClaim || t == SearchVCardField
}

// IdentifierRequest asks a provider for users. All elements must fit:
//
//	struct { QueryElement query_elements<V>; AppDataDictionary id_request_extensions; } IdentifierRequest;
type IdentifierRequest struct {
	Elements   []QueryElement
	Extensions mls.AppDataDictionary
}

// Marshal returns the encoding.
func (q *IdentifierRequest) Marshal() []byte {
	b := tlspl.AppendVector(nil, func(b []byte) []byte {
		for _, e := range q.Elements {
			b = append(b, byte(e.Type))
			if e.Type.hasField() {
				b = appendText(b, e.Field)
			}
			b = appendText(b, e.Value)
		}
		return b
	})
	return append(b, q.Extensions.Marshal()...)
}

// ReceivedIdentifierRequest is a request as it came, before anything was checked but its encoding.
type ReceivedIdentifierRequest struct{ request IdentifierRequest }

// UnmarshalIdentifierRequest decodes a request.
func UnmarshalIdentifierRequest(b []byte) (*ReceivedIdentifierRequest, error) {
	r := tlspl.NewReader(b)
	var q IdentifierRequest
	q.Elements = readVector(r, maxElements, -1, func(r *tlspl.Reader) QueryElement {
		e := QueryElement{Type: readEnum[SearchIdentifierType](r, 1, 254)}
		if e.Type.hasField() {
			e.Field = readText(r)
		}
		e.Value = readText(r)
		return e
	})
	q.Extensions = readDictionary(r)
	if err := finish("IdentifierRequest", r); err != nil {
		return nil, err
	}
	return &ReceivedIdentifierRequest{q}, nil
}

// Marshal returns the bytes that were decoded.
func (q *ReceivedIdentifierRequest) Marshal() []byte { return q.request.Marshal() }

// Check demands at least one element, and texts in UTF-8 without control characters.
func (q *ReceivedIdentifierRequest) Check() (*IdentifierRequest, error) {
	if len(q.request.Elements) == 0 {
		return nil, malformed("IdentifierRequest asks for nothing")
	}
	for _, e := range q.request.Elements {
		if !plainText(e.Field) || !plainText(e.Value) {
			return nil, malformed("IdentifierRequest has a text with control characters or not in UTF-8")
		}
	}
	return &q.request, nil
}

func plainText(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(c rune) bool { return c < ' ' || c >= 0x7f && c < 0xa0 }) < 0
}

// IdentifierQueryCode is the outcome of a query.
type IdentifierQueryCode uint8

// Outcomes.
const (
	IdentifierSuccess          IdentifierQueryCode = 0
	IdentifierNotFound         IdentifierQueryCode = 1
	IdentifierAmbiguous        IdentifierQueryCode = 2 // the provider demands an exact match of all fields
	IdentifierForbidden        IdentifierQueryCode = 3
	IdentifierUnsupportedField IdentifierQueryCode = 4
)

// FieldSource says whose name a ProfileField has.
type FieldSource uint8

// Sources of field names.
const (
	FieldOIDCStdClaim FieldSource = 7
	FieldVCard        FieldSource = 8
)

// ProfileField is `struct { FieldSource fieldSource; string fieldName; opaque fieldValue<V>; }`.
type ProfileField struct {
	Source FieldSource
	Name   string
	Value  string
}

// UserProfile is `struct { IdentifierUri stableUri; ProfileField fields<V>; }`.
type UserProfile struct {
	StableURI IdentifierURI
	Fields    []ProfileField
}

// IdentifierResponse is the answer to a query:
//
//	struct {
//	  IdentifierQueryCode responseCode;
//	  IdentifierUri uri<V>;
//	  UserProfile foundProfiles<V>;
//	  AppDataDictionary id_response_extensions;
//	} IdentifierResponse;
//
// uri<V> is read as a vector of IdentifierUri: the stableUri of each profile.
type IdentifierResponse struct {
	Code       IdentifierQueryCode
	URIs       []IdentifierURI
	Profiles   []UserProfile
	Extensions mls.AppDataDictionary
}

// Marshal returns the encoding.
func (a *IdentifierResponse) Marshal() []byte {
	b := tlspl.AppendVector([]byte{byte(a.Code)}, func(b []byte) []byte {
		for _, u := range a.URIs {
			b = u.append(b)
		}
		return b
	})
	b = tlspl.AppendVector(b, func(b []byte) []byte {
		for _, p := range a.Profiles {
			b = tlspl.AppendVector(p.StableURI.append(b), func(b []byte) []byte {
				for _, f := range p.Fields {
					b = appendText(appendText(append(b, byte(f.Source)), f.Name), f.Value)
				}
				return b
			})
		}
		return b
	})
	return append(b, a.Extensions.Marshal()...)
}

// ReceivedIdentifierResponse is an answer as it came, before anything was checked but its encoding.
type ReceivedIdentifierResponse struct{ response IdentifierResponse }

// UnmarshalIdentifierResponse decodes an answer.
func UnmarshalIdentifierResponse(b []byte) (*ReceivedIdentifierResponse, error) {
	r := tlspl.NewReader(b)
	a := IdentifierResponse{Code: readEnum(r, IdentifierSuccess, IdentifierUnsupportedField)}
	a.URIs = readVector(r, maxProfiles, -1, readURI)
	a.Profiles = readVector(r, maxProfiles, -1, func(r *tlspl.Reader) UserProfile {
		p := UserProfile{StableURI: readURI(r)}
		p.Fields = readVector(r, maxFields, -1, func(r *tlspl.Reader) ProfileField {
			return ProfileField{Source: readEnum(r, FieldOIDCStdClaim, FieldVCard), Name: readText(r), Value: readText(r)}
		})
		return p
	})
	a.Extensions = readDictionary(r)
	if err := finish("IdentifierResponse", r); err != nil {
		return nil, err
	}
	return &ReceivedIdentifierResponse{a}, nil
}

// IdentifierCodeOf is what the HTTP status of an answer without a body says about the user that was asked for; ok is false when it
// says nothing about users.
func IdentifierCodeOf(status int) (code IdentifierQueryCode, ok bool) {
	switch {
	case status/100 == 2:
		return IdentifierSuccess, true
	case status == 404:
		return IdentifierNotFound, true
	}
	return 0, false
}

// Marshal returns the bytes that were decoded.
func (a *ReceivedIdentifierResponse) Marshal() []byte { return a.response.Marshal() }

// Check demands that everything found is a user of the provider that was asked. A text that is not UTF-8 or holds control
// characters is left out.
func (a *ReceivedIdentifierResponse) Check(provider string) (*IdentifierResponse, error) {
	out := a.response
	for _, u := range out.URIs {
		if err := checkURIOf("uri", u, provider, KindUser, KindPseudonym); err != nil {
			return nil, err
		}
	}
	out.Profiles = make([]UserProfile, 0, len(a.response.Profiles))
	for _, p := range a.response.Profiles {
		if err := checkURIOf("stableUri", p.StableURI, provider, KindUser, KindPseudonym); err != nil {
			return nil, err
		}
		var fields []ProfileField
		for _, f := range p.Fields {
			if plainText(f.Name) && plainText(f.Value) {
				fields = append(fields, f)
			}
		}
		out.Profiles = append(out.Profiles, UserProfile{p.StableURI, fields})
	}
	return &out, nil
}
