package activitypub

import (
	"encoding/base64"
	"encoding/json"
	"strconv"

	"github.com/matrix-mimi/bridge/mimiside/content"
)

// Names of the extension for encrypted files that are not in the message: a Document (Image, Audio, Video) with url and these. The octets at url
// are sealed as an external part of MIMI content says (draft-ietf-mimi-content, "External parts").
const (
	propExternal = "mimi:external"
	propSize     = "size"
)

// readExternal reads the extension; nil when it is not there or makes no sense.
func readExternal(o Object, i *Item) *content.ExternalPart {
	x, ok := o[propExternal].(Object)
	if !ok {
		return nil
	}
	p := &content.ExternalPart{ContentType: i.MediaType, URL: i.URL, Filename: i.Name, Description: i.Summary,
		EncAlg: content.AEAD(number(x["encAlg"])), HashAlg: content.HashAlgorithm(number(x["hashAlg"])), Size: number(x[propSize]), Expires: uint32(number(x["expires"]))}
	for name, into := range map[string]*[]byte{"key": &p.Key, "nonce": &p.Nonce, "aad": &p.AAD, "hash": &p.ContentHash} {
		text := x.Str(name)
		if text == "" {
			continue
		}
		b, err := DecodeBase64(text)
		if err != nil || len(b) > 256 {
			return nil
		}
		*into = b
	}
	if p.EncAlg == content.NoAEAD || len(p.Key) == 0 {
		return nil
	}
	return p
}

// writeExternal writes the extension.
func writeExternal(o Object, p *content.ExternalPart) {
	b64 := base64.StdEncoding.EncodeToString
	o[propExternal] = Object{"encAlg": uint64(p.EncAlg), "key": b64(p.Key), "nonce": b64(p.Nonce), "aad": b64(p.AAD),
		"hashAlg": uint64(p.HashAlg), "hash": b64(p.ContentHash), propSize: p.Size, "expires": uint64(p.Expires)}
}

// number is a whole number that is not negative, 0 for everything else.
func number(v any) uint64 {
	switch v := v.(type) {
	case json.Number:
		n, _ := strconv.ParseUint(v.String(), 10, 53)
		return n
	case float64:
		if v >= 0 && v < 1<<53 {
			return uint64(v)
		}
	}
	return 0
}
