package policy

import (
	"github.com/matrix-mimi/bridge/internal/tlspl"
	"github.com/matrix-mimi/bridge/mimiside/content"
)

// ExtendedCapabilities lists code points of MLS and its extensions (draft-ietf-mimi-room-policy-03,
// ExtendedCapabilities).
type ExtendedCapabilities struct {
	Versions     []uint16
	CipherSuites []uint16
	Extensions   []uint16
	Proposals    []uint16
	Credentials  []uint16
	WireFormats  []uint16
	ComponentIDs []uint16
	SafeAADTypes []uint16
	MediaTypes   []content.MediaType
	ContentTypes []uint8
}

// PendingProposalStrategy says when members commit pending proposals (draft-ietf-mimi-room-policy-03,
// PendingProposalStrategy).
type PendingProposalStrategy uint8

const (
	PendingUnspecified     PendingProposalStrategy = 0
	PendingImmediateCommit PendingProposalStrategy = 1
	PendingRandomDelay     PendingProposalStrategy = 2
)

// PendingProposalPolicy is a strategy with its delays (draft-ietf-mimi-room-policy-03, PendingProposalPolicy).
type PendingProposalPolicy struct {
	Strategy PendingProposalStrategy
	// MinDelay and MaxDelay in milliseconds, only with PendingRandomDelay.
	MinDelay, MaxDelay uint64
}

// MinDefaultMaxTime is a range of times (draft-ietf-mimi-room-policy-03, MinDefaultMaxTime). The draft gives no
// unit; read as seconds.
type MinDefaultMaxTime struct{ Min, Default, Max uint64 }

// AppMessagePolicy bounds application messages (draft-ietf-mimi-room-policy-03, AppMessagePolicy).
type AppMessagePolicy struct {
	// EpochTolerance is how many epochs back a message may be.
	EpochTolerance uint8
	// PadToSize is a number of octets.
	PadToSize uint16
	// MaxGenerationsSkipahead is how many generations a sender's ratchet may jump.
	MaxGenerationsSkipahead uint32
}

// OperationalParameters is component 0x0024 (draft-ietf-mimi-room-policy-03, OperationalParameters). The draft's
// structure is unfinished: it is read where it can be and never required.
type OperationalParameters struct {
	// Mandatory, Default and Forbidden capabilities, in the order of the draft.
	Mandatory, Default, Forbidden ExtendedCapabilities
	// HandshakeFormats are MLS wire formats; the draft's "WireFormats x<V>" is read as one vector.
	HandshakeFormats        []uint16
	ExternalProposalAllowed bool
	ExternalCommitAllowed   bool
	PendingProposals        PendingProposalPolicy
	LeafNodeUpdateTime      MinDefaultMaxTime
	AppMessages             AppMessagePolicy
	// Lifetimes in seconds (no unit in the draft).
	MaxKeyPackageLifetime      uint64
	MaxCredentialLifetime      uint64
	ResumptionPSKLifetime      uint64
	SenderNonceKeypairLifetime MinDefaultMaxTime
	MaxKeypairs                uint32
	BufferIncomingMessageTime  MinDefaultMaxTime
	MaxBufferedMessages        uint32
}

// Marshal encodes the parameters.
func (p *OperationalParameters) Marshal() []byte {
	b := p.Forbidden.append(p.Default.append(p.Mandatory.append(nil)))
	b = appendList(b, p.HandshakeFormats, tlspl.AppendUint16)
	b = appendBool(appendBool(b, p.ExternalProposalAllowed), p.ExternalCommitAllowed)
	b = append(b, byte(p.PendingProposals.Strategy))
	if p.PendingProposals.Strategy == PendingRandomDelay {
		b = tlspl.AppendUint64(tlspl.AppendUint64(b, p.PendingProposals.MinDelay), p.PendingProposals.MaxDelay)
	}
	b = p.LeafNodeUpdateTime.append(b)
	b = tlspl.AppendUint16(append(b, p.AppMessages.EpochTolerance), p.AppMessages.PadToSize)
	b = tlspl.AppendUint32(b, p.AppMessages.MaxGenerationsSkipahead)
	b = tlspl.AppendUint64(tlspl.AppendUint64(tlspl.AppendUint64(b, p.MaxKeyPackageLifetime), p.MaxCredentialLifetime), p.ResumptionPSKLifetime)
	b = tlspl.AppendUint32(p.SenderNonceKeypairLifetime.append(b), p.MaxKeypairs)
	return tlspl.AppendUint32(p.BufferIncomingMessageTime.append(b), p.MaxBufferedMessages)
}

// UnmarshalOperationalParameters decodes the parameters.
func UnmarshalOperationalParameters(b []byte) (*OperationalParameters, error) {
	r := tlspl.NewReader(b)
	p := &OperationalParameters{
		Mandatory: readExtended(r), Default: readExtended(r), Forbidden: readExtended(r),
		HandshakeFormats:        readList(r, MaxList, readUint16),
		ExternalProposalAllowed: readBool(r), ExternalCommitAllowed: readBool(r),
		PendingProposals: PendingProposalPolicy{Strategy: readEnum(r, PendingRandomDelay)},
	}
	if p.PendingProposals.Strategy == PendingRandomDelay {
		p.PendingProposals.MinDelay, p.PendingProposals.MaxDelay = r.Uint64(), r.Uint64()
	}
	p.LeafNodeUpdateTime = readMinDefaultMax(r)
	p.AppMessages = AppMessagePolicy{r.Uint8(), r.Uint16(), r.Uint32()}
	p.MaxKeyPackageLifetime, p.MaxCredentialLifetime, p.ResumptionPSKLifetime = r.Uint64(), r.Uint64(), r.Uint64()
	p.SenderNonceKeypairLifetime, p.MaxKeypairs = readMinDefaultMax(r), r.Uint32()
	p.BufferIncomingMessageTime, p.MaxBufferedMessages = readMinDefaultMax(r), r.Uint32()
	if err := finish("mls_operational_policy", r); err != nil {
		return nil, err
	}
	return p, nil
}

func (c *ExtendedCapabilities) append(b []byte) []byte {
	for _, list := range [][]uint16{c.Versions, c.CipherSuites, c.Extensions, c.Proposals, c.Credentials, c.WireFormats, c.ComponentIDs, c.SafeAADTypes} {
		b = appendList(b, list, tlspl.AppendUint16)
	}
	b = content.AppendMediaTypes(b, c.MediaTypes)
	return tlspl.AppendOpaque(b, c.ContentTypes)
}

func readExtended(r *tlspl.Reader) ExtendedCapabilities {
	var c ExtendedCapabilities
	for _, list := range []*[]uint16{&c.Versions, &c.CipherSuites, &c.Extensions, &c.Proposals, &c.Credentials, &c.WireFormats, &c.ComponentIDs, &c.SafeAADTypes} {
		*list = readList(r, MaxList, readUint16)
	}
	c.MediaTypes = content.ReadMediaTypes(r)
	c.ContentTypes = append(c.ContentTypes, r.Opaque(MaxList)...)
	return c
}

func (t MinDefaultMaxTime) append(b []byte) []byte {
	return tlspl.AppendUint64(tlspl.AppendUint64(tlspl.AppendUint64(b, t.Min), t.Default), t.Max)
}

func readMinDefaultMax(r *tlspl.Reader) MinDefaultMaxTime {
	return MinDefaultMaxTime{r.Uint64(), r.Uint64(), r.Uint64()}
}
