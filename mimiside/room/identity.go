package room

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// ErrIdentity is the reason why a credential names nobody that MIMI knows. It is permanent.
var ErrIdentity = errors.New("credential names no MIMI user")

// Identity is who a leaf is.
type Identity struct {
	// User is the participant that the leaf belongs to.
	User wire.IdentifierURI
	// Client is the client's own URI, or "" where the credential names the user only.
	Client wire.IdentifierURI
}

// Domain is the provider of the user, in lower case.
func (i Identity) Domain() string { return i.User.Domain() }

// IdentityOf reads a credential (draft-ietf-mimi-protocol-06 §4.2 leaves its type open). A basic credential holds a client
// URI, from which the user follows, or a user URI. An X.509 credential names both in the subject alternative names of
// its first certificate; the chain is the matter of the CredentialValidator.
func IdentityOf(cred *mls.Credential) (Identity, error) {
	switch cred.Type {
	case mls.CredentialBasic:
		return identityOfURIs([]string{string(cred.Identity)})
	case mls.CredentialX509:
		if len(cred.Certificates) == 0 {
			return Identity{}, fmt.Errorf("%w: no certificate", ErrIdentity)
		}
		cert, err := x509.ParseCertificate(cred.Certificates[0])
		if err != nil {
			return Identity{}, fmt.Errorf("%w: the certificate cannot be read", ErrIdentity)
		}
		var uris []string
		for _, u := range cert.URIs {
			if u.Scheme == "mimi" {
				uris = append(uris, u.String())
			}
		}
		return identityOfURIs(uris)
	default:
		return Identity{}, fmt.Errorf("%w: credential type %d", ErrIdentity, cred.Type)
	}
}

func identityOfURIs(uris []string) (Identity, error) {
	var id Identity
	for _, s := range uris {
		u, err := wire.ParseURI(s)
		if err != nil {
			return Identity{}, fmt.Errorf("%w: %w", ErrIdentity, err)
		}
		switch u.Kind() {
		case wire.KindUser, wire.KindPseudonym:
			if id.User != "" && id.User != u.Identifier() {
				return Identity{}, fmt.Errorf("%w: two users", ErrIdentity)
			}
			id.User = u.Identifier()
		case wire.KindClient:
			if id.Client != "" {
				return Identity{}, fmt.Errorf("%w: two clients", ErrIdentity)
			}
			id.Client = u.Identifier()
		}
	}
	if id.User == "" && id.Client != "" {
		u, _ := id.Client.Parse()
		user, ok := u.User()
		if !ok {
			return Identity{}, fmt.Errorf("%w: the client URI has no user", ErrIdentity)
		}
		id.User = user
	}
	switch {
	case id.User == "":
		return Identity{}, fmt.Errorf("%w: no user URI", ErrIdentity)
	case id.Client != "" && id.Client.Domain() != id.User.Domain():
		return Identity{}, fmt.Errorf("%w: user and client are of two providers", ErrIdentity)
	}
	return id, nil
}

// ProviderOf reads the credential of an external sender or a franking agent: the provider's domain in lower case
// (draft-ietf-mimi-protocol-06 §4.2). A basic credential holds mimi://domain, an X.509 one the domain as dNSName.
func ProviderOf(cred *mls.Credential) (domain string, err error) {
	switch cred.Type {
	case mls.CredentialBasic:
		u, err := wire.ParseURI(string(cred.Identity))
		if err != nil || u.Kind() != wire.KindProvider {
			return "", fmt.Errorf("%w: no provider", ErrIdentity)
		}
		return u.Domain(), nil
	case mls.CredentialX509:
		if len(cred.Certificates) == 0 {
			return "", fmt.Errorf("%w: no certificate", ErrIdentity)
		}
		cert, err := x509.ParseCertificate(cred.Certificates[0])
		if err != nil || len(cert.DNSNames) == 0 {
			return "", fmt.Errorf("%w: the certificate names no domain", ErrIdentity)
		}
		return wire.LowerDomain(cert.DNSNames[0]), nil
	}
	return "", fmt.Errorf("%w: credential type %d", ErrIdentity, cred.Type)
}

// IsProvider tells whether the credential of an external sender or a franking agent is one of the provider with the domain, which is
// in lower case: a certificate may name its other hosts beside it. Wildcards do not count.
func IsProvider(cred *mls.Credential, domain string) bool {
	if cred.Type != mls.CredentialX509 {
		d, err := ProviderOf(cred)
		return err == nil && d == domain
	}
	if len(cred.Certificates) == 0 {
		return false
	}
	cert, err := x509.ParseCertificate(cred.Certificates[0])
	return err == nil && slices.ContainsFunc(cert.DNSNames, func(name string) bool { return wire.LowerDomain(name) == domain })
}
