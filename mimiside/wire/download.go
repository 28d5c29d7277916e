package wire

import (
	"net/url"
	"strings"
)

// MaxDownloadURL is the longest URL in octets that proxyDownload takes.
const MaxDownloadURL = 4096

// DownloadURL is the URL of an asset whose form has been checked by [ParseDownloadURL].
type DownloadURL struct{ parsed *url.URL }

// ParseDownloadURL reads the variable of a proxyDownload request (draft-ietf-mimi-protocol-06 §5.10), still escaped. It
// must be an https URL with a DNS name, no user information, no fragment and no port but 443. Whether the host is one
// that the room's asset policy names is judged by the caller: without that the hub would be an open proxy.
func ParseDownloadURL(escaped string) (DownloadURL, error) {
	if len(escaped) > 3*MaxDownloadURL {
		return DownloadURL{}, malformed("downloadUrl is too long")
	}
	raw := escaped
	if !strings.HasPrefix(raw, "https:/") {
		var err error
		if raw, err = PathUnescape(escaped); err != nil {
			return DownloadURL{}, malformed("downloadUrl: %w", err)
		}
	}
	return CheckDownloadURL(raw)
}

// CheckDownloadURL makes the checks of ParseDownloadURL on a URL that was not escaped.
func CheckDownloadURL(raw string) (DownloadURL, error) {
	if len(raw) > MaxDownloadURL {
		return DownloadURL{}, malformed("downloadUrl is too long")
	}
	u, err := url.Parse(raw)
	if err != nil {
		return DownloadURL{}, malformed("downloadUrl is no URL")
	}
	port := u.Port()
	switch {
	case u.Scheme != "https", u.Opaque != "", u.User != nil, u.Fragment != "" || strings.Contains(raw, "#"):
		return DownloadURL{}, malformed("downloadUrl is not a plain https URL")
	case port != "" && port != "443", strings.HasSuffix(u.Host, ":"):
		return DownloadURL{}, malformed("downloadUrl has another port than 443")
	case !ValidDomain(u.Hostname()):
		return DownloadURL{}, malformed("downloadUrl has no DNS name")
	}
	return DownloadURL{u}, nil
}

// String returns the URL.
func (u DownloadURL) String() string { return u.parsed.String() }

// Host returns the host in lower case, without port.
func (u DownloadURL) Host() string { return LowerDomain(u.parsed.Hostname()) }
