package activitypub

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-fed/httpsig"
)

// cavageParams are the parameters of a Signature field.
type cavageParams struct {
	keyID, algorithm, signature string
	headers                     []string
	created, expires            int64
}

// maxCoveredFields bounds the list of covered fields.
const maxCoveredFields = 32

// parseCavage reads the parameters of a Signature field: name=value pairs between commas with optional space, values quoted or
// bare. A parameter that comes twice is refused, whatever it says: implementations differ in which one counts.
func parseCavage(s string) (*cavageParams, error) {
	if len(s) > maxSignatureField {
		return nil, refuse("signature is too long")
	}
	p := &cavageParams{}
	seen := map[string]bool{}
	for rest := s; ; {
		rest = strings.TrimLeft(rest, " \t")
		name, after, ok := strings.Cut(rest, "=")
		if !ok || !isToken(name) {
			return nil, refuse("malformed parameter")
		}
		var value string
		if strings.HasPrefix(after, `"`) {
			end := strings.IndexByte(after[1:], '"')
			if end < 0 {
				return nil, refuse("malformed parameter %s", name)
			}
			value, rest = after[1:1+end], after[2+end:]
		} else {
			end := strings.IndexByte(after, ',')
			if end < 0 {
				end = len(after)
			}
			value, rest = strings.TrimRight(after[:end], " \t"), after[end:]
		}
		if seen[name] {
			return nil, refuse("duplicate parameter %s", name)
		}
		seen[name] = true
		if err := p.set(name, value); err != nil {
			return nil, err
		}
		rest = strings.TrimLeft(rest, " \t")
		if rest == "" {
			break
		}
		if rest[0] != ',' {
			return nil, refuse("malformed parameter %s", name)
		}
		rest = rest[1:]
	}
	if p.keyID == "" || p.signature == "" || len(p.headers) == 0 {
		return nil, refuse("keyId, headers and signature are needed")
	}
	return p, nil
}

func (p *cavageParams) set(name, value string) (err error) {
	switch name {
	case "keyId":
		p.keyID = value
	case "algorithm":
		p.algorithm = strings.ToLower(value)
	case "signature":
		if _, err := base64.StdEncoding.DecodeString(value); err != nil {
			return refuse("signature is not base64")
		}
		p.signature = value
	case "headers":
		p.headers = strings.Fields(strings.ToLower(value))
		if len(p.headers) > maxCoveredFields {
			return refuse("too many covered fields")
		}
		for i, h := range p.headers {
			if slices.Contains(p.headers[:i], h) {
				return refuse("field %s is covered twice", h)
			}
		}
	case "created":
		p.created, err = strconv.ParseInt(value, 10, 64)
	case "expires":
		seconds, _, _ := strings.Cut(value, ".")
		p.expires, err = strconv.ParseInt(seconds, 10, 64)
	}
	if err != nil {
		return refuse("%s is no number", name)
	}
	return nil
}

func isToken(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == ""
}

// readCavage makes the checks that the library does not make: coverage, time, digest, and one meaning of every parameter.
func readCavage(in Incoming, now time.Time) (*ReceivedSignature, error) {
	field, err := cavageField(in.Header)
	if err != nil {
		return nil, err
	}
	p, err := parseCavage(field)
	if err != nil {
		return nil, err
	}
	if err := checkKeyID(p.keyID); err != nil {
		return nil, err
	}
	if err := p.covers(in); err != nil {
		return nil, err
	}
	at, err := p.time(in.Header, now)
	if err != nil {
		return nil, err
	}
	if slices.Contains(p.headers, "digest") {
		if err := checkDigest(in.Header.Values("Digest"), in.Body); err != nil {
			return nil, err
		}
	}
	for _, name := range p.headers {
		if !strings.HasPrefix(name, "(") && name != "host" && len(in.Header.Values(name)) == 0 {
			return nil, refuse("covered field %s is missing", name)
		}
	}
	return &ReceivedSignature{KeyID: p.keyID, Scheme: Cavage, Created: at, verify: func(pub crypto.PublicKey) error {
		return p.verify(in, pub)
	}}, nil
}

// cavageField is the one Signature field, or its equal in Authorization.
func cavageField(h http.Header) (string, error) {
	fields := h.Values("Signature")
	for _, a := range h.Values("Authorization") {
		if rest, ok := strings.CutPrefix(a, "Signature "); ok {
			fields = append(slices.Clip(fields), rest)
		}
	}
	if len(fields) != 1 {
		return "", refuse("%d signatures", len(fields))
	}
	return fields[0], nil
}

// covers demands (request-target), host, a time, and with a body its digest.
func (p *cavageParams) covers(in Incoming) error {
	need := []string{"(request-target)", "host"}
	if in.Method == http.MethodPost || len(in.Body) > 0 {
		need = append(need, "digest")
	}
	for _, name := range need {
		if !slices.Contains(p.headers, name) {
			return refuse("not covered: %s", name)
		}
	}
	if !slices.Contains(p.headers, "date") && !slices.Contains(p.headers, "(created)") {
		return refuse("not covered: date")
	}
	return nil
}

