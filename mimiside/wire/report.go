package wire

import (
	"unicode/utf8"

	"github.com/matrix-mimi/bridge/internal/tlspl"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// AbuseType is why a message is reported. The draft defines 0 alone; others are kept.
type AbuseType uint8

// AbuseReserved is the one value of AbuseType that the draft has.
const AbuseReserved AbuseType = 0

// AbusiveMessage is a message with what its hub needs to recognise it:
//
//	struct { opaque message_content<V>; Frank frank; uint64 accepted_timestamp; } AbusiveMessage;
type AbusiveMessage struct {
	// Content is the whole application_data, which the franking tag is over. The draft's words allow the content
	// without its ApplicationFraming as well; a hub tries both.
	Content           []byte
	Frank             Frank
	AcceptedTimestamp uint64 // milliseconds since 1970
}

func (m *AbusiveMessage) append(b []byte) []byte {
	b = m.Frank.append(tlspl.AppendOpaque(b, m.Content))
	return tlspl.AppendUint64(b, m.AcceptedTimestamp)
}

func readAbusiveMessage(r *tlspl.Reader) AbusiveMessage {
	return AbusiveMessage{Content: r.Opaque(-1), Frank: readFrank(r), AcceptedTimestamp: r.Uint64()}
}

// Marshal returns the encoding, to be kept until the message is reported.
func (m *AbusiveMessage) Marshal() []byte { return m.append(nil) }

// UnmarshalAbusiveMessage decodes what Marshal made.
func UnmarshalAbusiveMessage(b []byte) (*AbusiveMessage, error) {
	r := tlspl.NewReader(b)
	m := readAbusiveMessage(r)
	if err := finish("AbusiveMessage", r); err != nil {
		return nil, err
	}
	return &m, nil
}

// AbuseReport tells the hub of a room about a user (draft-ietf-mimi-protocol-06 §5.9):
//
//	struct {
//	  IdentifierUri reportingUser;
//	  IdentifierUri allegedAbuserUri;
//	  AbuseType reasonCode;
//	  opaque note<V>;
//	  AbusiveMessage messages<V>;
//	  AppDataDictionary abuse_extensions;
//	} AbuseReport;
type AbuseReport struct {
	ReportingUser    IdentifierURI // empty: anonymous
	AllegedAbuserURI IdentifierURI
	ReasonCode       AbuseType
	Note             string // UTF-8, may be empty
	Messages         []AbusiveMessage
	Extensions       mls.AppDataDictionary
}

// Marshal returns the encoding.
func (a *AbuseReport) Marshal() []byte {
	b := append(a.AllegedAbuserURI.append(a.ReportingUser.append(nil)), byte(a.ReasonCode))
	b = tlspl.AppendVector(appendText(b, a.Note), func(b []byte) []byte {
		for i := range a.Messages {
			b = a.Messages[i].append(b)
		}
		return b
	})
	return append(b, a.Extensions.Marshal()...)
}

// ReceivedAbuseReport is a report as it came, before anything was checked but its encoding.
type ReceivedAbuseReport struct{ report AbuseReport }

// UnmarshalAbuseReport decodes a report.
func UnmarshalAbuseReport(b []byte) (*ReceivedAbuseReport, error) {
	r := tlspl.NewReader(b)
	a := AbuseReport{ReportingUser: readURI(r), AllegedAbuserURI: readURI(r), ReasonCode: AbuseType(r.Uint8()), Note: readText(r)}
	a.Messages = readVector(r, maxReported, -1, readAbusiveMessage)
	a.Extensions = readDictionary(r)
	if err := finish("AbuseReport", r); err != nil {
		return nil, err
	}
	return &ReceivedAbuseReport{a}, nil
}

// Marshal returns the bytes that were decoded.
func (a *ReceivedAbuseReport) Marshal() []byte { return a.report.Marshal() }

// Check demands a reporter of the sending provider, or none, and a user who is reported. The franks are verified by the
// caller, who knows the hub's keys.
func (a *ReceivedAbuseReport) Check(sender string) (*AbuseReport, error) {
	if a.report.ReportingUser != "" {
		if err := checkURIOf("reportingUser", a.report.ReportingUser, sender, KindUser, KindPseudonym); err != nil {
			return nil, err
		}
	}
	if err := checkURI("allegedAbuserUri", a.report.AllegedAbuserURI, KindUser, KindPseudonym); err != nil {
		return nil, err
	}
	if !utf8.ValidString(a.report.Note) {
		return nil, malformed("note is not in UTF-8")
	}
	return &a.report, nil
}
