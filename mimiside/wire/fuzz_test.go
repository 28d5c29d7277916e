package wire

import (
	"bytes"
	"testing"
)

// fuzzStructs demands of every decoder, for any input: no panic, what decodes encodes to the same bytes, and is refused
// with a byte after it. seeds are names of files in testdata, whose decoders are tried.
func fuzzStructs(f *testing.F, check func(marshaler), seeds ...string) {
	for _, s := range seeds {
		f.Add(known(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, s := range seeds {
			v, err := decoders[s](b)
			if err != nil {
				continue
			}
			if got := v.Marshal(); !bytes.Equal(got, b) {
				t.Fatalf("%s: %x became %x", s, b, got)
			}
			// The end of a request for another protocol is not known.
			q, ok := v.(*ReceivedKeyMaterialRequest)
			if _, err := decoders[s](append(bytes.Clone(b), 0)); err == nil && !(ok && q.protocol != ProtocolMLS10) {
				t.Fatalf("%s: %x passes with a byte after it", s, b)
			}
			check(v)
		}
	})
}

func FuzzWireUpdate(f *testing.F) {
	fuzzStructs(f, func(v marshaler) {
		if q, ok := v.(*ReceivedUpdateRequest); ok {
			_, _ = q.Check([]byte(testGroup))
		}
	}, "update_commit", "update_partial", "update_wrapped", "update_proposal", "update_response", "update_response_epoch", "update_response_invalid")
}

func FuzzWireSubmit(f *testing.F) {
	fuzzStructs(f, func(v marshaler) {
		if q, ok := v.(*ReceivedSubmitMessageRequest); ok {
			if s, err := q.Check("b.example"); err == nil {
				FrankingTagOf(s.Message.AuthenticatedData())
			}
		}
	}, "submit_request", "submit_response", "submit_response_old")
}

func FuzzWireNotify(f *testing.F) {
	fuzzStructs(f, func(v marshaler) {
		q := v.(*ReceivedNotify)
		q.Welcomes()
		_, _ = q.Check()
	}, "notify")
}

func FuzzWireKeyMaterial(f *testing.F) {
	request, err := UnmarshalKeyMaterialRequest(known(f, "key_material_request"))
	if err != nil {
		f.Fatal(err)
	}
	fuzzStructs(f, func(v marshaler) {
		switch v := v.(type) {
		case *ReceivedKeyMaterialRequest:
			_, _ = v.Check()
		case *ReceivedKeyMaterialResponse:
			_, _ = v.Check(&request.request)
		}
	}, "key_material_request", "key_material_response")
}

func FuzzWireGroupInfo(f *testing.F) {
	fuzzStructs(f, func(v marshaler) {
		if q, ok := v.(*ReceivedGroupInfoRequest); ok {
			_, _ = q.Check()
		}
	}, "group_info_request", "group_info_response", "group_info_refused", "group_info_tree")
}

func FuzzWireConsent(f *testing.F) {
	fuzzStructs(f, func(v marshaler) {
		e := v.(*ReceivedConsentEntry)
		_, _ = e.CheckRequest("a.example", "b.example")
		_, _ = e.CheckUpdate("b.example", "a.example")
	}, "consent_request", "consent_grant")
}

func FuzzWireIdentifier(f *testing.F) {
	fuzzStructs(f, func(v marshaler) {
		switch v := v.(type) {
		case *ReceivedIdentifierRequest:
			_, _ = v.Check()
		case *ReceivedIdentifierResponse:
			_, _ = v.Check("a.example")
		}
	}, "identifier_request", "identifier_response")
}

func FuzzWireReport(f *testing.F) {
	fuzzStructs(f, func(v marshaler) {
		report, err := v.(*ReceivedAbuseReport).Check("b.example")
		if err != nil {
			return
		}
		for i := range report.Messages { // the form in which messages are kept until they are reported
			b := report.Messages[i].Marshal()
			if m, err := UnmarshalAbusiveMessage(b); err != nil || !bytes.Equal(m.Marshal(), b) {
				f.Errorf("message %x: %v", b, err)
			}
		}
	}, "report")
}

// FuzzWireDirectoryJSON: what is read encodes to JSON that reads as the same, and every template expands to an https URL of
// its host.
func FuzzWireDirectoryJSON(f *testing.F) {
	f.Add(draftExample(f))
	f.Add([]byte(`{"notify":"https://a.example/n/{roomId}","mimi-bridge":{"version":1,"features":["bulk"]},"x":[[1]]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := UnmarshalDirectory(b)
		if err != nil {
			return
		}
		once := d.Marshal()
		again, err := UnmarshalDirectory(once)
		if err != nil {
			t.Fatalf("%s became %s: %v", b, once, err)
		}
		if twice := again.Marshal(); !bytes.Equal(once, twice) {
			t.Fatalf("%s became %s, then %s", b, once, twice)
		}
		for _, tmpl := range d.Endpoints {
			if _, err := CheckDownloadURL(tmpl.ExpandText("https://x.example/?#")); err != nil && bytes.IndexByte([]byte(tmpl.String()[8:]), ':') < 0 {
				t.Fatalf("%s expands to no URL: %v", tmpl, err)
			}
		}
	})
}
