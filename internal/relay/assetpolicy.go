package relay

import (
	"slices"

	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// assetPolicy says for a room that we lead where its files may be and how they are fetched
// (draft-ietf-mimi-room-policy-03, Asset policies; docs/mapping.md §6). Without listed hosts everybody's may be anywhere: hosts of
// providers that do not publish them are not known. OHTTP is not among the ways: this bridge has no gateway.
func (s *step) assetPolicy(list policy.ParticipantList) policy.AssetPolicy {
	m := s.cfg.Media
	most := uint64(m.Max)
	p := policy.AssetPolicy{MaxImage: most, MaxAudio: most, MaxVideo: most, MaxAttachment: most}
	p.DownloadPrivacy = policy.DownloadPrivacy{Default: policy.DownloadHubProxy,
		Allowed: []policy.DownloadPrivacyType{policy.DownloadDirect, policy.DownloadHubProxy}, Forbidden: []policy.DownloadPrivacyType{policy.DownloadOHTTP}}
	if m.OnlyHub {
		p.DownloadPrivacy.Allowed = p.DownloadPrivacy.Allowed[1:]
		p.DownloadPrivacy.Forbidden = append([]policy.DownloadPrivacyType{policy.DownloadDirect}, p.DownloadPrivacy.Forbidden...)
	}
	providers := []string{s.Naming.Domain}
	if m.Listed {
		p.Location = policy.UploadLocalProvider
		for _, u := range list {
			if d := wire.IdentifierURI(u.User).Domain(); d != "" && u.Role > policy.RoleBanned {
				providers = append(providers, d)
			}
		}
		slices.Sort(providers)
		providers = slices.Compact(providers)
	}
	for _, d := range providers[:min(len(providers), policy.MaxList)] {
		p.UploadDomains = append(p.UploadDomains, policy.ProviderAssetUploadDomains{Provider: d, Destinations: s.hostsOf(d)})
	}
	return p
}

// hostsOf are the hosts at which a provider's files are: those that the operator names, else its own name.
func (s *step) hostsOf(provider string) []string {
	if provider == s.Naming.Domain {
		if s.cfg.Media.Host == "" {
			return []string{provider}
		}
		return []string{s.cfg.Media.Host}
	}
	if list := s.cfg.Media.Hosts[provider]; len(list) > 0 {
		return list
	}
	return []string{provider}
}

// followProviders brings the asset policy in line with who takes part, where it lists the hosts of providers.
func (s *step) followProviders(was *policy.State) {
	if !s.cfg.Media.Listed || was == nil || s.room.policy == nil {
		return
	}
	domains := func(list policy.ParticipantList) []string {
		var out []string
		for _, u := range list {
			if u.Role > policy.RoleBanned {
				out = append(out, wire.IdentifierURI(u.User).Domain())
			}
		}
		slices.Sort(out)
		return slices.Compact(out)
	}
	if !slices.Equal(domains(was.Participants), domains(s.room.policy.Participants)) {
		s.followConditions("", "")
	}
}
