package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/matrix-mimi/bridge/internal/config"
	"github.com/matrix-mimi/bridge/internal/sealed"
)

// checkFiles looks at the files that the settings name and prints one line
// each: of one that is not good with the line of its setting and a remedy, and
// a note on what may work but seldom does. It changes nothing. The error says
// how many files are not good.
func checkFiles(w io.Writer, cfg *config.Config) error {
	bad := 0
	report := func(what, key string, err error, remedy string) {
		if err != nil {
			bad++
			fmt.Fprintf(w, "bad   %s: %s\n", what, cfg.Problem(key, err.Error(), remedy))
			return
		}
		fmt.Fprintf(w, "good  %s\n", what)
	}
	fmt.Fprintf(w, "good  %s\n", cfg.File())
	if cfg.MIMI.Domain == cfg.Homeserver.Domain {
		fmt.Fprintf(w, "note  mimi.domain is the homeserver's domain: port 443 of %s must then reach the bridge, which does not serve /.well-known/matrix;"+
			" a name of its own, such as mimi.%s, is easier\n", cfg.MIMI.Domain, cfg.Homeserver.Domain)
	}
	_, err := loadRegistration(cfg)
	report("registration "+string(cfg.Appservice.RegistrationFile), "appservice.registration_file", err, "")
	report("certificate "+string(cfg.MIMI.TLS.CertificateFile), "mimi.tls.certificate_file", checkCertificate(cfg, time.Now()), "")
	if lacksChain(cfg) {
		fmt.Fprintf(w, "note  certificate %s: it comes without that of its authority; name the file with the whole chain, such as fullchain.pem\n", cfg.MIMI.TLS.CertificateFile)
	}
	for _, ca := range caFiles(cfg) {
		report("certificate authorities "+string(ca.file), ca.key, checkRoots(ca.file), "put the authorities' certificates there, in PEM form")
	}
	what, remedy := "sealing key "+string(cfg.Database.SealingKeyFile), "bring the file back that the database was made with"
	_, err = sealed.LoadKeyFile(string(cfg.Database.SealingKeyFile))
	switch {
	case errors.Is(err, os.ErrNotExist) && freshSQLite(cfg):
		what, err = what+" (will be made with the database)", nil
	case errors.Is(err, os.ErrNotExist):
		remedy = "make it with: bridge keys make, or bring the file back that the database was made with"
	}
	report(what, "database.sealing_key_file", err, remedy)
	if cfg.Database.PasswordFile != "" {
		_, err := config.ReadSecret(cfg.Database.PasswordFile)
		report("database password "+string(cfg.Database.PasswordFile), "database.password_file", err, "write the password into it, for the bridge alone to read")
	}
	if bad > 0 {
		return fmt.Errorf("%d of the files that the settings name are not good", bad)
	}
	return nil
}

// checkCertificate checks that the provider's certificate is for its domain and
// in its time.
func checkCertificate(cfg *config.Config, now time.Time) error {
	t := cfg.MIMI.TLS
	pair, err := tls.LoadX509KeyPair(string(t.CertificateFile), string(t.KeyFile))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%w; get a certificate for %s and name its files in mimi.tls", err, cfg.MIMI.Domain)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w; let the bridge's user read it, or give the bridge a copy", err)
	case err != nil:
		return err
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return err
	}
	if err := leaf.VerifyHostname(cfg.MIMI.Domain); err != nil {
		return fmt.Errorf("%w; get a certificate with %s as DNS name", err, cfg.MIMI.Domain)
	}
	if now.After(leaf.NotAfter) || now.Before(leaf.NotBefore) {
		return fmt.Errorf("it is only good from %s to %s; get a new one", leaf.NotBefore.Format(time.DateOnly), leaf.NotAfter.Format(time.DateOnly))
	}
	return nil
}

// lacksChain tells whether another signed the provider's certificate, and the
// file does not say who: others then cannot follow it to an authority they know.
func lacksChain(cfg *config.Config) bool {
	t := cfg.MIMI.TLS
	pair, err := tls.LoadX509KeyPair(string(t.CertificateFile), string(t.KeyFile))
	if err != nil || len(pair.Certificate) > 1 {
		return false
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	return err == nil && !bytes.Equal(leaf.RawIssuer, leaf.RawSubject)
}

// caFile is a file with certificate authorities and the setting that names it.
type caFile struct {
	key  string
	file config.Path
}

// caFiles lists the files with certificate authorities.
func caFiles(cfg *config.Config) []caFile {
	var out []caFile
	add := func(key string, file config.Path) {
		if file != "" {
			out = append(out, caFile{key, file})
		}
	}
	add("mimi.peer_defaults.ca_file", cfg.MIMI.PeerDefaults.CAFile)
	for _, domain := range slices.Sorted(maps.Keys(cfg.MIMI.Peers)) {
		peer := cfg.MIMI.Peers[domain]
		add("mimi.peers."+domain+".ca_file", peer.CAFile)
		add("mimi.peers."+domain+".credential_ca_file", peer.CredentialCAFile)
	}
	return out
}

func checkRoots(path config.Path) error {
	data, err := os.ReadFile(string(path))
	if err != nil {
		return err
	}
	if !x509.NewCertPool().AppendCertsFromPEM(data) {
		return errors.New("it holds no certificate in PEM form")
	}
	return nil
}
