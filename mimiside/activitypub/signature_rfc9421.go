package activitypub

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dunglas/httpsfv"
)

// maxLabels bounds the signatures of one request.
const maxLabels = 4

// Algorithms of RFC 9421 §6.2.2 that are understood.
const (
	algRSA      = "rsa-v1_5-sha256"
	algRSAPSS   = "rsa-pss-sha512"
	algECDSA256 = "ecdsa-p256-sha256"
	algEd25519  = "ed25519"
)

// signature9421 is one labelled signature of a request.
type signature9421 struct {
	keyID, alg string
	created    time.Time
	base       string // the signature base (RFC 9421 §2.5)
	signature  []byte
}

// readRFC9421 reads the signatures of a request and returns the first that counts: derived components without parameters and plain
// fields, created and keyid needed, @method and the target covered, and with a body its Content-Digest.
func readRFC9421(in Incoming, now time.Time) (*ReceivedSignature, error) {
	inputs, err := dictionary(in.Header, "Signature-Input")
	if err != nil {
		return nil, err
	}
	signatures, err := dictionary(in.Header, "Signature")
	if err != nil {
		return nil, err
	}
	if names := inputs.Names(); len(names) == 0 || len(names) > maxLabels {
		return nil, refuse("%d signatures", len(names))
	}
	var first error
	for _, label := range inputs.Names() {
		s, err := readLabel(in, now, inputs, signatures, label)
		if err != nil {
			if first == nil {
				first = err
			}
			continue
		}
		return &ReceivedSignature{KeyID: s.keyID, Scheme: RFC9421, Created: s.created, verify: s.verify}, nil
	}
	return nil, first
}

func dictionary(h http.Header, name string) (*httpsfv.Dictionary, error) {
	size := 0
	for _, v := range h.Values(name) {
		size += len(v)
	}
	if size > maxSignatureField {
		return nil, refuse("%s is too long", name)
	}
	d, err := httpsfv.UnmarshalDictionary(h.Values(name))
	if err != nil {
		return nil, refuse("%s is malformed", name)
	}
	return d, nil
}

func readLabel(in Incoming, now time.Time, inputs, signatures *httpsfv.Dictionary, label string) (*signature9421, error) {
	member, _ := inputs.Get(label)
	list, ok := member.(httpsfv.InnerList)
	if !ok || len(list.Items) > maxCoveredFields {
		return nil, refuse("Signature-Input is malformed")
	}
	member, ok = signatures.Get(label)
	item, isItem := member.(httpsfv.Item)
	if !ok || !isItem {
		return nil, refuse("signature %s is missing", label)
	}
	s := &signature9421{}
	if s.signature, ok = item.Value.([]byte); !ok {
		return nil, refuse("signature %s is malformed", label)
	}
	if err := s.params(list.Params, now); err != nil {
		return nil, err
	}
	covered, err := s.makeBase(in, list)
	if err != nil {
		return nil, err
	}
	if err := covers9421(in, covered); err != nil {
		return nil, err
	}
	if slices.Contains(covered, "content-digest") {
		if err := checkContentDigest(in.Header.Values("Content-Digest"), in.Body); err != nil {
			return nil, err
		}
	}
	return s, checkKeyID(s.keyID)
}

func (s *signature9421) params(p *httpsfv.Params, now time.Time) error {
	text := func(name string, into *string) error {
		v, ok := p.Get(name)
		if !ok {
			return nil
		}
		if *into, ok = v.(string); !ok {
			return refuse("%s is no string", name)
		}
		return nil
	}
	if err := text("keyid", &s.keyID); err != nil {
		return err
	}
	if err := text("alg", &s.alg); err != nil {
		return err
	}
	v, _ := p.Get("created")
	created, ok := v.(int64)
	if !ok {
		return refuse("created is needed")
	}
	s.created = time.Unix(created, 0)
	if err := checkWindow(s.created, now); err != nil {
		return err
	}
	if v, there := p.Get("expires"); there {
		expires, ok := v.(int64)
		if !ok || now.After(time.Unix(expires, 0).Add(maxSignatureSkew)) {
			return refuse("signature has expired")
		}
	}
	return nil
}

// makeBase builds the signature base and returns the names of the covered components.
func (s *signature9421) makeBase(in Incoming, list httpsfv.InnerList) ([]string, error) {
	var b strings.Builder
	var covered []string
	for _, item := range list.Items {
		name, ok := item.Value.(string)
		if !ok || len(item.Params.Names()) > 0 || name != strings.ToLower(name) {
			return nil, refuse("component is not supported")
		}
		if slices.Contains(covered, name) {
			return nil, refuse("component %s is covered twice", name)
		}
		covered = append(covered, name)
		value, err := component(in, name)
		if err != nil {
			return nil, err
		}
		b.WriteString(strconv.Quote(name) + ": " + value + "\n")
	}
	params, err := httpsfv.Marshal(httpsfv.List{list})
	if err != nil {
		return nil, refuse("Signature-Input is malformed")
	}
	s.base = b.String() + `"@signature-params": ` + params
	return covered, nil
}

