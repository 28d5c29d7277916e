package wire

import (
	"fmt"
	"strings"
)

// PathEscape percent-encodes every octet of s that is not unreserved in RFC 3986, with upper-case digits:
// the expansion of a level 1 URI template variable (RFC 6570 §3.2.2).
func PathEscape(s string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c := s[i]; isUnreserved(c) {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
		}
	}
	return b.String()
}

// PathUnescape decodes percent-encoding once. It refuses encoding that is not well formed.
func PathUnescape(s string) (string, error) {
	if strings.IndexByte(s, '%') < 0 {
		return s, nil
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b = append(b, s[i])
			continue
		}
		if i+2 >= len(s) || unhex(s[i+1]) < 0 || unhex(s[i+2]) < 0 {
			return "", fmt.Errorf("%w: broken percent-encoding", ErrURI)
		}
		b = append(b, byte(unhex(s[i+1])<<4|unhex(s[i+2])))
		i += 2
	}
	return string(b), nil
}

// ParsePath reads a MIMI URI from the end of a request path, still escaped (`r.URL.EscapedPath()` in net/http).
// The draft writes the variable as the whole URI with any necessary percent-encoding and gives examples
// without the scheme, so all of these name the same room:
//
//	mimi%3A%2F%2Fa.example%2Fr%2Fclubhouse
//	a.example%2Fr%2Fclubhouse
//	a.example/r/clubhouse
//	mimi://a.example/r/clubhouse
//
// A path that holds an unescaped slash is taken octet by octet (percent-encoding in it belongs to the URI);
// one without is decoded once.
func ParsePath(escaped string) (URI, error) {
	if len(escaped) > 3*MaxURI {
		return URI{}, fmt.Errorf("%w: path too long", ErrURI)
	}
	s := escaped
	if strings.IndexByte(s, '/') < 0 {
		var err error
		if s, err = PathUnescape(escaped); err != nil {
			return URI{}, err
		}
	}
	if !strings.HasPrefix(s, "mimi:") {
		s = "mimi://" + s
	}
	return ParseURI(s)
}

// ParsePathDomain reads a provider's domain from the end of a request path: the bare domain, or in place of it a
// MIMI URI of any form that [ParsePath] takes, whose domain is returned. Lower case.
func ParsePathDomain(escaped string) (string, error) {
	u, err := ParsePath(escaped)
	if err != nil {
		return "", err
	}
	return u.Domain(), nil
}
