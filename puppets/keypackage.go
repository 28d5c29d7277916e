package puppets

import (
	"fmt"
	"io"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// Device is the last segment of the client URI of a bridged Matrix user. Matrix devices are not
// exported: a user has one MLS client, which is the bridge's.
const Device = "bridge"

// Lifetimes. A leaf or KeyPackage is valid for Lifetime from the moment it is made, and for Skew before, so
// that peers whose clocks are behind accept it. RFC 9420 §7.2 leaves the figures to the application.
const (
	Lifetime = 84 * 24 * time.Hour
	Skew     = time.Hour
)

// MediaTypes are what a bridged client can be sent (draft-ietf-mimi-content-08, "Support for Specific Media Types"):
// the MIMI content format first, then the bodies in it.
var MediaTypes = mls.MediaTypeList{
	{Type: "application/mimi-content"},
	{Type: "text/plain", Parameters: []mls.MediaTypeParameter{{Name: "charset", Value: "utf-8"}}},
	{Type: "text/markdown", Parameters: []mls.MediaTypeParameter{{Name: "variant", Value: "GFM-MIMI"}}},
	{Type: "text/markdown", Parameters: []mls.MediaTypeParameter{{Name: "variant", Value: "CommonMark"}}},
	{Type: "text/html"},
	{Type: "image/jpeg"},
	{Type: "image/png"},
	{Type: "application/mimi-message-status"},
}

// Components are the application components that bridged clients understand
// (draft-ietf-mls-extensions-10 §3.1, draft-ietf-mimi-protocol-06 §10, draft-ietf-mimi-room-policy-03 §8).
func Components() mls.ComponentsList {
	list := mls.ComponentsList{mls.ComponentAppComponents, mls.ComponentSafeAAD, mls.ComponentContentMediaTypes,
		mls.ComponentLastResortKeyPackage}
	for c := mls.ComponentFrankAAD; c <= mls.ComponentMessageExpirationPolicy; c++ {
		list = append(list, c)
	}
	return list
}

// Capabilities are those of every bridged client (RFC 9420 §7.2).
func Capabilities() mls.Capabilities {
	return mls.Capabilities{
		Versions:    []mls.ProtocolVersion{mls.VersionMLS10},
		Suites:      mls.Suites(),
		Extensions:  []mls.ExtensionType{mls.ExtensionAppDataDictionary, mls.ExtensionSupportedWireFormats, mls.ExtensionRequiredWireFormats},
		Proposals:   []mls.ProposalType{mls.ProposalAppDataUpdate, mls.ProposalAppEphemeral, mls.ProposalSelfRemove},
		Credentials: []mls.CredentialType{mls.CredentialBasic, mls.CredentialX509},
	}
}

// LeafExtensions are those of every bridged client: what it understands of components, SafeAAD items and media
// types (draft-ietf-mls-extensions-10 §3).
func LeafExtensions() mls.Extensions {
	dict := mls.AppDataDictionary{}.
		Set(mls.ComponentAppComponents, Components().Marshal()).
		Set(mls.ComponentSafeAAD, mls.ComponentsList{mls.ComponentFrankAAD}.Marshal()).
		Set(mls.ComponentContentMediaTypes, MediaTypes.Marshal())
	return mls.Extensions{dict.Extension()}
}

// Client is the MLS client of one bridged Matrix user.
type Client struct {
	// UserURI and ClientURI name the user and the client: mimi://B/u/alice, mimi://B/d/alice/bridge.
	UserURI, ClientURI string
	// Credential holds the client's identity; [BasicCredential] or one that the provider issued.
	Credential mls.Credential
	// Key signs for the client. It is bound to one suite.
	Key *mls.SignatureKey
}

// BasicCredential is the credential of a bridged client where the provider issues no certificates: the client URI.
func BasicCredential(clientURI string) mls.Credential { return mls.BasicCredential([]byte(clientURI)) }

// LifetimeAt is the lifetime of what is made now.
func LifetimeAt(now time.Time) mls.Lifetime {
	return mls.Lifetime{
		NotBefore: uint64(now.Add(-Skew).Unix()),
		NotAfter:  uint64(now.Add(Lifetime).Unix()),
	}
}

// KeyPackage is one made for a client, both sides of it.
type KeyPackage struct {
	Public  *mls.KeyPackage
	Private *mls.KeyPackagePrivate
}

// NewKeyPackage makes a KeyPackage of the client with fresh keys. A last resort one says so
// (draft-ietf-mls-extensions-10 §4.4) and may be handed out more than once.
func NewKeyPackage(rand io.Reader, now time.Time, c Client, lastResort bool) (KeyPackage, error) {
	public, private, err := mls.NewKeyPackage(rand, mls.KeyPackageParams{
		Suite:          c.Key.Suite(),
		Credential:     c.Credential,
		SignatureKey:   c.Key,
		Capabilities:   Capabilities(),
		Lifetime:       LifetimeAt(now),
		LeafExtensions: LeafExtensions(),
		LastResort:     lastResort,
	})
	if err != nil {
		return KeyPackage{}, fmt.Errorf("make a KeyPackage of %s: %w", c.ClientURI, err)
	}
	return KeyPackage{Public: public, Private: private}, nil
}