// component returns the value of a component (RFC 9421 §2.1, §2.2).
func component(in Incoming, name string) (string, error) {
	query := ""
	if in.RawQuery != "" {
		query = "?" + in.RawQuery
	}
	path := in.EscapedPath
	if path == "" {
		path = "/"
	}
	switch name {
	case "@method":
		return in.Method, nil
	case "@target-uri":
		return in.Scheme + "://" + in.Host + path + query, nil
	case "@authority":
		return strings.ToLower(in.Host), nil
	case "@scheme":
		return in.Scheme, nil
	case "@path":
		return path, nil
	case "@query":
		if query == "" {
			return "?", nil
		}
		return query, nil
	case "@request-target":
		return path + query, nil
	case "host":
		return in.Host, nil
	}
	if strings.HasPrefix(name, "@") || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		return "", refuse("component %q is not supported", name)
	}
	values := in.Header.Values(name)
	if len(values) == 0 {
		return "", refuse("covered field %s is missing", name)
	}
	trimmed := make([]string, len(values))
	for i, v := range values {
		trimmed[i] = strings.TrimSpace(v)
	}
	return strings.Join(trimmed, ", "), nil
}

// covers9421 demands @method, the target, and with a body its digest.
func covers9421(in Incoming, covered []string) error {
	has := func(name string) bool { return slices.Contains(covered, name) }
	if !has("@method") {
		return refuse("not covered: @method")
	}
	authority := has("@authority") || has("host")
	if !has("@target-uri") && !(authority && (has("@request-target") || has("@path") && (in.RawQuery == "" || has("@query")))) {
		return refuse("not covered: @target-uri")
	}
	if (in.Method == http.MethodPost || len(in.Body) > 0) && !has("content-digest") {
		return refuse("not covered: content-digest")
	}
	return nil
}

// verify checks the signature under a key; the parameter alg may only agree with it.
func (s *signature9421) verify(pub crypto.PublicKey) error {
	base := []byte(s.base)
	ok := false
	switch key := pub.(type) {
	case *rsa.PublicKey:
		switch s.alg {
		case "", algRSA:
			sum := sha256.Sum256(base)
			ok = rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], s.signature) == nil
		case algRSAPSS:
			sum := sha512.Sum512(base)
			ok = rsa.VerifyPSS(key, crypto.SHA512, sum[:], s.signature, &rsa.PSSOptions{SaltLength: 64}) == nil
		}
	case *ecdsa.PublicKey:
		if (s.alg == "" || s.alg == algECDSA256) && len(s.signature) == 64 && key.Curve.Params().BitSize == 256 {
			sum := sha256.Sum256(base)
			ok = ecdsa.Verify(key, sum[:], new(big.Int).SetBytes(s.signature[:32]), new(big.Int).SetBytes(s.signature[32:]))
		}
	case ed25519.PublicKey:
		ok = (s.alg == "" || s.alg == algEd25519) && ed25519.Verify(key, base, s.signature)
	}
	if !ok {
		return refuse("it does not verify")
	}
	return nil
}

// signRFC9421 signs @method @target-uri @authority date, and with a body content-digest content-type.
func (k SigningKey) signRFC9421(r *http.Request, body []byte, now time.Time) error {
	covered := []string{"@method", "@target-uri", "@authority", "date"}
	if r.Method == http.MethodPost {
		covered = append(covered, "content-digest", "content-type")
		r.Header.Set("Content-Digest", contentDigestOf(body))
	}
	list := httpsfv.InnerList{Params: httpsfv.NewParams()}
	for _, name := range covered {
		list.Items = append(list.Items, httpsfv.NewItem(name))
	}
	list.Params.Add("created", now.Unix())
	list.Params.Add("keyid", k.ID)
	list.Params.Add("alg", algRSA)
	var s signature9421
	in := Incoming{Method: r.Method, Host: hostOf(r), Scheme: r.URL.Scheme, EscapedPath: r.URL.EscapedPath(), RawQuery: r.URL.RawQuery, Header: r.Header, Body: body}
	if _, err := s.makeBase(in, list); err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(s.base))
	sig, err := rsa.SignPKCS1v15(rand.Reader, k.Private, crypto.SHA256, sum[:])
	if err != nil {
		return refuse("%v", err)
	}
	params, err := httpsfv.Marshal(httpsfv.List{list})
	if err != nil {
		return refuse("%v", err)
	}
	r.Header.Set("Signature-Input", "sig1="+params)
	r.Header.Set("Signature", "sig1=:"+base64.StdEncoding.EncodeToString(sig)+":")
	return nil
}

// originOf returns scheme and host of a URL in lower case, "" when it has none or is not http(s).
func originOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil || (u.Scheme != "https" && u.Scheme != "http") {
		return ""
	}
	host := strings.ToLower(u.Host)
	if p := u.Port(); (p == "443" && u.Scheme == "https") || (p == "80" && u.Scheme == "http") {
		host = strings.ToLower(u.Hostname())
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
	}
	return u.Scheme + "://" + host
}

// sameOrigin tells whether two URLs are of one origin.
func sameOrigin(a, b string) bool {
	o := originOf(a)
	return o != "" && o == originOf(b)
}
