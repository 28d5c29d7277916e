package puppets

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// MaxName is the longest display name of a ghost in characters.
const MaxName = 100

// DefaultNameTemplate shows a name and the provider it comes from.
const DefaultNameTemplate = "{name} ({domain})"

// Name makes the display name of a ghost. known is what a profile said, or "" when nothing is known (MIMI carries no
// display names): then the last path segment of the URI is shown, decoded; an identifier that only machines read is
// shortened. {name} and {domain} in the template are replaced. Control characters and those that change the direction of
// writing are dropped, so that no name can imitate another by them.
func Name(template, known string, uri wire.IdentifierURI) string {
	name := clean(known)
	if name == "" {
		name = clean(segment(uri))
	}
	if name == "" {
		name = clean(string(uri))
	}
	if isMachineName(name) {
		name = name[:8] + "…"
	}
	if template == "" {
		template = DefaultNameTemplate
	}
	full := strings.NewReplacer("{name}", name, "{domain}", uri.Domain()).Replace(template)
	return cutRunes(full, MaxName)
}

// segment returns what stands after the last slash of the URI, percent-decoding undone when it is UTF-8.
func segment(uri wire.IdentifierURI) string {
	u, err := uri.Parse()
	if err != nil {
		return ""
	}
	s := u.Name()
	s = s[strings.LastIndexByte(s, '/')+1:]
	if raw, err := wire.PathUnescape(s); err == nil && utf8.ValidString(raw) {
		return raw
	}
	return s
}

// isMachineName tells whether a name looks like a UUID.
func isMachineName(s string) bool {
	return len(s) == 36 && strings.Count(s, "-") == 4 && strings.Trim(s, "0123456789abcdefABCDEF-") == ""
}

func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == utf8.RuneError, unicode.IsControl(r), unicode.Is(unicode.Cf, r) && r != '\u200d':
			return -1
		}
		return r
	}, s)
	return strings.TrimSpace(s)
}

func cutRunes(s string, n int) string {
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}
