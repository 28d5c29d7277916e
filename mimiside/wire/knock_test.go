package wire

import (
	"errors"
	"testing"
)

func TestKnocks(t *testing.T) {
	q, err := UnmarshalKnockRequest(known(t, "knock_request"))
	if err != nil {
		t.Fatal(err)
	}
	asked, err := q.Check("b.example")
	if err != nil || *asked != (KnockRequest{KnockAsk, "mimi://b.example/u/bob", "let me in, "}) {
		t.Errorf("%+v, %v", asked, err)
	}
	if _, err := q.Check("a.example"); !errors.Is(err, ErrForbidden) {
		t.Errorf("a knock of somebody else's user: %v", err)
	}
	o, err := UnmarshalKnockOutcome(known(t, "knock_outcome"))
	if err != nil {
		t.Fatal(err)
	}
	told, err := o.Check("a.example", "b.example")
	if err != nil || *told != (KnockOutcome{"mimi://a.example/r/clubhouse", "mimi://b.example/u/bob", KnockAccepted}) {
		t.Errorf("%+v, %v", told, err)
	}
	for _, domains := range [][2]string{{"c.example", "b.example"}, {"a.example", "c.example"}} {
		if _, err := o.Check(domains[0], domains[1]); !errors.Is(err, ErrForbidden) {
			t.Errorf("an outcome from %s to %s: %v", domains[0], domains[1], err)
		}
	}
}

func FuzzWireKnock(f *testing.F) {
	fuzzStructs(f, func(v marshaler) {
		switch v := v.(type) {
		case *ReceivedKnockRequest:
			_, _ = v.Check("b.example")
		case *ReceivedKnockOutcome:
			_, _ = v.Check("a.example", "b.example")
		}
	}, "knock_request", "knock_response", "knock_outcome")
}
