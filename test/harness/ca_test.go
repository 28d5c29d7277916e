package harness

import (
	"crypto/x509"
	"testing"
	"time"
)

func TestIssuedCertificatesVerifyForBothEndsUnderTheirOwnCAOnly(t *testing.T) {
	ca, err := NewCA("one")
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewCA("two")
	if err != nil {
		t.Fatal(err)
	}
	c, err := ca.Issue(Issue{Names: []string{"one.example"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		opts := x509.VerifyOptions{DNSName: "one.example", Roots: ca.Pool(), KeyUsages: []x509.ExtKeyUsage{usage}}
		if _, err := c.Leaf.Verify(opts); err != nil {
			t.Error(err)
		}
		opts.Roots = other.Pool()
		if _, err := c.Leaf.Verify(opts); err == nil {
			t.Error("verifies under another CA")
		}
	}
	old, err := ca.Issue(Issue{Names: []string{"one.example"}, NotAfter: time.Now().Add(-time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := old.Leaf.Verify(x509.VerifyOptions{DNSName: "one.example", Roots: ca.Pool()}); err == nil {
		t.Error("an expired certificate verifies")
	}
}
