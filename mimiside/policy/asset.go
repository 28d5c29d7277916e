package policy

import (
	"math"
	"slices"
	"strings"

	"github.com/matrix-mimi/bridge/internal/tlspl"
	"github.com/matrix-mimi/bridge/mimiside/content"
)

// AssetUploadLocation says where files go (draft-ietf-mimi-room-policy-03, AssetUploadLocation).
type AssetUploadLocation uint8

const (
	UploadUnspecified   AssetUploadLocation = 0
	UploadLocalProvider AssetUploadLocation = 1
	UploadHub           AssetUploadLocation = 2
)

// DownloadPrivacyType is a way to fetch files (draft-ietf-mimi-room-policy-03, DownloadPrivacyType).
type DownloadPrivacyType uint8

const (
	DownloadDirect   DownloadPrivacyType = 0
	DownloadHubProxy DownloadPrivacyType = 1
	DownloadOHTTP    DownloadPrivacyType = 2
)

// ProviderAssetUploadDomains are the hosts where one provider's files are (draft-ietf-mimi-room-policy-03,
// ProviderAssetUploadDomains).
type ProviderAssetUploadDomains struct {
	Provider     string
	Destinations []string
}

// DownloadPrivacy says how files may be fetched (draft-ietf-mimi-room-policy-03, DownloadPrivacy).
type DownloadPrivacy struct {
	Allowed   []DownloadPrivacyType
	Forbidden []DownloadPrivacyType
	Default   DownloadPrivacyType
}

// AssetPolicy is component 0x002C (draft-ietf-mimi-room-policy-03, AssetPolicy).
type AssetPolicy struct {
	Location        AssetUploadLocation
	UploadDomains   []ProviderAssetUploadDomains
	DownloadPrivacy DownloadPrivacy
	// Largest accepted sizes in octets; 0 allows none.
	MaxImage, MaxAudio, MaxVideo, MaxAttachment uint64
	ForbiddenTypes                              []content.MediaType
	// PermittedTypes, when not nil, are the only ones allowed.
	PermittedTypes []content.MediaType
}

// defaultAssetPolicy is in force in a room without the component.
func defaultAssetPolicy() *AssetPolicy {
	return &AssetPolicy{
		DownloadPrivacy: DownloadPrivacy{Allowed: []DownloadPrivacyType{DownloadDirect, DownloadHubProxy, DownloadOHTTP}, Default: DownloadHubProxy},
		MaxImage:        math.MaxUint64, MaxAudio: math.MaxUint64, MaxVideo: math.MaxUint64, MaxAttachment: math.MaxUint64,
	}
}

// Marshal encodes the policy. The last field, "optional<MediaType> permitted_media_types<V>" in the draft, is
// encoded as its prose has it: a presence octet, then a list.
func (p *AssetPolicy) Marshal() []byte {
	b := []byte{byte(p.Location)}
	b = appendList(b, p.UploadDomains, func(b []byte, d ProviderAssetUploadDomains) []byte {
		return appendList(tlspl.AppendString(b, d.Provider), d.Destinations, tlspl.AppendString)
	})
	oneWay := func(b []byte, t DownloadPrivacyType) []byte { return append(b, byte(t)) }
	b = appendList(appendList(b, p.DownloadPrivacy.Allowed, oneWay), p.DownloadPrivacy.Forbidden, oneWay)
	b = append(b, byte(p.DownloadPrivacy.Default))
	for _, n := range []uint64{p.MaxImage, p.MaxAudio, p.MaxVideo, p.MaxAttachment} {
		b = tlspl.AppendUint64(b, n)
	}
	b = content.AppendMediaTypes(b, p.ForbiddenTypes)
	return tlspl.AppendOptional(b, p.PermittedTypes != nil, func(b []byte) []byte { return content.AppendMediaTypes(b, p.PermittedTypes) })
}

// UnmarshalAssetPolicy decodes the policy.
func UnmarshalAssetPolicy(b []byte) (*AssetPolicy, error) {
	r := tlspl.NewReader(b)
	domain := func(r *tlspl.Reader) string { return strings.ToLower(readURI(r)) }
	way := func(r *tlspl.Reader) DownloadPrivacyType { return readEnum(r, DownloadOHTTP) }
	p := &AssetPolicy{
		Location: readEnum(r, UploadHub),
		UploadDomains: readList(r, MaxList, func(r *tlspl.Reader) ProviderAssetUploadDomains {
			return ProviderAssetUploadDomains{domain(r), readList(r, MaxList, domain)}
		}),
		DownloadPrivacy: DownloadPrivacy{readList(r, MaxList, way), readList(r, MaxList, way), way(r)},
		MaxImage:        r.Uint64(), MaxAudio: r.Uint64(), MaxVideo: r.Uint64(), MaxAttachment: r.Uint64(),
		ForbiddenTypes: content.ReadMediaTypes(r),
	}
	if r.Optional() {
		if p.PermittedTypes = content.ReadMediaTypes(r); p.PermittedTypes == nil {
			p.PermittedTypes = []content.MediaType{}
		}
	}
	return p, finish("asset_policy", r)
}

// MayUploadTo tells whether a file of the sender's provider may be on host, both domain names in lower case
// (draft-ietf-mimi-room-policy-03, Asset policies): the provider's own hosts or, with UploadHub, the hub's.
func (p *AssetPolicy) MayUploadTo(provider, hub, host string) bool {
	switch p.Location {
	case UploadLocalProvider:
	case UploadHub:
		provider = hub
	default:
		return true
	}
	return slices.ContainsFunc(p.UploadDomains, func(d ProviderAssetUploadDomains) bool {
		return d.Provider == provider && slices.Contains(d.Destinations, host)
	})
}

// MayDownload tells whether files may be fetched that way.
func (p *AssetPolicy) MayDownload(way DownloadPrivacyType) bool {
	return slices.Contains(p.DownloadPrivacy.Allowed, way) && !slices.Contains(p.DownloadPrivacy.Forbidden, way)
}

// Accepts tells whether a file of a media type, size in octets and disposition is within the policy.
func (p *AssetPolicy) Accepts(t content.MediaType, size uint64, disposition content.Disposition) bool {
	within := func(list []content.MediaType) bool { return slices.ContainsFunc(list, t.Matches) }
	if within(p.ForbiddenTypes) || p.PermittedTypes != nil && !within(p.PermittedTypes) {
		return false
	}
	return size <= p.MaxSize(t, disposition)
}

// MaxSize is the largest size in octets of a file of a media type and disposition; 0 allows none.
func (p *AssetPolicy) MaxSize(t content.MediaType, disposition content.Disposition) uint64 {
	switch kind, _, _ := strings.Cut(t.Type, "/"); {
	case disposition == content.Attachment:
		return p.MaxAttachment
	case kind == "image":
		return p.MaxImage
	case kind == "audio":
		return p.MaxAudio
	case kind == "video":
		return p.MaxVideo
	default:
		return p.MaxAttachment
	}
}
