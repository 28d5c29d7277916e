package ca

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestIssue(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for _, keyType := range []KeyType{P256, Ed25519} {
		c, err := New("test", keyType, now)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := c.Issue(now, Options{}, "a.example")
		if err != nil {
			t.Fatal(err)
		}
		for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
			if _, err := cert.Leaf.Verify(x509.VerifyOptions{DNSName: "a.example", Roots: c.Pool(), CurrentTime: now,
				KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
				t.Errorf("key type %d, usage %d: %v", keyType, usage, err)
			}
		}
		if _, err := cert.Leaf.Verify(x509.VerifyOptions{DNSName: "b.example", Roots: c.Pool(), CurrentTime: now}); err == nil {
			t.Error("valid for another domain")
		}
	}
}

func TestFiles(t *testing.T) {
	now, dir := time.Now(), t.TempDir()
	for _, keyType := range []KeyType{P256, Ed25519} {
		c, err := New("test", keyType, now)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := c.Issue(now, Options{}, "a.example")
		if err != nil {
			t.Fatal(err)
		}
		certFile, keyFile := filepath.Join(dir, "x", "a.pem"), filepath.Join(dir, "x", "a.key")
		if err := Write(cert, certFile, keyFile); err != nil {
			t.Fatal(err)
		}
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: "a.example", Roots: c.Pool()}); err != nil {
			t.Error(err)
		}
		if info, err := os.Stat(keyFile); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("key file mode %v, %v", info.Mode(), err)
		}
	}
}
