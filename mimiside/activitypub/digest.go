package activitypub

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/dunglas/httpsfv"
)

// digestOf returns the Digest field of a body (RFC 3230).
func digestOf(body []byte) string {
	sum := sha256.Sum256(body)
	return "SHA-256=" + base64.StdEncoding.EncodeToString(sum[:])
}

// contentDigestOf returns the Content-Digest field of a body (RFC 9530 §2).
func contentDigestOf(body []byte) string {
	sum := sha256.Sum256(body)
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

// sumOf hashes a body by the name of an algorithm in lower case; nil for an algorithm that is not known.
func sumOf(algorithm string, body []byte) []byte {
	switch algorithm {
	case "sha-256":
		sum := sha256.Sum256(body)
		return sum[:]
	case "sha-512":
		sum := sha512.Sum512(body)
		return sum[:]
	}
	return nil
}

// checkDigest compares the Digest fields of a request with its body: at least one known algorithm, and none that differs.
func checkDigest(values []string, body []byte) error {
	known := 0
	for _, value := range values {
		for _, item := range strings.Split(value, ",") {
			name, text, ok := strings.Cut(strings.TrimSpace(item), "=")
			if !ok {
				return refuse("Digest is malformed")
			}
			sum := sumOf(strings.ToLower(name), body)
			if sum == nil {
				continue
			}
			got, err := base64.StdEncoding.DecodeString(text)
			if err != nil || subtle.ConstantTimeCompare(got, sum) != 1 {
				return refuse("digest mismatch")
			}
			known++
		}
	}
	if known == 0 {
		return refuse("Digest has no known algorithm")
	}
	return nil
}

// checkContentDigest is checkDigest for Content-Digest (RFC 9530).
func checkContentDigest(values []string, body []byte) error {
	dict, err := httpsfv.UnmarshalDictionary(values)
	if err != nil {
		return refuse("Content-Digest is malformed")
	}
	known := 0
	for _, name := range dict.Names() {
		sum := sumOf(name, body)
		if sum == nil {
			continue
		}
		member, _ := dict.Get(name)
		item, ok := member.(httpsfv.Item)
		if !ok {
			return refuse("Content-Digest is malformed")
		}
		got, ok := item.Value.([]byte)
		if !ok || !bytes.Equal(got, sum) {
			return refuse("digest mismatch")
		}
		known++
	}
	if known == 0 {
		return refuse("Content-Digest has no known algorithm")
	}
	return nil
}

// refuse makes an error that wraps ErrSignature.
func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrSignature, fmt.Sprintf(format, args...))
}
