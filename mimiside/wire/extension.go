package wire

import (
	"encoding/json"
	"strings"
)

// Verbs of the extensions: endpoints that bridges of this kind offer one another beside the draft's (docs/extensions.md).
const (
	VerbKeyMaterials   Verb = "keyMaterials"
	VerbProfiles       Verb = "profiles"
	VerbStatus         Verb = "status"
	VerbLinkStatus     Verb = "linkStatus"
	VerbKnock          Verb = "knock"
	VerbKnockOutcome   Verb = "knockOutcome"
	VerbSubmitMessages Verb = "submitMessages"
	VerbSubmitVerdicts Verb = "submitVerdicts"
	VerbNotifyRooms    Verb = "notifyRooms"
	VerbRoomDestroyed  Verb = "roomDestroyed"
	VerbUserDeleted    Verb = "userDeleted"
)

// extensions are the verbs of the extensions in the order of docs/extensions.md, with the variables of our templates.
var extensions = []struct {
	verb     Verb
	variable string
}{
	{VerbKeyMaterials, "targetDomain"},
	{VerbLinkStatus, "roomId"},
	{VerbProfiles, "targetDomain"},
	{VerbStatus, "roomId"},
	{VerbKnock, "roomId"},
	{VerbKnockOutcome, "requesterDomain"},
	{VerbSubmitMessages, "domain"},
	{VerbSubmitVerdicts, "domain"},
	{VerbNotifyRooms, "domain"},
	{VerbRoomDestroyed, "roomId"},
	{VerbUserDeleted, "domain"},
}

// ExtensionVerbs returns the verbs of all extensions that have an endpoint.
func ExtensionVerbs() []Verb {
	verbs := make([]Verb, len(extensions))
	for i, e := range extensions {
		verbs[i] = e.verb
	}
	return verbs
}

// Extension tells whether the verb is one of an extension, not of the draft.
func (v Verb) Extension() bool {
	for _, e := range extensions {
		if e.verb == v {
			return true
		}
	}
	return false
}

// ExtensionPath is what stands between the base of our endpoints and the name of an extension's.
const ExtensionPath = "/bridge/"

// BridgeDirectory is the member "mimi-bridge" of a directory: what two bridges of this kind offer each other beyond the
// draft (docs/extensions.md). Others ignore it.
type BridgeDirectory struct {
	Version      int               `json:"version"`                // of this object: 1
	Software     string            `json:"software,omitempty"`     // name and version
	Draft        string            `json:"draft,omitempty"`        // revision of the protocol: draft-ietf-mimi-protocol-06
	Suites       []uint16          `json:"ciphersuites,omitempty"` // MLS ciphersuites of its users
	Features     []string          `json:"features,omitempty"`     // names of the extensions that have no endpoint
	Endpoints    map[Verb]Template `json:"endpoints,omitempty"`    // of the others; what is not known is left out when read
	AssetDomains []string          `json:"assetDomains,omitempty"` // hosts of its users' files
	// Authorities are the certificates (DER) of those who certify its users (docs/credentials.md).
	Authorities [][]byte `json:"credentialAuthorities,omitempty"`
	Contact     string   `json:"contact,omitempty"` // URI of the operator
}

// Bounds of the object; what is beyond is left out.
const (
	maxBridgeList = 64      // values of a list
	maxBridgeText = 256     // bytes of a text
	maxAuthority  = 8 << 10 // bytes of a certificate
)

// Has tells whether an extension is offered: by its endpoint, or among the features where it has none.
func (b *BridgeDirectory) Has(name string) bool {
	if b == nil {
		return false
	}
	if _, ok := b.Endpoints[Verb(name)]; ok {
		return true
	}
	for _, f := range b.Features {
		if f == name {
			return true
		}
	}
	return false
}

// Endpoint returns the template of an extension's endpoint.
func (b *BridgeDirectory) Endpoint(v Verb) (t Template, ok bool) {
	if b == nil {
		return Template{}, false
	}
	t, ok = b.Endpoints[v]
	return t, ok
}

// Offers tells whether a directory, which may be nil, offers an extension.
func (d *Directory) Offers(name string) bool { return d != nil && d.Bridge.Has(name) }

// setEndpoints names all endpoints of the extensions below base.
func (b *BridgeDirectory) setEndpoints(base string) error {
	b.Endpoints = map[Verb]Template{}
	for _, e := range extensions {
		t, err := ParseTemplate(base + ExtensionPath + string(e.verb) + "/{" + e.variable + "}")
		if err != nil {
			return err
		}
		b.Endpoints[e.verb] = t
	}
	return nil
}

// parseBridgeDirectory reads the object; nil when there is none that can be used. A part that is not as it should be is left
// out and does not spoil the rest.
func parseBridgeDirectory(raw json.RawMessage) *BridgeDirectory {
	var members map[string]json.RawMessage
	if len(raw) == 0 || json.Unmarshal(raw, &members) != nil {
		return nil
	}
	var b BridgeDirectory
	if json.Unmarshal(members["version"], &b.Version) != nil || b.Version < 1 {
		return nil
	}
	b.Software, b.Draft, b.Contact = bridgeText(members["software"]), bridgeText(members["draft"]), bridgeText(members["contact"])
	b.Suites = bridgeList[uint16](members["ciphersuites"], func(uint16) bool { return true })
	b.Features = bridgeList[string](members["features"], func(f string) bool { return f != "" && printable(f) })
	b.Authorities = bridgeList[[]byte](members["credentialAuthorities"], func(der []byte) bool { return len(der) > 0 && len(der) <= maxAuthority })
	b.AssetDomains = bridgeList[string](members["assetDomains"], ValidDomain)
	var endpoints map[Verb]json.RawMessage
	_ = json.Unmarshal(members["endpoints"], &endpoints)
	for _, e := range extensions {
		var t Template
		if json.Unmarshal(endpoints[e.verb], &t) != nil || t.Zero() {
			continue
		}
		if b.Endpoints == nil {
			b.Endpoints = map[Verb]Template{}
		}
		b.Endpoints[e.verb] = t
	}
	return &b
}

func bridgeText(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil || !printable(s) {
		return ""
	}
	return s
}

// printable tells whether a text is of printable ASCII and not too long.
func printable(s string) bool {
	return len(s) <= maxBridgeText && strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}

func bridgeList[T any](raw json.RawMessage, good func(T) bool) (out []T) {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		return nil
	}
	for _, x := range list {
		var v T
		if json.Unmarshal(x, &v) == nil && good(v) && len(out) < maxBridgeList {
			out = append(out, v)
		}
	}
	return out
}
