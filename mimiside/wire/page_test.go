package wire

import (
	"errors"
	"testing"
)

func TestPagesOfAnIdentifierQuery(t *testing.T) {
	received, err := UnmarshalIdentifierRequest(known(t, "identifier_request_page"))
	if err != nil {
		t.Fatal(err)
	}
	q, err := received.Check()
	if err != nil {
		t.Fatal(err)
	}
	p, err := q.Page()
	if err != nil || p == nil || p.Limit != 20 || string(p.Cursor) != "\xc1\xc2\xc3" {
		t.Errorf("%+v, %v", p, err)
	}
	q.Extensions = q.Extensions.Set(ComponentPage, []byte{1})
	if _, err := q.Page(); !errors.Is(err, ErrMalformed) {
		t.Errorf("nonsense: %v", err)
	}
	for cursor, want := range map[string]bool{"": false, "x": true} {
		a := IdentifierResponse{}
		a.Extensions = a.Extensions.Set(ComponentPage, (&Page{Cursor: []byte(cursor)}).Marshal())
		if got := a.Page() != nil; got != want {
			t.Errorf("a next page after %q: %v", cursor, got)
		}
	}
	if (&IdentifierResponse{}).Page() != nil {
		t.Error("a next page of an answer that has none")
	}
}

func FuzzWirePage(f *testing.F) {
	fuzzStructs(f, func(v marshaler) {
		if q, ok := v.(*ReceivedIdentifierRequest); ok {
			if c, err := q.Check(); err == nil {
				_, _ = c.Page()
			}
		}
	}, "page", "identifier_request_page")
}