// time returns when the signature was made: (created) where it is covered, else Date. Both must be within the window.
func (p *cavageParams) time(h http.Header, now time.Time) (time.Time, error) {
	var at time.Time
	if slices.Contains(p.headers, "date") {
		t, err := http.ParseTime(h.Get("Date"))
		if err != nil || len(h.Values("Date")) != 1 {
			return at, refuse("Date is malformed")
		}
		if err := checkWindow(t, now); err != nil {
			return at, err
		}
		at = t
	}
	if slices.Contains(p.headers, "(created)") {
		at = time.Unix(p.created, 0)
		if err := checkWindow(at, now); err != nil {
			return at, err
		}
	}
	if p.expires != 0 && now.After(time.Unix(p.expires, 0).Add(maxSignatureSkew)) {
		return at, refuse("signature has expired")
	}
	return at, nil
}

// verify tries the readings of (request-target) that are in use: the escaped path with and without its query, and the decoded path.
func (p *cavageParams) verify(in Incoming, pub crypto.PublicKey) error {
	algorithm, err := p.algorithmFor(pub)
	if err != nil {
		return err
	}
	type target struct{ path, query string }
	targets := []target{{in.EscapedPath, in.RawQuery}}
	if in.RawQuery != "" {
		targets = append(targets, target{in.EscapedPath, ""})
	}
	if decoded, err := url.PathUnescape(in.EscapedPath); err == nil && decoded != in.EscapedPath && !strings.ContainsAny(decoded, "\r\n") {
		targets = append(targets, target{decoded, in.RawQuery})
	}
	for _, t := range targets {
		v, err := httpsig.NewVerifier(p.normalised(in, t.path, t.query))
		if err != nil {
			return refuse("%v", err)
		}
		if v.Verify(pub, algorithm) == nil {
			return nil
		}
	}
	return refuse("it does not verify")
}

// normalised is the request in the one spelling that the library reads rightly, with nothing in it that is not covered.
func (p *cavageParams) normalised(in Incoming, path, query string) *http.Request {
	h := http.Header{}
	for _, name := range p.headers {
		if values := in.Header.Values(name); len(values) > 0 && !strings.HasPrefix(name, "(") {
			h[http.CanonicalHeaderKey(name)] = values
		}
	}
	h.Del("Authorization")
	h.Set("Host", in.Host)
	// The keyId is not part of what is signed; the library splits it at commas.
	field := `keyId="k",headers="` + strings.Join(p.headers, " ") + `",signature="` + p.signature + `"`
	if slices.Contains(p.headers, "(created)") {
		field += ",created=" + strconv.FormatInt(p.created, 10)
	}
	if slices.Contains(p.headers, "(expires)") {
		field += ",expires=" + strconv.FormatInt(p.expires, 10)
	}
	h.Set("Signature", field)
	return &http.Request{Method: in.Method, URL: &url.URL{Path: path, RawQuery: query}, Header: h}
}

// algorithmFor chooses the algorithm by the key; the parameter may only agree.
func (p *cavageParams) algorithmFor(pub crypto.PublicKey) (httpsig.Algorithm, error) {
	say := p.algorithm
	switch pub.(type) {
	case *rsa.PublicKey:
		switch say {
		case "", "hs2019", "rsa-sha256":
			return httpsig.RSA_SHA256, nil
		case "rsa-sha512":
			return httpsig.RSA_SHA512, nil
		}
	case *ecdsa.PublicKey:
		if say == "" || say == "hs2019" || say == "ecdsa-sha256" {
			return httpsig.ECDSA_SHA256, nil
		}
	case ed25519.PublicKey:
		if say == "" || say == "hs2019" || say == "ed25519" {
			return httpsig.ED25519, nil
		}
	}
	return "", refuse("algorithm %q does not fit the key", say)
}

// signCavage signs (request-target) host date, and with a body digest content-type: what every known server asks for.
func (k SigningKey) signCavage(r *http.Request, body []byte) error {
	covered := []string{httpsig.RequestTarget, "host", "date"}
	if r.Method == http.MethodPost {
		covered = append(covered, "digest", "content-type")
		r.Header.Set("Digest", digestOf(body))
	}
	// The library signs the decoded path: it is given the escaped one, which is what goes over the wire.
	h := r.Header.Clone()
	h.Set("Host", hostOf(r))
	h.Del("Authorization")
	shadow := &http.Request{Method: r.Method, URL: &url.URL{Path: r.URL.EscapedPath(), RawQuery: r.URL.RawQuery}, Header: h}
	signer, _, err := httpsig.NewSigner([]httpsig.Algorithm{httpsig.RSA_SHA256}, httpsig.DigestSha256, covered, httpsig.Signature, 0)
	if err != nil {
		return refuse("%v", err)
	}
	if err := signer.SignRequest(k.Private, k.ID, shadow, nil); err != nil {
		return refuse("%v", err)
	}
	r.Header.Set("Signature", h.Get("Signature"))
	return nil
}

// checkKeyID demands an https URL (http in tests is left to the fetcher) without user part, and bounds it.
func checkKeyID(id string) error {
	u, err := url.Parse(id)
	if err != nil || len(id) > maxURL || u.Host == "" || u.User != nil || (u.Scheme != "https" && u.Scheme != "http") {
		return refuse("keyId is no URL")
	}
	return nil
}
